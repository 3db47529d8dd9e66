"""The whole chain on procedural worlds, on two CPU cores: what `make demo` runs.

Worlds, photos, teacher, labels, student, the same student on the worlds directly, comparison.
Everything trains from scratch, so the students' feature term, which needs DINOv2 weights, is off.
"""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from distill.datasets.hypersim import Hypersim
from distill.datasets.image_folder import ImageFolder
from distill.datasets.in_memory import InMemory
from distill.datasets.pseudo_labelled import PseudoLabelled
from distill.datasets.virtual_kitti2 import VirtualKitti2
from distill.evaluation.compare import CompareJob
from distill.evaluation.validation import HeldOut, pictures
from distill.loading import Batches, Mixture, batches
from distill.losses.affine_invariant import affine_invariant
from distill.losses.gradient_matching import gradient_matching
from distill.models.depth_anything import depth_anything
from distill.objectives.distillation import Distillation
from distill.objectives.supervised import Supervised
from distill.objectives.terms import Term
from distill.optim import Muon, cosine
from distill.perturb import Perturbation
from distill.train import TrainJob
from distill.transforms import resize_and_crop
from distill.types import Sample
from distill.worlds.job import RenderJob
from pseudo_labels.generate import LabelJob
from pseudo_labels.strategies.tta import flip

NOTES = (
    "Feature alignment is off: it needs DINOv2 weights, and the demo trains from scratch.",
    "CutMix is off: from scratch, both students end further from the truth with it.",
    "Both students have the same size, seed, steps, batch size, learning rates and perturbations.",
)
SIZE = 56  # pixels, half of a picture's short side: what two cores learn from in minutes
_GROUPS = ("encoder", "encoder matrices", "head")
PERTURB = Perturbation(blur_sigma=(0.1, 0.5))  # V1's, its blur as small as the pictures
TERMS = (Term("affine", 1.0, affine_invariant), Term("gradient", 2.0, gradient_matching))
TRIMMED = (
    Term("affine", 1.0, partial(affine_invariant, trim=0.1)),
    Term("gradient", 2.0, gradient_matching),
)


def worlds(seed: int = 0) -> RenderJob:
    """Rooms and streets with exact depth, and the photographs of another world.

    distill run recipes.demo:worlds --out runs/demo/worlds
    """
    return RenderJob(seed=seed)


def synthetic(seed: int = 0) -> RenderJob:
    """The rooms and streets alone, with which the teacher can start; `worlds` adds the photographs.

    distill run recipes.demo:synthetic --out runs/demo/worlds
    """
    return RenderJob(seed=seed, worlds=("indoor", "street"))


def teacher(data: Path, *, warmup: int = 25) -> TrainJob:
    """A small Depth Anything trained on `indoor` and `street`, from scratch.

    distill run recipes.demo:teacher --data runs/demo/worlds --out runs/demo/teacher
    """
    return TrainJob(
        objective=partial(Supervised, partial(depth_anything, "tiny_teacher"), TERMS),
        batches=partial(_rendered, data),
        batch_size=16,
        steps=1800,
        lr=partial(cosine, rates=dict.fromkeys(_GROUPS, 1.5e-3), warmup=warmup),
        optimizer=Muon,
        max_grad_norm=1.0,
        ema=0.99,
        threads=1,
        **_watched(data),
    )


def labels(data: Path, *, teacher: Path = Path("runs/demo/teacher/model")) -> LabelJob:
    """The teacher's labels of the photographs, each the mean of two mirrored looks.

    distill run recipes.demo:labels --data runs/demo/worlds --out runs/demo/labels
    """
    photos = partial(ImageFolder, data / "photos" / "unlabelled")
    return LabelJob(images=photos, teacher=teacher, strategy=flip, shard_size=100)


def student(data: Path, *, labels: Path = Path("runs/demo/labels"), warmup: int = 25) -> TrainJob:
    """A smaller Depth Anything that learns from the photographs' labels alone.

    distill run recipes.demo:student --data runs/demo/worlds --out runs/demo/student
    """
    photos = data / "photos" / "unlabelled"
    return _student(data, partial(_pseudo_labelled, photos, labels), warmup)


def student_synthetic_only(data: Path, *, warmup: int = 25) -> TrainJob:
    """The same student for the same steps, on `indoor` and `street` directly.

    distill run recipes.demo:student_synthetic_only --data runs/demo/worlds \
        --out runs/demo/student_synthetic_only
    """
    return _student(data, partial(_rendered, data), warmup)


def evaluation(data: Path) -> CompareJob:
    """Teacher and both students on the held-out photographs.

    distill run recipes.demo:evaluation --data runs/demo --out runs/demo
    """
    names = ("teacher", "student", "student_synthetic_only")
    return CompareJob(
        models={name: data / name / "model" for name in names},
        benchmark="photos",
        data=data / "worlds" / "photos" / "evaluation",
        notes=NOTES,
    )


def tiny(data: Path) -> TrainJob:
    """Two steps of the teacher: proves that the demo's recipe runs."""
    return replace(teacher(data, warmup=0), steps=2, workers=0)


def _student(data: Path, draw: partial[Batches], warmup: int) -> TrainJob:
    return TrainJob(
        objective=partial(Distillation, partial(depth_anything, "tiny"), TRIMMED),
        batches=draw,
        batch_size=16,
        steps=600,
        lr=partial(cosine, rates=dict.fromkeys(_GROUPS, 2e-3), warmup=warmup),
        optimizer=Muon,
        max_grad_norm=1.0,
        ema=0.99,
        threads=1,
        **_watched(data),
    )


def _watched(data: Path) -> dict[str, Any]:
    """The fields of a run that is watched on rooms that no run learns from."""
    held_out = HeldOut(open=partial(Hypersim, data / "indoor", split="val"), size=SIZE)
    return {"validation": held_out, "pictures": partial(pictures, held_out, multiple=8)}


def _rendered(data: Path, **where: Any) -> Batches:
    """The training rooms, and the streets as both cameras see them."""
    streets = VirtualKitti2(data / "street", cameras=("Camera_0", "Camera_1"))
    rooms = Hypersim(data / "indoor")
    mixture = Mixture([(InMemory(rooms), None), (InMemory(streets), None)])
    return batches(mixture, transform=_perturbed, **where)


def _pseudo_labelled(images: Path, labels: Path, **where: Any) -> Batches:
    mixture = Mixture([(InMemory(PseudoLabelled(ImageFolder(images), labels)), None)])
    return batches(mixture, transform=_perturbed, **where)


def _perturbed(sample: Sample, rng: np.random.Generator) -> Sample:
    """Crop, mirror, colour and blur, the same for every run of the demo."""
    return PERTURB(resize_and_crop(sample, rng, size=SIZE, multiple=8), rng)
