"""What removes an unknown scale and shift: `aligned = scale * pred + shift`, per sample."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from distill import masked


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


def median_mad(
    values: Float[Tensor, "b h w"], valid: Bool[Tensor, "b h w"]
) -> tuple[Float[Tensor, " b"], Float[Tensor, " b"]]:
    """Location and scale of a map: median and mean absolute deviation, at least `masked.EPS`.

    Yang et al. 2024 (Depth Anything), section 3.1. Gradients flow through both.
    """
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
    location, scale = median_mad(target, valid)
    counted = valid & masked.enough(target, valid, scale)[:, None, None]
    pred_hat = _normalised(pred, counted, *median_mad(pred, counted))
    return pred_hat - _normalised(target, counted, location, scale), counted


def _normalised(values: Tensor, valid: Tensor, location: Tensor, scale: Tensor) -> Tensor:
    centred = masked.full_precision(values) - location[:, None, None]
    return masked.fill(centred, valid) / scale[:, None, None]
