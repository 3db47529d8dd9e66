"""Maps and images that are not worth a label: each check gives a reason or None."""

import torch
from jaxtyping import Float
from torch import Tensor

_CONSTANT = 1e-6  # of the largest magnitude
# A teacher of disparity learns 0 for sky (Yang et al. 2024a, section 3.1), and photographs can be
# all but sky. What is left at 518 pixels beside this share is 14 patches: nothing to learn from.
_ZEROS = 0.99


def map_defect(values: Float[Tensor, "h w"]) -> str | None:
    """Why `values` is no label: not finite, constant, or all but exactly zero."""
    finite = int(torch.isfinite(values).sum())
    if finite < values.numel():
        return f"{values.numel() - finite} of {values.numel()} predicted values are not finite"
    minimum, maximum = values.aminmax()
    if maximum - minimum <= _CONSTANT * max(abs(minimum), abs(maximum)):
        return f"the predicted map is constant, {float(minimum):.6g}"
    zeros = int((values == 0).sum())
    if zeros > _ZEROS * values.numel():
        return f"{zeros / values.numel():.1%} of the predicted map is exactly zero"
    return None


def image_defect(height: int, width: int, *, min_side: int, max_aspect: float) -> str | None:
    """Why an image of this size is not labelled: too small to tell, or a strip."""
    short, long = sorted((height, width))
    if short < min_side:
        return f"{width} x {height} pixels; the shorter side must be at least {min_side}"
    if long > max_aspect * short:
        return f"{width} x {height} pixels; at most {max_aspect:g} times as long as wide"
    return None
