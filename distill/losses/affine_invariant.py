"""Affine-invariant loss: absolute difference of the normalised maps, the largest part left out."""

from jaxtyping import Bool, Float
from torch import Tensor

from distill import alignment, masked


def affine_invariant(
    pred: Float[Tensor, "b h w"],
    target: Float[Tensor, "b h w"],
    valid: Bool[Tensor, "b h w"],
    *,
    trim: float = 0.0,
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

    Returns:
        Mean over the `floor((1 - trim) * M)` pixels that are kept; those equal to the largest kept
        one stay too, so of equal differences none is left out. 0 with a gradient of 0 where the
        sample does not have `masked.enough`.

    Raises:
        ValueError: `trim` outside [0, 1).
    """
    if not 0 <= trim < 1:
        raise ValueError(f"affine_invariant: trim is {trim}; it must lie in [0, 1)")
    difference, counted = alignment.normalised_difference(pred, target, valid)
    residual = difference.abs()
    kept = masked.smallest(residual, counted, 1 - trim) if trim else counted
    return masked.mean(residual, kept)
