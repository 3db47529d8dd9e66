"""What a network in training is watched by: its scores on held-out images, and a few pictures."""

import contextlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from distill import launch, transforms
from distill.evaluation.protocols import Alignment, Protocol
from distill.evaluation.rows import truth
from distill.evaluation.scoring import score
from distill.geometry import to_space
from distill.loading import Mixture, Transform, batches
from distill.types import Batch, Dataset, Prediction, Sample

PROTOCOL = Protocol(
    id="validation.disp.v1",
    dataset="held-out images of the training sets",
    alignment=Alignment.DISPARITY,
    floor="1/max",
    source="Fit as MiDaS, floor as MoGe. A house number to watch a run with.",
)
METRIC = Protocol(
    id="validation.depth.v1",
    dataset="held-out images of the training sets",
    alignment=Alignment.NONE,
    source="Metres as they are. A house number to watch a run with.",
)
_SHOWN = 4


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """AbsRel and δ1 of a student, under a protocol of this file.

    Attributes:
        open: builds the data set; its targets are metric depth.
        size: short side that the student sees, pixels.
        images: at most so many, spread evenly over the data set.
        protocol: of the scores; `METRIC` for a student that tells metres.

    Raises:
        ValueError: `size` or `images` is below 1.
    """

    open: Callable[[], Dataset]
    size: int = 518
    images: int = 100
    protocol: Protocol = PROTOCOL

    def __post_init__(self) -> None:
        if min(self.size, self.images) < 1:
            raise ValueError(f"HeldOut: size {self.size}, images {self.images}; both must be >= 1")

    def __call__(self, student: Any) -> dict[str, float]:
        """Mean over the images that have enough truth; nothing is said where none has.

        All processes of a launch call this, each scores its share of the images, and each gets
        the numbers that one alone would get.

        Raises:
            ValueError: the truth of an image is not metric depth, or it cannot be scored.
        """
        dataset = self.open()
        count = min(self.images, len(dataset))
        device = next(student.parameters()).device
        first, processes = launch.place()
        scored = []
        for number in range(first, count, processes):
            sample = dataset[number * len(dataset) // count]
            found = self._predicted(student, sample, device)
            scored.append((number, score(found, *truth(sample), self.protocol)))
        rows = [row for share in launch.told(scored) for row in share]
        in_order = [row for _, row in sorted(rows, key=lambda entry: entry[0])]
        measured = [row for row in in_order if "skipped" not in row["flags"]]
        return {
            name: math.fsum(row[name] for row in measured) / len(measured)
            for name in ("abs_rel", "delta1")
            if measured
        }

    def _predicted(self, student: Any, sample: Sample, device: torch.device) -> Prediction:
        """At the size of the truth."""
        full = (sample.image.shape[1], sample.image.shape[2])
        height, width = transforms.network_size(
            *full, short_side=self.size, multiple=student.multiple
        )
        image = transforms.resize(sample, height=height, width=width).image
        pred = student(image[None].to(device)).float()
        whole = functional.interpolate(pred[None], full, mode="bilinear", align_corners=True)
        return Prediction(values=whole[0, 0].cpu(), space=student.space)


@dataclass(frozen=True, kw_only=True)
class HeldOutLosses:
    """Losses of a student on held-out images, for truth of whatever kind its losses take.

    Attributes:
        open: builds the data set.
        losses: by name, of (pred, target, valid), one value per sample.
        transform: brings a sample to the form in which it is learned from, without chance.
        images: at most so many, spread evenly over the data set.
    """

    open: Callable[[], Dataset]
    losses: Mapping[str, Callable[..., Tensor]]
    transform: Callable[[Sample], Sample]
    images: int = 100

    def __call__(self, student: Any) -> dict[str, float]:
        """Mean of each loss over the images that have truth.

        Raises:
            ValueError: an image has no target, or one that the student's space cannot be made of.
        """
        dataset = self.open()
        count = min(self.images, len(dataset))
        first, processes = launch.place()
        scored = []
        for number in range(first, count, processes):
            sample = self.transform(dataset[number * len(dataset) // count])
            scored.append((number, self._row(student, sample)))
        rows = [row for share in launch.told(scored) for row in share]
        in_order = [row for _, row in sorted(rows, key=lambda entry: entry[0]) if row]
        return {
            name: math.fsum(row[name] for row in in_order) / len(in_order)
            for name in self.losses
            if in_order
        }

    def _row(self, student: Any, sample: Sample) -> dict[str, float]:
        """Each loss of one image; nothing where it has no truth."""
        if sample.target is None or sample.valid is None or sample.space is None:
            raise ValueError(f"{sample.key}: no target to compare with")
        spaces = {"source": sample.space, "target": student.space}
        device = next(student.parameters()).device
        maps = to_space(sample.target, sample.valid, sample.far, **spaces)
        target, valid = (values[None].to(device) for values in maps)
        if not valid.any():
            return {}
        pred = student(sample.image[None].to(device)).float()
        return {name: loss(pred, target, valid).item() for name, loss in self.losses.items()}


def pictures(held_out: HeldOut, multiple: int = 14) -> Batch:
    """Four of the held-out images, or all of fewer, cropped to squares: always the same."""
    crop = partial(transforms.resize_and_crop, size=held_out.size, multiple=multiple, flip=0.0)
    return shown(held_out.open, crop)


def shown(open_set: Callable[[], Dataset], transform: Transform) -> Batch:
    """Four samples of a data set, or all of fewer: always the same."""
    dataset = open_set()
    count = min(_SHOWN, len(dataset))
    drawn = batches(Mixture([(dataset, None)]), batch_size=count, transform=transform, seed=0)
    with contextlib.closing(drawn):
        return next(drawn)
