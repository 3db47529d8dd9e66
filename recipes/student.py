"""Students: small networks that learn from a teacher's labels. V1, V2: Yang et al. 2024a, b.

Labels that have a confidence can be chosen by it, images with `where=`, pixels with
`min_confidence=`, and with `weighted=true` each pixel counts as much as it is sure. A quarter of
the labels: `where='hash(key) % 4 = 0'`.
"""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from distill.loading import Batches, Mixture, batches
from distill.models.depth_anything import depth_anything
from distill.objectives.distillation import Distillation
from distill.objectives.terms import Term
from distill.perturb import Perturbation
from distill.train import TrainJob
from distill.types import Sample
from recipes.choices import Crop, Descent, Features, Length, Passes, Perturbed, Relative
from recipes.sets import V1_READ, Selection, Truth, Watched

PHOTOS, LABELS, TRUTH = Path("photos"), Path("runs/labels"), Path("data")
Dinov2 = Annotated[
    str | None, "V2 section 5.1; V1 issue 235: not the teacher's weights", "none: from scratch"
]


@dataclass(frozen=True, kw_only=True)
class Student:
    """The numbers of a student."""

    length: Length | Passes
    selection: Selection
    crop: Crop
    perturbed: Perturbed
    loss: Relative
    features: Features
    descent: Descent
    watched: Watched


@dataclass(frozen=True, kw_only=True)
class Joint:
    """Truth beside the labels."""

    labelled: Annotated[float, "V1 section 3.3: the mean of three losses"] = 1 / 3
    unlabelled: Annotated[int, "V1 section 4.1: pseudo-labelled images to each labelled one"] = 2
    truth_sets: Truth


PERTURBED = Perturbed(colour=Perturbation())
V2_LARGE = Student(
    length=Length(batch_size=192, steps=480_000),
    selection=Selection(),
    crop=Crop(),
    perturbed=PERTURBED,
    loss=Relative(trim=0.1),
    features=Features(feature=1.0),
    descent=Descent(),
    watched=Watched(),
)
V2_SMALL = replace(V2_LARGE, perturbed=replace(PERTURBED, perturb=False))
V1 = replace(
    V2_LARGE,
    length=Passes(batch_size=192, passes=1.0, images=62_000_000),
    loss=Relative(affine=1 / 3, trim=0.1, gradient=0.0),
    features=Features(feature=1 / 3),
    descent=Descent(power=1.0),
)
V1_JOINT = Joint(truth_sets=Truth(sets=V1_READ))


def vits(
    data: Path | str = PHOTOS,
    *,
    labels: Path = LABELS,
    dinov2: Dinov2 = "facebook/dinov2-small",
    numbers: Student = V2_SMALL,
) -> TrainJob:
    """Depth Anything V2's student S on pseudo-labels alone. `data` is what was labelled.

    480 000 steps of 192 at 518 px. Colour, blur and CutMix are off: V2 keeps V1's augmentation, but
    its author calls it "not necessary" for S and B (V2 issue 207); `perturb=true` switches it on.

    distill run recipes.student:vits --data photos --out runs/student
    """
    return _v2("vits", data, labels, dinov2, numbers)


def vitb(
    data: Path | str = PHOTOS,
    *,
    labels: Path = LABELS,
    dinov2: Dinov2 = "facebook/dinov2-base",
    numbers: Student = V2_SMALL,
) -> TrainJob:
    """Depth Anything V2's student B.

    distill run recipes.student:vitb --data photos --out runs/student_b
    """
    return _v2("vitb", data, labels, dinov2, numbers)


def vitl(
    data: Path | str = PHOTOS,
    *,
    labels: Path = LABELS,
    dinov2: Dinov2 = "facebook/dinov2-large",
    numbers: Student = V2_LARGE,
) -> TrainJob:
    """Depth Anything V2's student L; colour, blur and CutMix are on, as the teacher is no larger.

    distill run recipes.student:vitl --data photos --out runs/student_l
    """
    return _v2("vitl", data, labels, dinov2, numbers)


def vitg(
    data: Path | str = PHOTOS,
    *,
    labels: Path = LABELS,
    dinov2: Dinov2 = "facebook/dinov2-giant",
    numbers: Student = V2_LARGE,
) -> TrainJob:
    """Depth Anything V2's student G, of its teacher's size; perturbed like L.

    distill run recipes.student:vitg --data photos --out runs/student_g
    """
    return _v2("vitg", data, labels, dinov2, numbers)


def v1_vits(
    data: Path | str = PHOTOS,
    *,
    truth: Path = TRUTH,
    labels: Path = LABELS,
    dinov2: Dinov2 = "facebook/dinov2-small",
    numbers: Student = V1,
    joint: Joint = V1_JOINT,
) -> TrainJob:
    """Depth Anything V1's student S: truth and pseudo-labels 1:2 in each batch, the last four taps.

    `truth` holds a folder for each of `sets`. One pass over 62 million images at batch 192: with
    fewer give `images`, or `steps`.

    distill run recipes.student:v1_vits --data photos --set truth=data --out runs/student_v1
    """
    return _v1("vits", data, truth, labels, dinov2, numbers, joint)


def v1_vitb(
    data: Path | str = PHOTOS,
    *,
    truth: Path = TRUTH,
    labels: Path = LABELS,
    dinov2: Dinov2 = "facebook/dinov2-base",
    numbers: Student = V1,
    joint: Joint = V1_JOINT,
) -> TrainJob:
    """Depth Anything V1's student B.

    distill run recipes.student:v1_vitb --data photos --set truth=data --out runs/student_v1
    """
    return _v1("vitb", data, truth, labels, dinov2, numbers, joint)


def v1_vitl(
    data: Path | str = PHOTOS,
    *,
    truth: Path = TRUTH,
    labels: Path = LABELS,
    dinov2: Dinov2 = "facebook/dinov2-large",
    numbers: Student = V1,
    joint: Joint = V1_JOINT,
) -> TrainJob:
    """Depth Anything V1's student L, of its teacher's size.

    distill run recipes.student:v1_vitl --data photos --set truth=data --out runs/student_v1
    """
    return _v1("vitl", data, truth, labels, dinov2, numbers, joint)


def tiny(data: Path | str = PHOTOS, *, labels: Path = LABELS) -> TrainJob:
    """Two steps of a small student from scratch: proves that the recipe runs."""
    length, crop = Length(batch_size=2, steps=2), replace(V2_LARGE.crop, size=56)
    numbers = replace(V2_LARGE, length=length, crop=crop, features=Features(feature=0.0))
    return replace(_v2("tiny", data, labels, None, numbers), workers=0)


def _v2(
    size: str, data: Path | str, labels: Path, dinov2: str | None, numbers: Student
) -> TrainJob:
    return TrainJob(
        objective=_objective(partial(depth_anything, size, encoder=dinov2), dinov2, numbers),
        batches=partial(_pseudo_labelled, data, labels, numbers.selection, _transform(numbers)),
        **_fields(size, numbers),
        **numbers.watched.fields(),
    )


def _v1(
    size: str,
    data: Path | str,
    truth: Path,
    labels: Path,
    dinov2: str | None,
    numbers: Student,
    joint: Joint,
) -> TrainJob:
    student = partial(depth_anything, size, encoder=dinov2, version=1)
    terms = numbers.loss.labelled_terms(joint.labelled)
    draw = partial(_joint, data, labels, numbers.selection, truth, joint)
    return TrainJob(
        objective=_objective(student, dinov2, numbers, labelled_terms=terms),
        batches=partial(draw, _transform(numbers, joint.truth_sets)),
        **_fields(size, numbers, joint.unlabelled / (1 + joint.unlabelled)),
        **numbers.watched.fields(joint.truth_sets.validation(truth)),
    )


def _objective(
    student: Any, dinov2: str | None, numbers: Student, labelled_terms: tuple[Term, ...] = ()
) -> partial[Distillation]:
    feature = numbers.features.term()
    return partial(
        Distillation,
        student,
        numbers.loss.terms(),
        labelled_terms=labelled_terms,
        perturb=numbers.perturbed.boxes(),
        feature=feature,
        frozen=numbers.features.frozen(dinov2),
        min_confidence=numbers.selection.min_confidence,
        weighted=numbers.selection.weighted,
        by_pixels=numbers.loss.reduction == "pixels",
    )


def _fields(size: str, numbers: Student, share: float = 1.0) -> dict[str, Any]:
    length = numbers.length
    return {
        "batch_size": length.batch_size,
        "steps": length.steps(share) if isinstance(length, Passes) else length.steps,
        "activation_checkpointing": size == "vitg",
        "workers": 8,
        **numbers.descent.fields(),
    }


def _transform(numbers: Student, truth: Truth | None = None) -> Any:
    perturbed = numbers.perturbed
    colour = perturbed.colour if perturbed.perturb else None
    return partial(_seen, crop=numbers.crop, colour=colour, truth=truth)


def _pseudo_labelled(
    images: Path | str, labels: Path, selection: Selection, transform: Any, **place: Any
) -> Batches:
    return batches(Mixture([(selection.open(images, labels), None)]), transform=transform, **place)


def _joint(
    images: Path | str,
    labels: Path,
    selection: Selection,
    truth: Path,
    joint: Joint,
    transform: Any,
    **place: Any,
) -> Batches:
    """One sample of truth, of all sets as one, to `unlabelled` others. V1 section 4.1."""
    sets, labelled = joint.truth_sets.open(truth), selection.open(images, labels)
    mixture = Mixture([(sets, 1), (labelled, joint.unlabelled)])
    return batches(mixture, transform=transform, **place)


def _seen(
    sample: Sample,
    rng: np.random.Generator,
    *,
    crop: Crop,
    colour: Any,
    truth: Truth | None,
) -> Sample:
    """Crop and mirror; colour and blur only where the label is a teacher's. V1 section 3.2."""
    sample = crop(sample, rng)
    if sample.pseudo_label:
        return sample if colour is None else colour(sample, rng)
    return sample if truth is None else truth.seen(sample)
