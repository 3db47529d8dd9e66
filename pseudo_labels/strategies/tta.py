"""Test-time augmentation: ask the teacher more than once and see whether it agrees with itself."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from distill import masked
from pseudo_labels.predictor import Answer, Predictor, only
from pseudo_labels.strategies.plain import Plain


class Flip(Plain):
    """The mean of the map of an image and the mirrored map of its mirror image.

    Both passes come from one network and one preprocessing, so they share scale and shift.
    """

    def ask(self, views: Sequence[Float[Tensor, "b 3 h w"]]) -> Answer:
        """Mean maps, the confidence of each pixel and the agreement "flip" of each image."""
        (pixels,) = views
        straight = self.teacher.predict_network(pixels).float()
        mirrored = self.teacher.predict_network(pixels.flip(-1)).float().flip(-1)
        pixelwise, whole = flip_agreement(straight, mirrored)
        mean = (straight + mirrored) / 2
        return Answer(values=mean, confidence=pixelwise, agreement={"flip": whole})


def flip(teachers: Sequence[Predictor]) -> Flip:
    """Ask the one teacher twice.

    Raises:
        ValueError: there are several.
    """
    return Flip(only(teachers, "flip"))


def flip_agreement(
    straight: Float[Tensor, "b h w"], mirrored: Float[Tensor, "b h w"]
) -> tuple[Float[Tensor, "b h w"], Float[Tensor, " b"]]:
    """`1 / (1 + |straight - mirrored| / s)` of each pixel; of each image with the mean difference.

    `s` is the mean absolute deviation of the mean map from its median (`masked.mad`), so
    the numbers are the same whatever the scale and shift of the two maps. Two equal maps give 1,
    two that differ by as much as the scene itself varies 1/2. A constant map, which agrees with
    anything, gives 0; so does one that is not finite.
    """
    mean = (straight + mirrored) / 2
    finite = torch.isfinite(mean)
    spread = masked.mad(mean.nan_to_num(), finite)
    difference = (straight - mirrored).abs().nan_to_num()
    usable = finite.all(dim=2).all(dim=1) & (spread > 0)
    spread = torch.where(usable, spread, 0.0)
    safe = spread[:, None, None]
    pixelwise = torch.where(safe > 0, safe / (safe + difference), 0.0)
    whole = torch.where(usable, spread / (spread + difference.mean(dim=(1, 2))), 0.0)
    return pixelwise, whole
