"""Absolute difference of maps that are normalised in each of several ranges of depth."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from distill import alignment, masked


def context_normalised(
    pred: Float[Tensor, "b h w"],
    target: Float[Tensor, "b h w"],
    valid: Bool[Tensor, "b h w"],
    *,
    levels: tuple[int, ...] = (1, 2, 4),
) -> Float[Tensor, " b"]:
    """Mean difference up to a scale and shift of each context, per sample.

    He et al. 2025 (Distill-Any-Depth), section 3, after Zhang et al. 2022 (HDN), contexts by
    depth range: a level of S splits the range of the target into S equal segments, and the pixels
    of a segment are normalised, in both maps, by their own median and mean absolute deviation. The
    paper's global is `levels=(1,)`, which is `affine_invariant`; hybrid (1, 2, 4); local (4,); and
    `levels=()` its none, the difference as it is.

    Unlike HDN's code, the largest target is in the last segment; the deviation is divided by the
    number of pixels, not one more; and a segment that says too little (`masked.enough`), an empty
    one too, is no context at all instead of one that is normalised by nothing.

    Args:
        pred: disparity up to a positive scale and a shift.
        target: disparity up to a positive scale and a shift; its range alone makes the segments.
        valid: pixels that count.
        levels: segments of each level.

    Returns:
        Mean over the pixels of the mean over their contexts, of which a level has at most one for
        each; pixels without a context do not count. 0 with a gradient of 0 where no context says
        enough.

    Raises:
        ValueError: a level below 1.
    """
    if any(level < 1 for level in levels):
        raise ValueError(f"context_normalised: levels {levels}; each must be at least 1")
    if not levels:
        counted = valid & masked.enough(target, valid)[:, None, None]
        difference = masked.fill(pred, counted) - masked.fill(target, counted)
        return masked.mean(difference.abs(), counted)
    place = _place(target, valid)
    total, contexts = torch.zeros_like(place), torch.zeros_like(place)
    for level in levels:
        segment = (place * level).floor().clamp(max=level - 1)
        for number in range(level):
            difference, counted = alignment.normalised_difference(
                pred, target, valid & (segment == number)
            )
            total = total + difference.abs()
            contexts = contexts + counted
    return masked.mean(total / contexts.clamp(min=1), contexts > 0)


def _place(target: Tensor, valid: Tensor) -> Float[Tensor, "b h w"]:
    """Where in the range of the valid targets each lies, 0 to 1; 0 outside and without a range."""
    low = masked.fill(target, valid, torch.inf).flatten(1).amin(1)[:, None, None]
    high = masked.fill(target, valid, -torch.inf).flatten(1).amax(1)[:, None, None]
    wide = high > low
    place = (masked.fill(target, valid) - low) / torch.where(wide, high - low, 1.0)
    return torch.where(valid & wide, place, 0.0).detach()
