"""Affine-invariant loss: absolute difference of the normalised maps, the largest part left out."""

from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from distill import alignment, masked


def affine_invariant(
    pred: Float[Tensor, "b h w"],
    target: Float[Tensor, "b h w"],
    valid: Bool[Tensor, "b h w"],
    *,
    trim: float = 0.0,
    region: int = 1,
    divide_by: Literal["kept", "valid"] = "kept",
    difference: Callable[..., tuple[Tensor, Tensor]] = alignment.normalised_difference,
    squared: bool = False,
    weight: Float[Tensor, "b h w"] | None = None,
) -> Float[Tensor, " b"]:
    """Mean absolute difference up to scale and shift, per sample. Yang et al. 2024, section 3.1.

    The trimming is that of Yang et al. 2024b (Depth Anything V2), section 5.2, on pixels: of each
    sample the `trim` pixels with the largest difference are left out. Which ones is decided without
    a gradient, after the medians and deviations are taken from all valid pixels.

    Args:
        pred: disparity up to a positive scale and a shift.
        target: disparity up to a positive scale and a shift.
        valid: pixels that count.
        trim: fraction of the valid pixels to leave out.
        region: side of the squares that are left out whole, by their mean difference; 1: pixels.
        divide_by: the sum over the kept pixels is divided by their number (V2 issue 108) or by that
            of all valid ones (Ranftl et al. 2020).
        difference: what removes scale and shift; with `alignment.least_squares_difference` and
            `squared` the loss is twice that of Ranftl et al. 2020, equation 4.
        squared: take the square of the difference instead of its size.
        weight: of each pixel in the mean, >= 0, such as confidence. Statistics and trimming stay
            those of all valid pixels: what is far off is left out however sure its maker was.

    Returns:
        Mean, weighted if asked, over the `floor((1 - trim) * M)` pixels that are kept; those equal
        to the largest kept one stay too, so of equal differences none is left out. 0 with a
        gradient of 0 where the sample does not have `masked.enough`, or nothing kept has a weight.

    Raises:
        ValueError: `trim` outside [0, 1), `region` below 1, or `weight` with `divide_by="valid"`.
    """
    if not 0 <= trim < 1:
        raise ValueError(f"affine_invariant: trim is {trim}; it must lie in [0, 1)")
    if weight is not None and divide_by == "valid":
        raise ValueError("affine_invariant: a weighted mean is divided by the weight of the kept")
    signed, counted = difference(pred, target, valid)
    residual = signed**2 if squared else signed.abs()
    kept = masked.smallest_squares(residual, counted, 1 - trim, side=region) if trim else counted
    if divide_by == "valid":
        return masked.mean(masked.fill(residual, kept), counted)
    if weight is None:
        return masked.mean(residual, kept)
    weight = masked.fill(weight, kept)
    total = masked.mean(weight, kept)
    return masked.mean(weight * residual, kept) / torch.where(total > 0, total, 1.0)
