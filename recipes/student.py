"""Students: small networks that learn from a teacher's labels. V1, V2: Yang et al. 2024a, b.

`held_out` is a folder of images with depth (`rgb/`, `depth/`, as the benchmark `rgb-depth`) on
which a run is watched; `perturb=none` switches colour, blur and CutMix off. Labels that have
a confidence can be chosen by it, images with `where=`, pixels with `min_confidence=`, and with
`weighted=true` each pixel counts as much as it is sure.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from distill.datasets.hypersim import Hypersim
from distill.datasets.photographs import open_photographs
from distill.datasets.pseudo_labelled import PseudoLabelled
from distill.datasets.rgb_depth_folder import RgbDepthFolder
from distill.datasets.virtual_kitti2 import VirtualKitti2
from distill.evaluation.validation import HeldOut, pictures
from distill.loading import Batches, Mixture, batches
from distill.losses.affine_invariant import affine_invariant
from distill.losses.feature_alignment import feature_alignment
from distill.losses.gradient_matching import gradient_matching
from distill.models.depth_anything import depth_anything
from distill.models.dinov2 import FrozenDinov2
from distill.objectives.distillation import Distillation
from distill.objectives.terms import Term
from distill.optim import polynomial
from distill.perturb import Perturbation, cutmix
from distill.train import TrainJob
from distill.transforms import resize_and_crop
from distill.types import Sample

PHOTOS, LABELS = Path("photos"), Path("runs/labels")
RATES = {"encoder": 5e-6, "head": 5e-5}  # V1 section 4.1, V2 section 7.1
TERMS_V2 = (
    Term("affine", 1.0, partial(affine_invariant, trim=0.1)),  # V2 section 5.2: the top 10 %
    Term("gradient", 2.0, gradient_matching),  # V2 section 7.1
)
FEATURE_V2 = Term("feature", 1.0, partial(feature_alignment, tolerance=0.15))  # V1 table 12
TERMS_V1 = (Term("affine", 1 / 3, partial(affine_invariant, trim=0.1)),)  # V1 section 3.3
LABELLED_V1 = (Term("labelled", 1 / 3, affine_invariant),)
Perturb = Annotated[bool | None, "V1 section 3.2; not necessary for S and B: V2 issue 207"]
MinConfidence = Annotated[float, "our own; pixels less sure than this are not learned from"]
Weighted = Annotated[bool, "our own; pixels weigh as they are sure"]
Where = Annotated[str | None, "our own; labels to learn from, such as confidence > 0.8"]
FEATURE_V1 = Term("feature", 1 / 3, partial(feature_alignment, tolerance=0.15))


def vits(
    data: Path | str = PHOTOS,
    *,
    labels: Path = LABELS,
    matching: bool = False,
    dinov2: Annotated[str, "V2 section 5.1"] = "facebook/dinov2-small",
    perturb: Perturb = True,
    held_out: Path | None = None,
    where: Where = None,
    min_confidence: MinConfidence = 0.0,
    weighted: Weighted = False,
) -> TrainJob:
    """Depth Anything V2's student S on pseudo-labels alone. `data` is what was labelled.

    480 000 steps of 192 at 518 px. CutMix and colour are on as in V1, whose augmentation V2 keeps;
    its author calls them "not necessary" for S and B (V2 issue 207).

    distill run recipes.student:vits --data photos --out runs/student
    """
    chosen = partial(_pseudo_labelled, data, labels, matching, where, perturb)
    return _v2("vits", dinov2, chosen, perturb, held_out, min_confidence, weighted)


def vitb(
    data: Path | str = PHOTOS,
    *,
    labels: Path = LABELS,
    matching: bool = False,
    dinov2: str = "facebook/dinov2-base",
    perturb: Perturb = True,
    held_out: Path | None = None,
    where: Where = None,
    min_confidence: MinConfidence = 0.0,
    weighted: Weighted = False,
) -> TrainJob:
    """Depth Anything V2's student B.

    distill run recipes.student:vitb --data photos --out runs/student_b
    """
    chosen = partial(_pseudo_labelled, data, labels, matching, where, perturb)
    return _v2("vitb", dinov2, chosen, perturb, held_out, min_confidence, weighted)


def vitl(
    data: Path | str = PHOTOS,
    *,
    labels: Path = LABELS,
    matching: bool = False,
    dinov2: str = "facebook/dinov2-large",
    perturb: Perturb = True,
    held_out: Path | None = None,
    where: Where = None,
    min_confidence: MinConfidence = 0.0,
    weighted: Weighted = False,
) -> TrainJob:
    """Depth Anything V2's student L.

    distill run recipes.student:vitl --data photos --out runs/student_l
    """
    chosen = partial(_pseudo_labelled, data, labels, matching, where, perturb)
    return _v2("vitl", dinov2, chosen, perturb, held_out, min_confidence, weighted)


def v1_vits(
    data: Path | str = PHOTOS,
    *,
    truth: Path = Path("data"),
    labels: Path = LABELS,
    matching: bool = False,
    dinov2: str = "facebook/dinov2-small",
    perturb: Perturb = True,
) -> TrainJob:
    """Depth Anything V1's student S: truth and pseudo-labels 1:2 in each batch, the last four taps.

    `truth` holds `hypersim/` and `virtual_kitti2/`. One pass over 62 million images at batch 192.

    distill run recipes.student:v1_vits --data photos --set truth=data --out runs/student_v1
    """
    student = partial(depth_anything, "vits", encoder=dinov2, version=1)
    held_out = HeldOut(open=partial(Hypersim, truth / "hypersim", split="val"))
    return TrainJob(
        objective=partial(
            Distillation,
            student,
            TERMS_V1,
            labelled_terms=LABELLED_V1,
            perturb=cutmix if perturb else None,
            feature=FEATURE_V1,
            frozen=partial(FrozenDinov2, dinov2),
        ),
        batches=partial(_joint, data, labels, matching, truth, perturb),
        validation=held_out,
        pictures=partial(pictures, held_out),
        batch_size=192,
        steps=485_000,
        lr=partial(polynomial, rates=RATES, power=1.0),  # V1 section 4.1: linear
        workers=8,
    )


def _v2(
    size: str,
    dinov2: str,
    draw: Callable[..., Batches],
    perturb: bool | None,
    held_out: Path | None,
    min_confidence: float,
    weighted: bool,
) -> TrainJob:
    student = partial(depth_anything, size, encoder=dinov2)
    watched = HeldOut(open=partial(RgbDepthFolder, held_out, name="held_out")) if held_out else None
    return TrainJob(
        objective=partial(
            Distillation,
            student,
            TERMS_V2,
            perturb=cutmix if perturb else None,
            feature=FEATURE_V2,
            frozen=partial(FrozenDinov2, dinov2),
            min_confidence=min_confidence,
            weighted=weighted,
        ),
        batches=draw,
        validation=watched,
        pictures=partial(pictures, watched) if watched else None,
        batch_size=192,  # V2 section 7.1
        steps=480_000,  # V2 section 7.1
        lr=partial(polynomial, rates=RATES, power=0.9),
        workers=8,
    )


def _pseudo_labelled(
    images: Path | str,
    labels: Path,
    matching: bool,
    where: str | None,
    perturb: bool | None,
    **place: Any,
) -> Batches:
    labelled = PseudoLabelled(open_photographs(images), labels, partial=matching, where=where)
    mixture = Mixture([(labelled, None)])
    return batches(mixture, transform=_perturbed if perturb else _cropped, **place)


def _joint(
    images: Path | str,
    labels: Path,
    matching: bool,
    truth: Path,
    perturb: bool | None,
    **where: Any,
) -> Batches:
    """One sample of truth to two pseudo-labelled ones. V1 section 3.3."""
    rooms, streets = Hypersim(truth / "hypersim"), VirtualKitti2(truth / "virtual_kitti2")
    labelled = PseudoLabelled(open_photographs(images), labels, partial=matching)
    mixture = Mixture([(rooms, 1), (streets, 1), (labelled, 4)])
    return batches(mixture, transform=_perturbed if perturb else _cropped, **where)


def _cropped(sample: Sample, rng: np.random.Generator) -> Sample:
    return resize_and_crop(sample, rng, size=518)


def _perturbed(sample: Sample, rng: np.random.Generator) -> Sample:
    """Crop and mirror; colour and blur only where the label is a teacher's. V1 section 3.2."""
    sample = _cropped(sample, rng)
    return Perturbation()(sample, rng) if sample.pseudo_label else sample
