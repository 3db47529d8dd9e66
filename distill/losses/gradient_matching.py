"""Gradient matching: edges of the prediction where the target has them, at several scales."""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from distill import alignment, masked


def gradient_matching(
    pred: Float[Tensor, "b h w"],
    target: Float[Tensor, "b h w"],
    valid: Bool[Tensor, "b h w"],
    *,
    scales: int = 4,
    trim: float = 0.0,
    region: int = 1,
    difference: Callable[..., tuple[Tensor, Tensor]] = alignment.normalised_difference,
    weight: Float[Tensor, "b h w"] | None = None,
) -> Float[Tensor, " b"]:
    """Multi-scale gradient difference, per sample. Li & Snavely 2018; Ranftl et al. 2020, eq. 11.

    Args:
        pred: disparity; scale and shift are removed as in the affine-invariant loss.
        target: disparity up to a positive scale and a shift.
        valid: pixels that count; a difference counts where both of its pixels do.
        scales: pyramid levels; level k keeps every 2**k-th pixel.
        trim: fraction of the valid pixels to leave out, as the affine-invariant loss does.
        region: likewise.
        difference: likewise.
        weight: of each pixel, >= 0, such as confidence; a difference has the smaller of its two.

    Returns:
        Sum over scales of the absolute differences over valid pairs, divided by that scale's valid
        pixels or their weight; 0 with a gradient of 0 where the sample does not have
        `masked.enough`, or nothing has a weight.

    Raises:
        ValueError: `scales` < 1, `trim` outside [0, 1), or `region` below 1.
    """
    if scales < 1:
        raise ValueError(f"gradient_matching: scales is {scales}; it must be at least 1")
    if not 0 <= trim < 1:
        raise ValueError(f"gradient_matching: trim is {trim}; it must lie in [0, 1)")
    maps, counted = difference(pred, target, valid)
    if trim:
        counted = masked.smallest_squares(maps.abs(), counted, 1 - trim, side=region)
    weight = counted.to(maps.dtype) if weight is None else masked.fill(weight, counted)
    levels = [_level(maps, weight)]
    for _ in range(scales - 1):
        maps, weight = maps[:, ::2, ::2], weight[:, ::2, ::2]
        levels.append(_level(maps, weight))
    return torch.stack(levels).sum(dim=0)


def _level(difference: Tensor, weight: Tensor) -> Tensor:
    """Of one scale; `difference` is finite where nothing has a weight, too."""
    across = (difference[:, :, 1:] - difference[:, :, :-1]).abs()
    down = (difference[:, 1:] - difference[:, :-1]).abs()
    total = _sum(across * torch.minimum(weight[:, :, 1:], weight[:, :, :-1]))
    total = total + _sum(down * torch.minimum(weight[:, 1:], weight[:, :-1]))
    whole = _sum(weight)
    return total / torch.where(whole > 0, whole, 1.0)


def _sum(values: Tensor) -> Tensor:
    return values.flatten(1).sum(dim=1)
