"""Statistics over the valid pixels of each sample.

Everything is per sample: `(b, h, w)` in, `(b,)` out, without a loop over the batch and without
waiting for the device. What lies outside `valid` may be NaN or infinite and receives no gradient;
a sample with nothing valid gives 0 with a gradient of 0. Half precision is computed in float32.
"""

from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

EPS = 1e-6  # a mean absolute deviation below this is that of a constant map
MIN_PIXELS = 10  # fewer valid pixels than this do not make a sample


def fill(
    values: Float[Tensor, "b h w"], valid: Bool[Tensor, "b h w"], value: float = 0.0
) -> Float[Tensor, "b h w"]:
    """`values` in at least float32 with `value` where not `valid`."""
    return torch.where(valid, full_precision(values), value)


def count(valid: Bool[Tensor, "b h w"]) -> Int[Tensor, " b"]:
    """Number of valid pixels."""
    return valid.flatten(1).sum(dim=1, dtype=torch.int32).long()  # quicker than in int64


def mean(values: Float[Tensor, "b h w"], valid: Bool[Tensor, "b h w"]) -> Float[Tensor, " b"]:
    """Mean over the valid pixels; 0 where there are none."""
    return fill(values, valid).flatten(1).sum(dim=1) / count(valid).clamp(min=1)


def median(values: Float[Tensor, "b h w"], valid: Bool[Tensor, "b h w"]) -> Float[Tensor, " b"]:
    """Median over the valid pixels, the lower middle one of an even number; 0 where there are none.

    The gradient goes to the pixel that is the median.
    """
    counted = count(valid)
    if _selects(values):
        flat = fill(values, valid, torch.inf).flatten(1)
        (middle,) = _ranked(flat.detach(), (counted - 1).clamp(min=0) // 2)
        if flat.requires_grad:
            place = (flat.detach() == middle[:, None]).view(torch.uint8).argmax(dim=1, keepdim=True)
            middle = flat.gather(1, place)[:, 0]
    else:
        middle = fill(values, valid, torch.nan).flatten(1).nanmedian(dim=1).values
    return torch.where(counted > 0, middle, 0.0)


def mad(
    values: Float[Tensor, "b h w"],
    valid: Bool[Tensor, "b h w"],
    middle: Float[Tensor, " b"] | None = None,
) -> Float[Tensor, " b"]:
    """Mean absolute deviation from the median over the valid pixels; 0 where there are none.

    Args:
        values: to look at.
        valid: pixels that count.
        middle: the median, where it is known already.
    """
    middle = median(values, valid) if middle is None else middle
    return mean((full_precision(values) - middle[:, None, None]).abs(), valid)


@torch.no_grad()
def smallest(
    values: Float[Tensor, "b h w"], valid: Bool[Tensor, "b h w"], fraction: float
) -> Bool[Tensor, "b h w"]:
    """The `floor(fraction * M)` smallest of the M valid pixels, at least one, no gradient.

    Pixels equal to the last of them are in as well, so of a constant map all are.

    Raises:
        ValueError: `fraction` outside [0, 1].
    """
    if not 0 <= fraction <= 1:
        raise ValueError(f"smallest: fraction is {fraction}; it must lie in [0, 1]")
    kept = (fraction * count(valid).double() + 1e-6).long()  # 0.7 * 10 must not become 6
    (last,) = _ranked(fill(values, valid, torch.inf).flatten(1), (kept - 1).clamp(min=0))
    return valid & ~(values > last[:, None, None])


@torch.no_grad()
def smallest_squares(
    values: Float[Tensor, "b h w"], valid: Bool[Tensor, "b h w"], fraction: float, *, side: int
) -> Bool[Tensor, "b h w"]:
    """The valid pixels of those squares of `side` pixels whose mean is smallest, no gradient.

    As `smallest`, of the squares that have valid pixels instead of the pixels; those at the right
    and at the lower edge may be cut.

    Raises:
        ValueError: `fraction` outside [0, 1], or `side` below 1.
    """
    if side < 1:
        raise ValueError(f"smallest_squares: side is {side}; it must be at least 1")
    if side == 1:
        return smallest(values, valid, fraction)
    maps = torch.stack([fill(values, valid), full_precision(valid.float())], dim=1)
    summed, counted = avg_pool2d(maps, side, ceil_mode=True).unbind(dim=1)
    there = counted > 0
    kept = smallest(summed / torch.where(there, counted, 1.0), there, fraction)
    height, width = valid.shape[1:]
    pixels = kept.repeat_interleave(side, dim=1).repeat_interleave(side, dim=2)
    return valid & pixels[:, :height, :width]


@torch.no_grad()
def quantile(
    values: Float[Tensor, "b h w"], valid: Bool[Tensor, "b h w"], fraction: float
) -> Float[Tensor, " b"]:
    """Quantile over the valid pixels, linear between neighbours, in float64 and without a gradient.

    0 where nothing is valid.

    Raises:
        ValueError: `fraction` outside [0, 1].
    """
    if not 0 <= fraction <= 1:
        raise ValueError(f"quantile: fraction is {fraction}; it must lie in [0, 1]")
    place = fraction * (count(valid) - 1).clamp(min=0).double()
    flat = fill(values, valid, torch.inf).flatten(1)
    low, high = _ranked(flat, place.floor().long(), place.ceil().long())
    between = torch.lerp(low.double(), high.double(), place.frac())
    return torch.where(count(valid) > 0, between, 0.0)


def enough(
    target: Float[Tensor, "b h w"],
    valid: Bool[Tensor, "b h w"],
    deviation: Float[Tensor, " b"] | None = None,
) -> Bool[Tensor, " b"]:
    """Whether a sample says anything up to scale and shift: `MIN_PIXELS` valid and not constant.

    A sample that does not has a loss of 0; the objective leaves it out of the mean over samples.
    A NaN among the valid pixels counts as enough: it must reach the loss and stop the run.

    Args:
        target: to look at.
        valid: pixels that count.
        deviation: the `mad` of `target`, where it is known already.
    """
    deviation = mad(target, valid) if deviation is None else deviation
    return (count(valid) >= MIN_PIXELS) & ~(deviation <= EPS)


def full_precision(values: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """`values` in at least float32: what autocast made of them is too coarse for statistics."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def _selects(values: Tensor) -> bool:
    """Whether numbers are there to be selected by NumPy: not on a GPU, nor in a tensor's shadow."""
    return (
        values.device.type == "cpu" and type(values) in (Tensor, nn.Parameter) and len(values) > 0
    )


def _ranked(values: Float[Tensor, "b n"], *places: Int[Tensor, " b"]) -> list[Float[Tensor, " b"]]:
    """What stands at each of `places`, from 0, when each row is sorted.

    On a CPU NumPy selects it, without sorting. Elsewhere a place of its own for each row would have
    to be read back to the host.
    """
    if not _selects(values):
        ranked = values.sort(dim=1).values
        return [ranked.gather(1, place[:, None])[:, 0] for place in places]
    return [
        torch.stack([_nth(*row) for row in zip(values, place, strict=True)]) for place in places
    ]


def _nth(row: Float[Tensor, " n"], place: Int[Tensor, ""]) -> Float[Tensor, ""]:
    ranked: np.ndarray[Any, Any] = np.partition(row.numpy(), int(place))
    return torch.as_tensor(ranked[int(place)])
