"""Scale-invariant logarithmic loss, for metric depth."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from distill import masked

_NEAREST = 1e-6  # metres; a sigmoid in half precision can reach 0


def silog(
    pred: Float[Tensor, "b h w"],
    target: Float[Tensor, "b h w"],
    valid: Bool[Tensor, "b h w"],
    *,
    variance_focus: float = 0.5,
) -> Float[Tensor, " b"]:
    """Root of the variance-focused squared log difference, per sample. Eigen et al. 2014, eq. 4.

    `sqrt(mean(g**2) - variance_focus * mean(g)**2)` with `g = log(target) - log(pred)`, in the form
    that cannot turn negative; the root as in Lee et al. 2019 (BTS), without their factor of 10.

    Args:
        pred: depth in metres; below 1e-6 it counts as that and receives no gradient.
        target: depth in metres.
        valid: pixels that count; `target` is above 0 there.
        variance_focus: 1 ignores a common factor altogether, 0 forgives none of it.

    Returns:
        The loss; 0 with a gradient of 0 at the optimum and where fewer than `masked.MIN_PIXELS`
        pixels are valid.

    Raises:
        ValueError: `variance_focus` outside [0, 1].
    """
    if not 0 <= variance_focus <= 1:
        raise ValueError(f"silog: variance_focus is {variance_focus}; it must lie in [0, 1]")
    valid = valid & (masked.count(valid) >= masked.MIN_PIXELS)[:, None, None]
    ratio = masked.fill(target, valid, 1.0).log() - _log(masked.fill(pred, valid, 1.0))
    mean = masked.mean(ratio, valid)
    variance = masked.mean((ratio - mean[:, None, None]) ** 2, valid)
    return _root(variance + (1 - variance_focus) * mean**2)


def _log(depth: Tensor) -> Tensor:
    return depth.clamp(min=_NEAREST).log()


def _root(square: Tensor) -> Tensor:
    """The root with a gradient of 0, not infinity, at 0."""
    positive = square > 0
    return torch.where(positive, torch.where(positive, square, 1.0).sqrt(), 0.0)
