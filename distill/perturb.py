"""What makes a student's image harder than its teacher's: colour, blur, CutMix.

Yang et al. 2024 (Depth Anything V1), section 3.2; the strengths are those of UniMatch's data
pipeline, which the authors name as theirs (V1 issue 240). The target never changes.
"""

import math
import os
from dataclasses import dataclass, replace
from typing import Annotated

os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # or it asks the network for its latest version

import numpy as np
import torch
from albumentations import ColorJitter, GaussianBlur, ToGray
from albumentations.augmentations.blur.functional import create_gaussian_kernel_1d
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from distill.types import Sample

_UNIMATCH = "UniMatch, named in V1 issue 240"
# only their `apply` is called, which draws nothing and keeps nothing
_JITTER, _GREY, _BLUR = ColorJitter(), ToGray(), GaussianBlur()


@dataclass(frozen=True, kw_only=True)
class Perturbation:
    """Colour jitter, then greyscale, then Gaussian blur, each with its probability.

    Every call takes the same number of draws from the generator, so switching one part off leaves
    the others as they were.

    Attributes:
        jitter_p: probability of the colour jitter, whose four parts come in random order.
        brightness: factor drawn from 1 - this ... 1 + this.
        contrast: the same, towards the mean grey.
        saturation: the same, towards each pixel's grey.
        hue: turn of the colour circle drawn from -this ... this; 0.5 is half a turn.
        grayscale_p: probability that the colours go altogether.
        blur_p: probability of the blur.
        blur_sigma: standard deviation of the blur in pixels, smallest and largest.

    Raises:
        ValueError: a field is out of its range.
    """

    jitter_p: Annotated[float, _UNIMATCH] = 0.8
    brightness: Annotated[float, _UNIMATCH] = 0.5
    contrast: Annotated[float, _UNIMATCH] = 0.5
    saturation: Annotated[float, _UNIMATCH] = 0.5
    hue: Annotated[float, _UNIMATCH] = 0.25
    grayscale_p: Annotated[float, _UNIMATCH, "0: V1 names jitter and blur alone"] = 0.2
    blur_p: Annotated[float, _UNIMATCH] = 0.5
    blur_sigma: Annotated[tuple[float, float], _UNIMATCH] = (0.1, 2.0)

    def __post_init__(self) -> None:
        bounds = {"hue": 0.5}
        for name, value in vars(self).items():
            limit = bounds.get(name, 1.0)
            if name != "blur_sigma" and not 0 <= value <= limit:
                raise ValueError(f"perturbation: {name} is {value}; it must lie in [0, {limit}]")
        if not 0 < self.blur_sigma[0] <= self.blur_sigma[1] < math.inf:
            raise ValueError(
                f"perturbation: blur_sigma is {self.blur_sigma}; give the smallest and the largest "
                "standard deviation, both above 0"
            )

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """The sample with its image perturbed; everything random is drawn from `rng`."""
        jitters, greys, blurs = rng.random(3) < (self.jitter_p, self.grayscale_p, self.blur_p)
        ranges = np.array([self.brightness, self.contrast, self.saturation, self.hue])
        amounts = np.array([1, 1, 1, 0]) + rng.uniform(-ranges, ranges)
        order = rng.permutation(4)
        sigma = rng.uniform(*self.blur_sigma)
        pixels = np.ascontiguousarray(sample.image.permute(1, 2, 0).numpy())
        if jitters:
            pixels = _JITTER.apply(pixels, *amounts.tolist(), order=order.tolist())
        if greys:
            pixels = _GREY.apply(pixels, num_output_channels=3)
        if blurs:
            pixels = _BLUR.apply(pixels, create_gaussian_kernel_1d(sigma))
        image = torch.from_numpy(pixels).permute(2, 0, 1).clamp(0, 1).contiguous()
        return replace(sample, image=image)


@dataclass(frozen=True)
class CutMix:
    """Images that hold a box of another image each.

    Attributes:
        image: the mixed images.
        mask: True in the box, where a pixel comes from the partner.
        partner: index of the image each box comes from.
        boxes: how many images got one, known to the host.
    """

    image: Float[Tensor, "b 3 h w"]
    mask: Bool[Tensor, "b h w"]
    partner: Int64[Tensor, " b"]
    boxes: int


def cutmix(
    image: Float[Tensor, "b 3 h w"],
    generator: torch.Generator,
    *,
    p: float = 0.5,
    area: tuple[float, float] = (0.02, 0.4),
    ratio: float = 0.3,
) -> CutMix:
    """A box of each image replaced by the same box of another. Yang et al. 2024 (V1), section 3.2.

    The partner is the batch reversed; the middle image of an odd batch is its own. Boxes are drawn
    as `obtain_cutmix_box` of UniMatch says: area and side ratio uniformly, then ratio and place
    again until the box lies inside.

    Args:
        image: the batch, colours already perturbed.
        generator: on the CPU, where the boxes are drawn.
        p: probability that an image gets a box.
        area: smallest and largest share of the image.
        ratio: smallest height by width, as shares of the image's; the largest is its inverse.

    Raises:
        ValueError: an argument is out of its range.
    """
    if not (0 <= p <= 1 and 0 < area[0] <= area[1] <= 0.5 and 0.1 <= ratio <= 1):
        raise ValueError(
            f"cutmix: p {p}, area {area}, ratio {ratio}; p must lie in [0, 1], the areas in "
            "(0, 0.5] and in order, and ratio in [0.1, 1]"
        )
    count, _, height, width = image.shape
    boxes = [_box(height, width, generator, p, area, ratio) for _ in range(count)]
    top, left, bottom, right = torch.tensor(boxes).to(image.device, non_blocking=True).T[..., None]
    rows = torch.arange(height, device=image.device)
    columns = torch.arange(width, device=image.device)
    beside = (left <= columns) & (columns < right)
    mask = ((top <= rows) & (rows < bottom))[:, :, None] & beside[:, None]
    partner = torch.arange(count - 1, -1, -1, device=image.device)
    mixed = torch.where(mask[:, None], image.flip(0), image)
    return CutMix(mixed, mask, partner, sum(box[2] > box[0] for box in boxes))


def _box(
    height: int,
    width: int,
    generator: torch.Generator,
    p: float,
    area: tuple[float, float],
    ratio: float,
) -> tuple[int, int, int, int]:
    """Top, left, bottom and right of a box inside the image; empty with probability 1 - p."""

    def draw(count: int) -> list[float]:
        return torch.rand(count, generator=generator, dtype=torch.float64).tolist()

    chance, size = draw(2)
    share = area[0] + size * (area[1] - area[0])
    while chance < p:
        slant, top, left = draw(3)
        slant = ratio + slant * (1 / ratio - ratio)
        tall, wide = height * math.sqrt(share * slant), width * math.sqrt(share / slant)
        box = int(top * height), int(left * width), int(tall), int(wide)
        if box[0] + box[2] <= height and box[1] + box[3] <= width:
            return box[0], box[1], box[0] + box[2], box[1] + box[3]
    return 0, 0, 0, 0
