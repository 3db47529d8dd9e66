"""Several maps of one image made into one, and where they disagree."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from distill import masked
from distill.geometry import to_space
from distill.labels.robust_fit import robust_fit, sampled
from distill.types import Space

_ROUNDS = 2  # of fitting to what the maps have in common
_NEAR, _NOTHING = 0.5, 0.9  # distances of maps (`robust_fit`) up to which, from which on
_DEPTHS = (Space.METRIC_DEPTH, Space.SCALE_INVARIANT_DEPTH, Space.AFFINE_DEPTH)
_INVERSES = (Space.METRIC_INVERSE_DEPTH, Space.SCALE_INVARIANT_DISPARITY, Space.AFFINE_DISPARITY)


@dataclass(frozen=True, kw_only=True)
class Fused:
    """One map for each image of a batch.

    Attributes:
        values: in `space`; NaN where no map has a value.
        space: what all the maps can be turned into.
        disagreement: of the maps at each pixel: their mean difference, over pairs, in units of the
            mean absolute deviation of `values`. Free of scale and shift.
        confidence: `1 / (1 + disagreement)` of each pixel, which is `spread / (spread +
            difference)`: 1 where all agree, 1/2 where they differ by as much as the scene varies. 0
            where fewer than two maps have a value, and where `values` is constant.
        agreement: of each image, the mean confidence.
        weights: of each map for each image, in [0, 1]: whether it is near half of the others.
        scale: that brought each map, in `space`, to `values`.
        shift: the same.
    """

    values: Float[Tensor, "b h w"]
    space: Space
    disagreement: Float[Tensor, "b h w"]
    confidence: Float[Tensor, "b h w"]
    agreement: Float[Tensor, " b"]
    weights: Float[Tensor, "k b"]
    scale: Float[Tensor, "k b"]
    shift: Float[Tensor, "k b"]


def common_space(spaces: Sequence[Space]) -> Space:
    """The strongest that all `spaces` can be turned into; inverse where one of them is.

    Raises:
        ValueError: there is none, or only their order is known.
    """
    if Space.ORDINAL in spaces:
        raise ValueError("ordinal maps cannot be fused: without a scale there is nothing to align")
    inverse = any(space.is_inverse for space in spaces)
    if inverse and Space.AFFINE_DEPTH in spaces:
        other = next(space for space in spaces if space.is_inverse)
        raise ValueError(
            f"{Space.AFFINE_DEPTH.value} cannot be fused with {other.value}: to invert a depth its "
            "shift must be known; fuse it with other depths, or leave this teacher out"
        )
    levels = [_INVERSES.index(s) if s.is_inverse else _DEPTHS.index(s) for s in spaces]
    return (_INVERSES if inverse else _DEPTHS)[max(levels)]


def fuse(
    maps: Sequence[Float[Tensor, "b h w"]],
    spaces: Sequence[Space],
    *,
    weights: Sequence[Float[Tensor, "b h w"] | None] | None = None,
) -> Fused:
    """The weighted median of the maps at each pixel, after each was brought to the others.

    The map nearest to all others is the first reference; then all are fitted to their median
    (`robust_fit`). So a minority of the maps, wrong in any way, leaves each pixel between the
    smallest and the largest value of the others. The order of the maps means nothing.

    The values are between 0 and 1 where a scale and a shift are unknown, at most 1 where a scale
    is, and as they are where nothing is: metric maps are not aligned.

    Args:
        maps: two or more, of one size; not finite where a map has no value.
        spaces: of each map; see `common_space`.
        weights: of each pixel of each map, above 0, such as what its maker is sure of.

    Raises:
        ValueError: fewer than two maps, their sizes differ, or `common_space` finds none.
    """
    if len(maps) < 2 or len(maps) != len(spaces) or len({map_.shape for map_ in maps}) > 1:
        shapes = [tuple(map_.shape) for map_ in maps]
        raise ValueError(
            f"fuse: maps {shapes} in {len(spaces)} spaces; give two or more of one size and a "
            "space for each"
        )
    space = common_space(spaces)
    values, valid = _converted(maps, spaces, space)
    scale, shift, weight = _aligned(sampled(values), sampled(valid), space)
    aligned = values * scale[..., None, None] + shift[..., None, None]
    trust = weight[..., None, None] * valid
    if weights is not None:
        sure = [torch.ones_like(maps[0]) if entry is None else entry for entry in weights]
        trust = trust * torch.stack(sure)
    fused = weighted_median(aligned, trust)
    factor, offset = _gauge(fused, space)
    lifted = fused * factor[:, None, None] + offset[:, None, None]
    disagreement, confidence, agreement = _agreement(
        aligned * factor[:, None, None], valid, lifted, trust.sum(0) > 0
    )
    return Fused(
        values=lifted,
        space=space,
        disagreement=disagreement,
        confidence=confidence,
        agreement=agreement,
        weights=weight,
        scale=scale * factor,
        shift=shift * factor + offset,
    )


def weighted_median(
    values: Float[Tensor, "k ..."], weight: Float[Tensor, "k ..."]
) -> Float[Tensor, "..."]:
    """Of the k values at each place, linear between neighbours; NaN where nothing has a weight.

    A value stands in the middle of its own share of the weight, and the median at the middle of the
    whole. Equal weights give the plain median, of an even number the mean of the middle two. Values
    of no weight may be anything.
    """
    ranked, order = torch.where(weight > 0, values, torch.inf).sort(dim=0)
    shares = weight.gather(0, order)
    total = shares.sum(0)
    place = (shares.cumsum(0) - shares / 2) / torch.where(total > 0, total, 1.0)
    upper = (place < 0.5).sum(0, keepdim=True).clamp(max=len(values) - 1)
    lower = (upper - 1).clamp(min=0)
    low, high = (ranked.gather(0, index)[0] for index in (lower, upper))
    left, right = (place.gather(0, index)[0] for index in (lower, upper))
    apart = right - left
    step = torch.where(apart > 0, (0.5 - left) / torch.where(apart > 0, apart, 1.0), 0.0)
    between = low + step.clamp(0, 1) * (high - low).nan_to_num(posinf=0.0)
    return torch.where(total > 0, between, torch.nan)


def _converted(
    maps: Sequence[Tensor], spaces: Sequence[Space], space: Space
) -> tuple[Float[Tensor, "k b h w"], Bool[Tensor, "k b h w"]]:
    """All maps in one space, 0 where they have no value."""
    pairs = [
        to_space(map_.float(), torch.isfinite(map_), None, source=source, target=space)
        for map_, source in zip(maps, spaces, strict=True)
    ]
    return torch.stack([v.nan_to_num() for v, _ in pairs]), torch.stack([ok for _, ok in pairs])


def _aligned(
    values: Float[Tensor, "k b p"], valid: Bool[Tensor, "k b p"], space: Space
) -> tuple[Float[Tensor, "k b"], Float[Tensor, "k b"], Float[Tensor, "k b"]]:
    """Scale and shift that bring each map to the others, and its weight; from a few pixels."""
    count, size, pixels = values.shape
    each_to_each = (count, count, size, pixels)
    pred, target = values[:, None].expand(each_to_each), values[None].expand(each_to_each)
    fit = robust_fit(
        pred.reshape(-1, pixels),
        target.reshape(-1, pixels),
        (valid[:, None] & valid[None]).reshape(-1, pixels),
        space=space,
    )
    scale, shift, distance = (
        part.view(count, count, size) for part in (fit.scale, fit.shift, fit.distance)
    )
    weight = _weights(distance)
    reference = distance.sum(0).argmin(0)[None, None].expand(count, 1, size)
    scale, shift = (m.gather(1, reference)[:, 0] for m in (scale, shift))
    for _ in range(_ROUNDS):
        moved = values * scale[..., None] + shift[..., None]
        common = weighted_median(moved, weight[..., None] * valid)
        both = valid & torch.isfinite(common)
        fit = robust_fit(
            values.reshape(-1, pixels),
            common.nan_to_num()[None].expand_as(values).reshape(-1, pixels),
            both.reshape(-1, pixels),
            space=space,
        )
        scale, shift = fit.scale.view(count, size), fit.shift.view(count, size)
    return scale, shift, weight


def _weights(distance: Float[Tensor, "k k b"]) -> Float[Tensor, "k b"]:
    """1 where half of the other maps are near, 0 where they have nothing in common with it.

    Flat where maps are good: unequal weights would let one map outvote two. All 1 where no map is
    near any.
    """
    ranked = ((distance + distance.transpose(0, 1)) / 2).sort(dim=1).values  # itself comes first
    far = ranked[:, len(distance) // 2]
    weight = ((_NOTHING - far) / (_NOTHING - _NEAR)).clamp(0, 1)
    return torch.where(weight.amax(0) > 0, weight, 1.0)


def _gauge(fused: Tensor, space: Space) -> tuple[Float[Tensor, " b"], Float[Tensor, " b"]]:
    """Factor and offset that make an arbitrary scale and shift the same for every order of maps."""
    flat = fused.flatten(1)
    known = torch.isfinite(flat)
    low = torch.where(known, flat, torch.inf).amin(1).nan_to_num(posinf=0.0)
    high = torch.where(known, flat, -torch.inf).amax(1).nan_to_num(neginf=0.0)
    if space in {Space.METRIC_DEPTH, Space.METRIC_INVERSE_DEPTH}:
        return torch.ones_like(low), torch.zeros_like(low)
    if space in {Space.SCALE_INVARIANT_DEPTH, Space.SCALE_INVARIANT_DISPARITY}:
        low = torch.zeros_like(low)
    factor = 1 / torch.where(high > low, high - low, 1.0)
    return factor, -low * factor


def _agreement(
    aligned: Float[Tensor, "k b h w"],
    valid: Bool[Tensor, "k b h w"],
    fused: Float[Tensor, "b h w"],
    known: Bool[Tensor, "b h w"],
) -> tuple[Float[Tensor, "b h w"], Float[Tensor, "b h w"], Float[Tensor, " b"]]:
    """Disagreement and confidence of each pixel, and the agreement of each image."""
    difference, pairs = torch.zeros_like(fused), torch.zeros_like(fused)
    for i, j in combinations(range(len(aligned)), 2):
        both = valid[i] & valid[j]
        difference += torch.where(both, (aligned[i] - aligned[j]).abs(), 0.0)
        pairs += both
    difference = difference / pairs.clamp(min=1)
    spread = masked.mad(fused, known)
    unit = torch.where(spread > 0, spread, torch.inf)[:, None, None]
    compared = (pairs > 0) & torch.isfinite(unit)
    disagreement = torch.where(compared, difference / unit, torch.inf)
    confidence = 1 / (1 + disagreement)
    return disagreement, confidence, masked.mean(confidence, known)
