"""The conditions of `benchmarks.ablations`: the demo's student, one thing changed in each.

All students of a seed share its worlds, teachers and label stores, and their own seed: initial
weights, and wherever the same samples are drawn also their order, crops and perturbations.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import interpolate

from distill.datasets.hypersim import Hypersim
from distill.datasets.image_folder import ImageFolder
from distill.datasets.in_memory import InMemory
from distill.datasets.pseudo_labelled import PseudoLabelled
from distill.datasets.virtual_kitti2 import VirtualKitti2
from distill.loading import Batches, Mixture, Transform, batches
from distill.losses.feature_alignment import feature_alignment
from distill.models.depth_anything import (
    SIZES,
    Architecture,
    DepthAnything,
    depth_anything,
    load_depth_anything,
)
from distill.objectives.distillation import Distillation
from distill.objectives.supervised import Supervised
from distill.objectives.terms import Term
from distill.perturb import cutmix
from distill.shuffle import permuted
from distill.train import TrainJob
from distill.transforms import resize_and_crop
from distill.types import Dataset, Sample
from distill.worlds.job import RenderJob
from pseudo_labels.generate import LabelJob
from recipes import demo

QUESTIONS = {
    "A": "Rendered truth, pseudo-labels, or both (V2 table 5)",
    "B": "One part of the student's recipe changed at a time (V1 tables 9 and 13, V2 section 5.2)",
    "C": "The size of the teacher that labels (V2 section 3)",
    "D": "The number of labelled photographs (V2 section 4, table 11)",
    "E": "Wrong labels, and what the 10 % drop does about them (V2 section 5.2)",
}
_TEACHER = SIZES["tiny_teacher"]
_LARGE = replace(_TEACHER.encoder, width=192, depth=8, heads=6)
TEACHERS: dict[str, str | Architecture] = {
    "teacher": "tiny_teacher",
    "small": "tiny",  # of the student's size; also the encoder that features are compared with
    "large": replace(_TEACHER, encoder=_LARGE, taps=(2, 4, 6, 8), fusion=48),
}
FEATURE = Term("feature", 1.0, partial(feature_alignment, tolerance=0.15))
CROPPED = partial(resize_and_crop, size=demo.SIZE, multiple=8)
_WRONG = 10  # one label, or one pixel of each label, in so many


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How much of everything: less than the demo, so that five seeds fit into an afternoon."""

    teacher_steps: int = 750
    student_steps: int = 300
    indoor_scenes: int = 150
    street_scenes: int = 50
    photos: int = 400
    evaluation: int = 120


@dataclass(frozen=True)
class Place:
    """Where everything of a seed lies."""

    out: Path
    seed: int

    @property
    def root(self) -> Path:
        """The seed's folder."""
        return self.out / str(self.seed)

    @property
    def worlds(self) -> Path:
        """Rooms, streets and photographs."""
        return self.root / "worlds"

    def teacher(self, name: str) -> Path:
        """Run of a teacher."""
        return self.root / "teachers" / name

    def labels(self, name: str) -> Path:
        """Store of a teacher's labels."""
        return self.root / "labels" / name

    def student(self, name: str) -> Path:
        """Run of a condition."""
        return self.root / "students" / name


@dataclass(frozen=True, kw_only=True)
class Condition:
    """How a student differs from `pseudo`, which is the demo's.

    Attributes:
        question: a key of `QUESTIONS`.
        differs: from `against`, in words.
        against: the condition that it is compared with.
        paper: what the papers found it to be, "better" or "worse" than `against`; None: nothing
            that these metrics would show.
        data: what is learned from: the photographs' labels, the rendered truth, or both.
        teacher: whose labels.
        share: of the photographs.
        spoil: makes labels wrong.
        transform: of each sample.
        terms: of the loss.
        mixes: whether with CutMix.
        aligns: whether with feature alignment.
        starts: whether from the encoder that features are compared with.
    """

    question: str
    differs: str
    against: str = "pseudo"
    paper: Literal["better", "worse"] | None = None
    data: Literal["labels", "truth", "both"] = "labels"
    teacher: str = "teacher"
    share: float = 1.0
    spoil: "Spoil | None" = None
    transform: Transform = demo.perturbed
    terms: tuple[Term, ...] = demo.TRIMMED
    mixes: bool = False
    aligns: bool = False
    starts: bool = False

    @property
    def teachers(self) -> set[str]:
        """Which must be there before; whether they label or not."""
        labelling = {self.teacher} if self.data != "truth" else set()
        return labelling | ({"small"} if self.aligns or self.starts else set())


Spoil = Callable[["Noisy", int], Sample]


class Noisy(PseudoLabelled):
    """Labels some of which are wrong, the same ones at every reading."""

    def __init__(self, images: Dataset, store: Path, spoil: Spoil) -> None:
        super().__init__(images, store)
        self._spoil = spoil

    def __getitem__(self, index: int) -> Sample:
        """Read image and label, and spoil the label."""
        return self._spoil(self, index)

    def clean(self, index: int) -> Sample:
        """As the teacher said it."""
        return super().__getitem__(index)


def swapped(labels: Noisy, index: int) -> Sample:
    """One label in ten is that of the photograph half the set away."""
    sample = labels.clean(index)
    if permuted(index, len(labels), 0) % _WRONG:
        return sample
    other = labels.clean((index + len(labels) // 2) % len(labels))
    assert sample.target is not None
    assert other.target is not None
    size = tuple(sample.target.shape)
    return _labelled(sample, interpolate(other.target[None, None], size, mode="bilinear")[0, 0])


def speckled(labels: Noisy, index: int) -> Sample:
    """One pixel in ten is drawn uniformly from three times the label's range."""
    sample, rng = labels.clean(index), np.random.default_rng(index)
    assert sample.target is not None
    low, high = float(sample.target.min()), float(sample.target.max())
    size = tuple(sample.target.shape)
    where = torch.from_numpy(rng.random(size) < 1 / _WRONG)
    drawn = torch.from_numpy(rng.uniform(2 * low - high, 2 * high - low, size)).float()
    return _labelled(sample, torch.where(where, drawn, sample.target))


CONDITIONS = {
    "pseudo": Condition(question="A", differs="the demo's student: the teacher's labels alone"),
    "truth": Condition(question="A", differs="rendered truth alone", data="truth", paper="worse"),
    "both": Condition(
        question="A", differs="truth and labels, 1:2 as in V1", data="both", paper="worse"
    ),
    "no drop": Condition(
        question="B", differs="the 10 % largest losses stay", terms=demo.TERMS, paper="worse"
    ),
    "no gradient": Condition(question="B", differs="no gradient matching", terms=demo.TRIMMED[:1]),
    "no perturbation": Condition(
        question="B", differs="no colour, no blur", transform=CROPPED, paper="worse"
    ),
    "cutmix": Condition(question="B", differs="CutMix too", mixes=True, paper="better"),
    "features": Condition(
        question="B",
        differs="feature alignment too, with the encoder of the small teacher, not DINOv2",
        aligns=True,
        paper="better",
    ),
    "started": Condition(
        question="B", differs="its encoder starts as that of the small teacher", starts=True
    ),
    "started, features": Condition(
        question="B",
        differs="feature alignment too, with the encoder that it started from",
        against="started",
        starts=True,
        aligns=True,
        paper="better",
    ),
    "small teacher": Condition(
        question="C", differs="labels of a teacher of its own size", teacher="small", paper="worse"
    ),
    "large teacher": Condition(
        question="C", differs="labels of a larger teacher", teacher="large", paper="better"
    ),
    "1/2": Condition(question="D", differs="half of the photographs", share=0.5, paper="worse"),
    "1/4": Condition(question="D", differs="a quarter of them", share=0.25, paper="worse"),
    "swapped": Condition(
        question="E", differs="1 label in 10 is another's", spoil=swapped, paper="worse"
    ),
    "swapped, no drop": Condition(
        question="E",
        differs="the 10 % largest losses stay",
        against="swapped",
        spoil=swapped,
        terms=demo.TERMS,
        paper="worse",
    ),
    "speckled": Condition(
        question="E", differs="1 pixel in 10 is wrong", spoil=speckled, paper="worse"
    ),
    "speckled, no drop": Condition(
        question="E",
        differs="the 10 % largest losses stay",
        against="speckled",
        spoil=speckled,
        terms=demo.TERMS,
        paper="worse",
    ),
}


def worlds(place: Place, scale: Scale) -> RenderJob:
    """The seed's worlds."""
    return replace(
        demo.worlds(place.seed),
        indoor_scenes=scale.indoor_scenes,
        street_scenes=scale.street_scenes,
        photos=scale.photos,
        evaluation=scale.evaluation,
        workers=1,
    )


def teacher(place: Place, name: str, scale: Scale) -> TrainJob:
    """A teacher of another size, its seed apart from the students'."""
    network = partial(depth_anything, TEACHERS[name])
    return replace(
        _quiet(demo.teacher(place.worlds), scale.teacher_steps),
        objective=partial(Supervised, network, demo.TERMS),
        seed=10_000_000 + place.seed,
    )


def labels(place: Place, name: str) -> LabelJob:
    """Its labels of the photographs."""
    job = demo.labels(place.worlds, teacher=place.teacher(name) / "model")
    return replace(job, threads=1, workers=1)


def student(place: Place, condition: Condition, scale: Scale) -> TrainJob:
    """The demo's student under a condition."""
    encoder = place.teacher("small") / "model"
    network = partial(started, encoder) if condition.starts else partial(depth_anything, "tiny")
    more: dict[str, Any] = {"perturb": cutmix} if condition.mixes else {}
    if condition.aligns:
        more |= {"feature": FEATURE, "frozen": partial(FrozenEncoder, encoder)}
    base = demo.student(place.worlds, labels=place.labels(condition.teacher))
    return replace(
        _quiet(base, scale.student_steps),
        objective=partial(Distillation, network, condition.terms, **more),
        batches=partial(drawn, _sources(place, condition), condition.transform),
        seed=place.seed,
    )


def started(encoder: Path) -> DepthAnything:
    """The student with another network's encoder and a head from scratch."""
    made = depth_anything("tiny")
    made.network.backbone.load_state_dict(
        load_depth_anything(encoder).network.backbone.state_dict()
    )
    made.weights_from = encoder
    return made


class FrozenEncoder(nn.Module):
    """The encoder of a trained network, which `feature` compares with."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.network = load_depth_anything(folder)

    def forward(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b n c"]:
        """Patch tokens behind the final norm."""
        return self.network.forward_features(image)[1]


def drawn(
    sources: Sequence[tuple[Callable[[], Dataset], int | None]],
    transform: Transform,
    **where: Any,
) -> Batches:
    """Batches of data sets and their weights, each kept in memory."""
    mixture = Mixture([(InMemory(build()), weight) for build, weight in sources])
    return batches(mixture, transform=transform, **where)


def photographs(images: Path, store: Path, share: float, spoil: Spoil | None) -> PseudoLabelled:
    """A share of the labelled photographs, each smaller one part of each larger one."""
    photos = ImageFolder(images)
    if spoil is not None:
        return Noisy(photos, store, spoil)
    count = len(photos)
    absent = {photos.key(i) for i in range(count) if permuted(i, count, 1) >= share * count}
    return PseudoLabelled(photos, store, leave_out=absent)


def _sources(place: Place, condition: Condition) -> list[tuple[Callable[[], Dataset], int | None]]:
    photos = partial(
        photographs,
        place.worlds / "photos" / "unlabelled",
        place.labels(condition.teacher),
        condition.share,
        condition.spoil,
    )
    rooms = partial(Hypersim, place.worlds / "indoor")
    streets = partial(VirtualKitti2, place.worlds / "street", cameras=("Camera_0", "Camera_1"))
    if condition.data == "labels":
        return [(photos, None)]
    if condition.data == "truth":
        return [(rooms, None), (streets, None)]
    return [(rooms, 2), (streets, 1), (photos, 6)]


def _quiet(job: TrainJob, steps: int) -> TrainJob:
    """Without what only people look at, and in one process."""
    return replace(
        job,
        steps=steps,
        workers=0,
        validation=None,
        pictures=None,
        log_every=50,
        checkpoint_every=150,
        keep_checkpoints=1,
    )


def _labelled(sample: Sample, target: Float[Tensor, "h w"]) -> Sample:
    assert sample.valid is not None
    valid = sample.valid & target.isfinite()
    return replace(sample, target=torch.where(valid, target, torch.nan), valid=valid)
