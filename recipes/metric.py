"""Metres instead of disparity: Depth Anything V2's metric fine-tuning (its folder metric_depth).

The encoder comes from a relative Depth Anything, the head is new and ends in a sigmoid times
`max_depth`. Released code takes one SILog over all pixels of a GPU's batch, and mirrors whole
batches; here each image has a loss of its own and is mirrored or not for itself.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np

from distill.datasets.hypersim import Hypersim
from distill.datasets.virtual_kitti2 import VirtualKitti2
from distill.evaluation.validation import METRIC
from distill.loading import Batches, Mixture, batches
from distill.losses.silog import silog
from distill.models.depth_anything import depth_anything
from distill.objectives.supervised import Supervised
from distill.objectives.terms import Term
from distill.train import TrainJob
from distill.transforms import within
from distill.types import Dataset, Sample
from recipes.choices import Crop, Descent, Passes
from recipes.sets import Watched

HYPERSIM, VKITTI = Path("data/hypersim"), Path("data/virtual_kitti2")
Network = Annotated[Literal["vits", "vitb", "vitl"], "dist_train.sh; S and B are released too"]
Start = Annotated[
    str | None,
    "the relative model of the same size",
    "DINOv2 weights; none: models/depth_anything_v2_NETWORK, as `distill convert` writes it",
]


@dataclass(frozen=True, kw_only=True)
class Metric:
    """The numbers of a metric model."""

    length: Passes
    max_depth: Annotated[float, "dist_train.sh: 20 indoors, 80 outdoors: V2 issues 109 and 220"]
    min_depth: Annotated[float, "dist_train.sh: nearer pixels are not learned from"] = 0.001
    variance_focus: Annotated[
        float, "metric_depth/util/loss.py", "0.85: ZoeDepth, for V1 and V2 table 4"
    ] = 0.5
    crop: Crop
    descent: Descent
    watched: Watched


INDOOR = Metric(
    length=Passes(batch_size=32, passes=120.0, images=59_543),
    max_depth=20.0,
    crop=Crop(),
    descent=Descent(precision="fp32"),
    watched=Watched(),
)
OUTDOOR = replace(INDOOR, max_depth=80.0, length=replace(INDOOR.length, images=19_559))


def indoor(
    data: Path = HYPERSIM,
    *,
    network: Network = "vitl",
    start: Start = None,
    numbers: Metric = INDOOR,
) -> TrainJob:
    """Metres up to 20 from Hypersim, watched on its validation split.

    `data` holds Hypersim's scenes and its table of splits. 223 286 steps of 32 at 518 px.

    distill run recipes.metric:indoor --data data/hypersim --out runs/metric_indoor
    """
    held_out = partial(Hypersim, data, split="val")
    return _metric(network, start, partial(Hypersim, data), numbers, held_out)


def outdoor(
    data: Path = VKITTI,
    *,
    network: Network = "vitl",
    start: Start = None,
    numbers: Metric = OUTDOOR,
) -> TrainJob:
    """Metres up to 80 from Virtual KITTI 2, its left camera; the sky is not learned from.

    The released list has 19 559 of its 21 260 images; no list says which are left out, so all are
    read. The authors validate on KITTI: give `held_out`, or evaluate afterwards.

    distill run recipes.metric:outdoor --data data/virtual_kitti2 --out runs/metric_outdoor
    """
    return _metric(network, start, partial(VirtualKitti2, data), numbers, None)


def tiny(data: Path = HYPERSIM) -> TrainJob:
    """Two steps of a small network from scratch: proves that the recipe runs."""
    length = replace(INDOOR.length, batch_size=2, passes=1.0, images=4)
    watched = Watched(held_out_size=56)
    numbers = replace(INDOOR, length=length, crop=Crop(size=56), watched=watched)
    made = indoor(data, numbers=numbers)
    network = partial(depth_anything, "tiny", max_depth=numbers.max_depth)
    return replace(made, objective=partial(Supervised, network, _terms(numbers)), workers=0)


def _metric(
    size: str, start: str | None, opened: Any, numbers: Metric, validation: Any
) -> TrainJob:
    encoder = f"models/depth_anything_v2_{size}" if start is None else start
    network = partial(depth_anything, size, encoder=encoder, max_depth=numbers.max_depth)
    depths = {"nearest": numbers.min_depth, "farthest": numbers.max_depth}
    seen = partial(_seen, crop=numbers.crop, **depths)
    return TrainJob(
        objective=partial(Supervised, network, _terms(numbers)),
        batches=partial(_batches, opened, transform=seen),
        batch_size=numbers.length.batch_size,
        steps=numbers.length.steps(),
        workers=8,
        **numbers.descent.fields(),
        **numbers.watched.fields(validation, METRIC),
    )


def _terms(numbers: Metric) -> tuple[Term, ...]:
    return (Term("silog", 1.0, partial(silog, variance_focus=numbers.variance_focus)),)


def _batches(opened: Callable[[], Dataset], *, transform: Any, **place: Any) -> Batches:
    return batches(Mixture([(opened(), None)]), transform=transform, **place)


def _seen(
    sample: Sample, rng: np.random.Generator, *, crop: Crop, nearest: float, farthest: float
) -> Sample:
    return within(crop(sample, rng), nearest, farthest)
