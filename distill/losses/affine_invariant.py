"""Affine-invariant loss: absolute difference of the normalised maps, the largest part left out."""

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
        weight: of each pixel in the mean, >= 0, such as confidence. Statistics and trimming stay
            those of all valid pixels: what is far off is left out however sure its maker was.

    Returns:
        Mean, weighted if asked, over the `floor((1 - trim) * M)` pixels that are kept; those equal
        to the largest kept one stay too, so of equal differences none is left out. 0 with a
        gradient of 0 where the sample does not have `masked.enough`, or nothing kept has a weight.

    Raises:
        ValueError: `trim` outside [0, 1).
    """
    if not 0 <= trim < 1:
        raise ValueError(f"affine_invariant: trim is {trim}; it must lie in [0, 1)")
    difference, counted = alignment.normalised_difference(pred, target, valid)
    residual = difference.abs()
    kept = masked.smallest(residual, counted, 1 - trim) if trim else counted
    if weight is None:
        return masked.mean(residual, kept)
    weight = masked.fill(weight, kept)
    total = masked.mean(weight, kept)
    return masked.mean(weight * residual, kept) / torch.where(total > 0, total, 1.0)
