"""The jobs of `benchmarks.ablations`: worlds, teachers, labels and students of a seed.

All students of a seed share its worlds, teachers and label stores, and their own seed: initial
weights, and wherever the same samples are drawn also their order, crops and perturbations.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from benchmarks.ablation_conditions import Condition, Noisy, Spoil
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
from distill.types import Dataset
from distill.worlds.job import RenderJob
from pseudo_labels.generate import LabelJob
from recipes import demo

_TEACHER = SIZES["tiny_teacher"]
_LARGE = replace(_TEACHER.encoder, width=192, depth=8, heads=6)
TEACHERS: dict[str, str | Architecture] = {
    "teacher": "tiny_teacher",
    "small": "tiny",  # of the student's size; also the encoder that features are compared with
    "large": replace(_TEACHER, encoder=_LARGE, taps=(2, 4, 6, 8), fusion=48),
}
FEATURE = Term("feature", 1.0, partial(feature_alignment, tolerance=0.15))


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
