"""Test-time augmentation: ask the teacher more than once and see whether it agrees with itself."""

import torch
from jaxtyping import Float
from torch import Tensor

from distill import masked
from pseudo_labels.predictor import Predictor


def flip(
    predictor: Predictor, pixels: Float[Tensor, "b 3 h w"]
) -> tuple[Float[Tensor, "b h w"], Float[Tensor, " b"]]:
    """Mean of the map of an image and the mirrored map of its mirror image.

    Both passes come from one network and one preprocessing, so they share scale and shift.

    Args:
        predictor: the teacher.
        pixels: what its `prepare` made, one size.

    Returns:
        The mean maps, and the confidence `flip_agreement` of each.
    """
    straight = predictor.predict_network(pixels).float()
    mirrored = predictor.predict_network(pixels.flip(-1)).float().flip(-1)
    return (straight + mirrored) / 2, flip_agreement(straight, mirrored)


def flip_agreement(
    straight: Float[Tensor, "b h w"], mirrored: Float[Tensor, "b h w"]
) -> Float[Tensor, " b"]:
    """`1 / (1 + mean|straight - mirrored| / s)`, per image.

    `s` is the mean absolute deviation of the mean map from its median (`masked.mad`), so
    the number is the same whatever the scale and shift of the two maps. Two equal maps give 1, two
    that differ by as much as the scene itself varies 1/2. A constant map, which agrees with
    anything, gives 0; so does one that is not finite.
    """
    mean = (straight + mirrored) / 2
    finite = torch.isfinite(mean)
    spread = masked.mad(mean.nan_to_num(), finite)
    difference = (straight - mirrored).abs().nan_to_num().mean(dim=(1, 2))
    usable = finite.all(dim=2).all(dim=1) & (spread > 0)
    return torch.where(usable, spread / (spread + difference), 0.0)
