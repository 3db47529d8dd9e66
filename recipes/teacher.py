"""Teachers: large networks trained on sets with depth. V1, V2: Yang et al. 2024a, b."""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from distill.loading import Batches, Mixture, batches
from distill.models.depth_anything import depth_anything
from distill.objectives.distillation import Distillation
from distill.objectives.supervised import Supervised
from distill.train import TrainJob
from distill.types import Sample
from recipes.choices import Crop, Descent, Features, Length, Passes, Relative
from recipes.sets import V1_READ, V2_FIVE, Truth, Watched

DATA = Path("data")
Dinov2 = Annotated[str | None, "V2 section 5.1: without registers", "none: from scratch"]


@dataclass(frozen=True, kw_only=True)
class Teacher:
    """The numbers of a teacher."""

    length: Length | Passes
    truth: Truth
    crop: Crop
    loss: Relative
    features: Features
    descent: Descent
    watched: Watched


V2 = Teacher(
    length=Length(batch_size=64, steps=160_000),
    truth=Truth(),
    crop=Crop(),
    loss=Relative(),
    features=Features(),
    descent=Descent(),
    watched=Watched(),
)
FIVE = replace(V2, truth=Truth(sets=V2_FIVE))
V1 = replace(
    V2,
    length=Passes(batch_size=64, passes=20.0, images=524_000),  # of the three sets that are read
    truth=Truth(sets=V1_READ),
    loss=Relative(gradient=0.0),
    descent=Descent(power=1.0),
)


def vitg(
    data: Path = DATA, *, dinov2: Dinov2 = "facebook/dinov2-giant", numbers: Teacher = V2
) -> TrainJob:
    """Depth Anything V2's teacher on Hypersim and Virtual KITTI 2.

    `data` holds `hypersim/` and `virtual_kitti2/` as distributed. 160 000 steps of 64 at 518 px,
    watched on a hundred images of Hypersim's validation split;
    on a cluster: recipes/clusters/teacher_vitg_4x8.yaml.

    distill run recipes.teacher:vitg --data data --out runs/teacher
    """
    return _teacher("vitg", data, dinov2, numbers)


def vitl(
    data: Path = DATA, *, dinov2: Dinov2 = "facebook/dinov2-large", numbers: Teacher = V2
) -> TrainJob:
    """The same with DINOv2-L, for one machine.

    distill run recipes.teacher:vitl --data data --out runs/teacher
    """
    return _teacher("vitl", data, dinov2, numbers)


def vits(
    data: Path = DATA, *, dinov2: Dinov2 = "facebook/dinov2-small", numbers: Teacher = V2
) -> TrainJob:
    """The same with DINOv2-S, for a quick first try; with all five sets V2 table 5's baseline.

    distill run recipes.teacher:vits --data data --out runs/teacher
    """
    return _teacher("vits", data, dinov2, numbers)


def vitg_five(
    data: Path = DATA, *, dinov2: Dinov2 = "facebook/dinov2-giant", numbers: Teacher = FIVE
) -> TrainJob:
    """Depth Anything V2's teacher on all five synthetic sets of the paper, V2 table 7.

    `data` holds `hypersim/`, `virtual_kitti2/`, `tartanair/`, `irs/` and `blended_mvs/` as
    distributed, IRS and BlendedMVS with their authors' lists: 60, 20, 306, 103 and 115 thousand
    images, so every second one is TartanAir's. Steps, batch and validation as `vitg`.

    distill run recipes.teacher:vitg_five --data data --out runs/teacher
    """
    return _teacher("vitg", data, dinov2, numbers)


def vitl_five(
    data: Path = DATA, *, dinov2: Dinov2 = "facebook/dinov2-large", numbers: Teacher = FIVE
) -> TrainJob:
    """The same with DINOv2-L, for one machine.

    distill run recipes.teacher:vitl_five --data data --out runs/teacher
    """
    return _teacher("vitl", data, dinov2, numbers)


def v1_vitl(
    data: Path = DATA, *, dinov2: Dinov2 = "facebook/dinov2-large", numbers: Teacher = V1
) -> TrainJob:
    """Depth Anything V1's teacher: the affine-invariant loss alone, the last four taps.

    On those of its six labelled sets that are read here, BlendedMVS, IRS and TartanAir: 20 passes
    over 524 of 1600 thousand images, the rates falling linearly. With other `sets` give `images`.

    distill run recipes.teacher:v1_vitl --data data --out runs/teacher_v1
    """
    return _teacher("vitl", data, dinov2, numbers, version=1)


def tiny(data: Path = DATA) -> TrainJob:
    """Two steps of a small network from scratch: proves that the recipe runs."""
    small = {"crop": replace(V2.crop, size=56), "watched": Watched(held_out_size=56)}
    numbers = replace(V2, length=Length(batch_size=2, steps=2), **small)
    return replace(_teacher("tiny_teacher", data, None, numbers), workers=0)


def _teacher(
    size: str, data: Path, dinov2: str | None, numbers: Teacher, *, version: int = 2
) -> TrainJob:
    length, feature = numbers.length, numbers.features.term()
    network = partial(depth_anything, size, encoder=dinov2, version=version)
    terms, by_pixels = numbers.loss.terms(), numbers.loss.reduction == "pixels"
    objective = partial(Supervised, network, terms, by_pixels=by_pixels)
    if feature is not None:
        features = {"feature": feature, "frozen": numbers.features.frozen(dinov2)}
        objective = partial(Distillation, network, terms, by_pixels=by_pixels, **features)
    return TrainJob(
        objective=objective,
        batches=partial(_batches, data, numbers.truth, numbers.crop),
        batch_size=length.batch_size,
        steps=length.steps() if isinstance(length, Passes) else length.steps,
        activation_checkpointing=size == "vitg",
        workers=8,
        **numbers.descent.fields(),
        **numbers.watched.fields(numbers.truth.validation(data)),
    )


def _batches(data: Path, truth: Truth, crop: Crop, **place: Any) -> Batches:
    mixture = Mixture([(dataset, None) for dataset in truth.open(data)])
    return batches(mixture, transform=partial(_seen, truth=truth, crop=crop), **place)


def _seen(sample: Sample, rng: np.random.Generator, *, truth: Truth, crop: Crop) -> Sample:
    return truth.seen(crop(sample, rng))
