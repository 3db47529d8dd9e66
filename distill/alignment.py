"""What removes an unknown scale and shift: `aligned = scale * pred + shift`, per sample."""

import contextlib
import math
from collections.abc import Callable, Generator
from contextvars import ContextVar
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from distill import masked

_known: ContextVar[dict[Any, Any] | None] = ContextVar("_known", default=None)


def least_squares(
    pred: Float[Tensor, "b h w"], target: Float[Tensor, "b h w"], valid: Bool[Tensor, "b h w"]
) -> tuple[Float[Tensor, " b"], Float[Tensor, " b"]]:
    """Scale and shift that minimise the squared distance of the valid pixels. Ranftl et al. 2020.

    Computed around the means, so that a large common offset costs no digits.

    Returns:
        Scale and shift in float64. A constant `pred` (spread below 1e-6 of its size) gives scale 0
        and the mean of `target`; nothing valid gives 0 and 0.
    """
    pred, target = pred.double(), target.double()
    pred_mean, target_mean = masked.mean(pred, valid), masked.mean(target, valid)
    centred = pred - pred_mean[:, None, None]
    variance = masked.mean(centred**2, valid)
    covariance = masked.mean(centred * (target - target_mean[:, None, None]), valid)
    constant = variance <= 1e-12 * masked.mean(pred**2, valid)
    scale = torch.where(constant, 0.0, covariance / torch.where(constant, 1.0, variance))
    return scale, target_mean - scale * pred_mean


def least_squares_scale(
    pred: Float[Tensor, "b h w"], target: Float[Tensor, "b h w"], valid: Bool[Tensor, "b h w"]
) -> Float[Tensor, " b"]:
    """Scale alone that minimises the squared distance of the valid pixels, in float64.

    0 where `pred` is 0 on every valid pixel.
    """
    pred, target = pred.double(), target.double()
    power = masked.mean(pred**2, valid)
    return masked.mean(pred * target, valid) / torch.where(power > 0, power, 1.0)


def ratio_of_medians(
    pred: Float[Tensor, "b h w"], target: Float[Tensor, "b h w"], valid: Bool[Tensor, "b h w"]
) -> Float[Tensor, " b"]:
    """Scale `median(target) / median(pred)` in float64, without a gradient. Zhou et al. 2017.

    The medians are NumPy's, the mean of the two middle pixels of an even number: published tables
    use them. 0 where the median of `pred` is not above 0: no scale could make such a map right.
    """
    middle = masked.quantile(pred.double(), valid, 0.5)
    positive = middle > 0
    ratio = masked.quantile(target.double(), valid, 0.5) / torch.where(positive, middle, 1.0)
    return torch.where(positive, ratio, 0.0)


def median_of_ratios(
    pred: Float[Tensor, "b h w"], target: Float[Tensor, "b h w"], valid: Bool[Tensor, "b h w"]
) -> Float[Tensor, " b"]:
    """Scale `median(target / pred)` in float64, without a gradient: not the ratio of the medians.

    0 where half of the valid pixels of `pred` are 0, or the median is not above 0.
    """
    pred = pred.double()
    ratio = torch.where(pred != 0, target.double() / torch.where(pred != 0, pred, 1.0), torch.inf)
    middle = masked.quantile(ratio, valid, 0.5)
    return torch.where((middle > 0) & middle.isfinite(), middle, 0.0)


def weighted_l1_scale(
    pred: Float[Tensor, "b h w"],
    target: Float[Tensor, "b h w"],
    valid: Bool[Tensor, "b h w"],
    weight: Float[Tensor, "b h w"],
) -> Float[Tensor, " b"]:
    """Scale that minimises the weighted absolute distance, in float64, exactly.

    The weighted median of `target / pred`, each ratio weighing `weight * |pred|`. Of several
    minima the smallest; 0 where `pred` is 0 on every valid pixel.
    """
    x, y, w = (masked.fill(m.double(), valid).flatten(1) for m in (pred, target, weight))
    pull = (w * x).abs()
    ratio = torch.where(pull > 0, y / torch.where(x != 0, x, 1.0), 0.0)
    return torch.stack([_weighted_median(r, p) for r, p in zip(ratio, pull, strict=True)])


def weighted_l1(
    pred: Float[Tensor, "b h w"],
    target: Float[Tensor, "b h w"],
    valid: Bool[Tensor, "b h w"],
    weight: Float[Tensor, "b h w"],
) -> tuple[Float[Tensor, " b"], Float[Tensor, " b"]]:
    """Scale and shift that minimise the weighted absolute distance, in float64, to rounding.

    For a given scale the best shift is a weighted median; what remains is convex and piecewise
    linear in the scale. Its minimum is closed in on by tangents and halving: O(n log n) a step.

    Returns:
        Scale and shift. A constant `pred` gives scale 0 and the weighted median of `target`;
        nothing valid gives 0 and 0.
    """
    lines = [
        _l1_line(*(values[inside].double() for values in (x, y, w)))
        for x, y, w, inside in zip(pred, target, weight, valid & (weight > 0), strict=True)
    ]
    found = torch.tensor(lines, dtype=torch.float64, device=pred.device)
    return found[:, 0], found[:, 1]


def median_mad(
    values: Float[Tensor, "b h w"], valid: Bool[Tensor, "b h w"]
) -> tuple[Float[Tensor, " b"], Float[Tensor, " b"]]:
    """Location and scale of a map: median and mean absolute deviation, at least `masked.EPS`.

    Yang et al. 2024 (Depth Anything), section 3.1. Gradients flow through both.
    """
    return _once(_median_mad, values, valid)


def _median_mad(values: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    location = masked.median(values, valid)
    return location, masked.mad(values, valid, location).clamp(min=masked.EPS)


def normalised_difference(
    pred: Float[Tensor, "b h w"], target: Float[Tensor, "b h w"], valid: Bool[Tensor, "b h w"]
) -> tuple[Float[Tensor, "b h w"], Bool[Tensor, "b h w"]]:
    """`pred - target` after each is brought to median 0 and mean absolute deviation 1.

    Yang et al. 2024 (Depth Anything), section 3.1, statistics over the valid pixels only.

    Returns:
        The difference, 0 where it does not count, and where it counts: the valid pixels of the
        samples that have `masked.enough` of them.
    """
    return _once(_normalised_difference, pred, target, valid)


@contextlib.contextmanager
def computed_once() -> Generator[None]:
    """Within it `median_mad` and `normalised_difference` of the same tensors are computed once.

    The same objects, that is; none of them may be written to before the block ends.
    """
    token = _known.set({})
    try:
        yield
    finally:
        _known.reset(token)


def _once(compute: Callable[..., Any], *maps: Tensor) -> Any:
    """What `compute` says of `maps`."""
    known = _known.get()
    if known is None:
        return compute(*maps)
    place = (compute, *map(id, maps))
    if place not in known:
        known[place] = maps, compute(*maps)  # with the maps, or their ids might become others'
    return known[place][1]


def _normalised_difference(
    pred: Tensor, target: Tensor, valid: Tensor
) -> tuple[Float[Tensor, "b h w"], Bool[Tensor, "b h w"]]:
    location, scale = median_mad(target, valid)
    counted = valid & masked.enough(target, valid, scale)[:, None, None]
    # centred once, for its deviation and for itself
    pred_hat = masked.full_precision(pred) - masked.median(pred, counted)[:, None, None]
    pred_hat = masked.fill(pred_hat, counted)
    size = pred_hat.abs().flatten(1).sum(dim=1) / masked.count(counted).clamp(min=1)
    pred_hat = pred_hat * size.clamp(min=masked.EPS).reciprocal()[:, None, None]
    target_hat = (masked.full_precision(target) - location[:, None, None]) / scale[:, None, None]
    return pred_hat - masked.fill(target_hat, counted), counted


def least_squares_difference(
    pred: Float[Tensor, "b h w"], target: Float[Tensor, "b h w"], valid: Bool[Tensor, "b h w"]
) -> tuple[Float[Tensor, "b h w"], Bool[Tensor, "b h w"]]:
    """`scale * pred + shift - target`, the target brought to 0 ... 1, the fit by least squares.

    Ranftl et al. 2020, equation 4, with the targets of Yang et al. 2024, section 3.1. The fit may
    take a negative scale: a map that is near where it should be far is no worse. Gradients flow
    through scale and shift.

    Returns:
        As `normalised_difference`.
    """
    counted = valid & masked.enough(target, valid)[:, None, None]
    low = masked.fill(target, counted, torch.inf).flatten(1).amin(1)[:, None, None]
    high = masked.fill(target, counted, -torch.inf).flatten(1).amax(1)[:, None, None]
    target = (masked.fill(target, counted) - low) / torch.where(high > low, high - low, 1.0)
    target, pred = masked.fill(target, counted), masked.fill(pred, counted)
    scale, shift = (x.to(pred.dtype)[:, None, None] for x in least_squares(pred, target, counted))
    return masked.fill(scale * pred + shift - target, counted), counted


def _weighted_median(values: Float[Tensor, " n"], weight: Float[Tensor, " n"]) -> Float[Tensor, ""]:
    """The smallest value with at least half of the weight at or below it; 0 without weight."""
    ranked, order = values.sort()
    below = weight[order].cumsum(0)
    if not len(values) or below[-1] <= 0:
        return values.new_zeros(())
    return ranked[torch.searchsorted(below, below[-1] / 2)]


def _l1_line(
    x: Float[Tensor, " n"], y: Float[Tensor, " n"], w: Float[Tensor, " n"]
) -> tuple[float, float]:
    """Scale and shift of one sample; every weight is above 0."""
    x0, y0 = _weighted_median(x, w), _weighted_median(y, w)
    x, y, size = x - x0, y - y0, x.abs().amax() if len(x) else x.sum()

    def at(scale: float) -> tuple[float, float, float]:
        """The distance at the best shift, its slope in the scale, and that shift."""
        rest = y - scale * x
        shift = _weighted_median(rest, w)
        side = (rest - shift).sign()
        on_line = side == 0
        side[on_line] = -(w * side).sum() / w[on_line].sum()  # what makes the shift a minimum
        distance = (w * (rest - shift).abs()).sum()
        return distance.item(), -(w * x * side).sum().item(), shift.item()

    if not len(x) or x.abs().amax() <= 1e-6 * size:
        return 0.0, y0.item()
    scale = _minimum(at, (w * y.abs()).sum().item() / (w * x.abs()).sum().item())
    return scale, (y0 + at(scale)[2] - scale * x0).item()


def _minimum(at: Callable[[float], tuple[float, float, float]], step: float) -> float:
    """Where a convex piecewise linear function is least; `at` gives value, slope, and more."""
    value, slope, _ = at(0.0)
    if slope == 0 or step == 0:
        return 0.0
    low = high = (0.0, value, slope)
    while low[2] > 0 or high[2] < 0:
        near = low if slope > 0 else high
        place = near[0] - math.copysign(step, slope)
        low, high = ((place, *at(place)[:2]), low) if slope > 0 else (high, (place, *at(place)[:2]))
        step *= 2
    for count in range(400):  # halving alone needs about 60 for each of the two ends
        (a, value_a, slope_a), (b, value_b, slope_b) = low, high
        crossing = (value_b - value_a + slope_a * a - slope_b * b) / (slope_a - slope_b)
        place = (a + b) / 2 if count % 2 else crossing
        if slope_a == 0 or slope_b == 0 or not a < place < b:
            break
        value, slope, _ = at(place)
        reached = value_a + slope_a * (place - a)  # no scale is better where the tangents cross
        if slope == 0 or (not count % 2 and value <= reached * (1 + 1e-15)):
            return place
        low, high = ((place, value, slope), high) if slope < 0 else (low, (place, value, slope))
    return min(low, high, key=lambda end: end[1])[0]
