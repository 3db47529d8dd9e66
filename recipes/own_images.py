"""A small student for photographs of your own, of any size and with any encoder.

For a domain of some thousand images on one GPU, or fewer and smaller ones on a laptop. Three
commands lead from a folder of photographs to a model that plain transformers loads:

    distill run recipes.own_images:labels --data photos --out runs/labels
    distill run recipes.own_images:student --data photos --out runs/student
    distill report runs/student

The model is the folder `runs/student/model`. No depth is needed; how well the student agrees with
its teacher is measured on photographs that are held out.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from distill.datasets.apart import Apart
from distill.datasets.photographs import open_photographs
from distill.datasets.pseudo_labelled import PseudoLabelled
from distill.evaluation.validation import HeldOutLosses, shown
from distill.loading import Batches, Mixture, Transform, batches
from distill.losses.affine_invariant import affine_invariant
from distill.losses.feature_alignment import feature_alignment
from distill.losses.gradient_matching import gradient_matching
from distill.models import dpt
from distill.models.depth_anything import depth_anything
from distill.models.encoders import FrozenEncoder, Shape, shape
from distill.objectives.distillation import Distillation
from distill.objectives.terms import Term
from distill.optim import polynomial
from distill.perturb import Perturbation
from distill.train import TrainJob
from distill.transforms import presented
from distill.types import Dataset, Sample
from pseudo_labels.generate import LabelJob
from pseudo_labels.strategies.tta import flip

PHOTOS, LABELS = Path("photos"), Path("runs/labels")
TEACHER, ENCODER = "depth-anything/Depth-Anything-V2-Large-hf", "facebook/dinov2-small"
Size = Annotated[
    int | None, "our own; none: 518 of DINOv2, 384 of others or their only one; 252 on a laptop"
]
Share = Annotated[float, "our own; of the photographs, by key, to be watched on"]


def labels(data: Path | str = PHOTOS, *, teacher: str = TEACHER) -> LabelJob:
    """Any depth model of transformers labels the photographs, each by two mirrored looks.

    `teacher` is a hub id or a folder; its licence goes into the store and the student's model card.

    distill run recipes.own_images:labels --data photos --out runs/labels
    """
    return LabelJob(images=partial(open_photographs, data), teacher=teacher, strategy=flip)


def student(
    data: Path | str = PHOTOS,
    *,
    labels: Path = LABELS,
    encoder: Annotated[
        str, "DINOv2, DINOv3, or a timm model such as timm/mobilenetv4_..."
    ] = ENCODER,
    size: Size = None,
    fusion: Annotated[int, "V2's B; DINOv2 has that of its size"] = 128,
    batch_size: Annotated[int, "our own; at 518 a ViT-S takes 8 into 8 GB"] = 8,
    steps: Annotated[
        int, "our own; 27 passes over 3 000 images, V2 sees its own 1.5 times"
    ] = 10_000,
    encoder_rate: Annotated[float, "our own; 4 times V2's, for 1000 times fewer samples"] = 2e-5,
    head_rate: Annotated[float, "ten times the encoder's, as V1 section 4.1"] = 2e-4,
    warmup: Annotated[int, "our own; a new head above V2's rates"] = 200,
    max_grad_norm: Annotated[float, "our own; few images, some of them odd"] = 1.0,
    trim: Annotated[float, "V2 section 5.2: the top 10 %"] = 0.1,
    gradient: Annotated[float, "V2 section 7.1; what keeps edges"] = 2.0,
    feature: Annotated[float, "V2 section 5.2; 0 needs no frozen encoder"] = 1.0,
    frozen: Annotated[
        str | None, "V1 section 3.3: the student's own; any other is projected"
    ] = None,
    perturb: Annotated[bool, "V1 section 3.2: colour and blur, for few images"] = True,
    held_out: Share = 0.05,
) -> TrainJob:
    """A student with any encoder learns from the labels, watched where it agrees with them.

    An encoder that plain transformers holds at one size only sees whole pictures squeezed to a
    square, as the exported model does; the others see squares cut out of them. CutMix is off: short
    runs end further from their labels with it (`recipes.demo`).

    distill run recipes.own_images:student --data photos --out runs/student
    """
    seen = partial(_seen, made_for=partial(_shape, encoder, size))
    opened = partial(_labelled, data, labels, held_out)
    aligned = Term("feature", feature, partial(feature_alignment, tolerance=0.15))
    return TrainJob(
        **_watched(partial(opened, apart=True), seen),
        objective=partial(
            Distillation,
            partial(dpt.student, encoder, size=size, fusion=fusion),
            _terms(trim, gradient),
            feature=aligned if feature > 0 else None,
            frozen=partial(_frozen, frozen or encoder, encoder, size) if feature > 0 else None,
        ),
        batches=partial(_batches, partial(opened, apart=False), seen, perturb),
        batch_size=batch_size,
        steps=steps,
        lr=partial(polynomial, rates={"encoder": encoder_rate, "head": head_rate}, warmup=warmup),
        max_grad_norm=max_grad_norm,
        workers=4,
    )


def tiny(data: Path | str = PHOTOS, *, labels: Path = LABELS) -> TrainJob:
    """Two steps of a small Depth Anything from scratch: proves that the recipe runs."""
    made = student(data, labels=labels, batch_size=2, steps=2, warmup=0, feature=0.0, held_out=0.5)
    seen = partial(_seen, made_for=_tiny_shape)
    opened = partial(_labelled, data, labels, 0.5)
    return replace(
        made,
        objective=partial(Distillation, partial(depth_anything, "tiny"), _terms(0.1, 2.0)),
        batches=partial(_batches, partial(opened, apart=False), seen, False),
        workers=0,
        **_watched(partial(opened, apart=True), seen),
    )


def _terms(trim: float, gradient: float) -> list[Term]:
    return [
        Term("affine", 1.0, partial(affine_invariant, trim=trim)),
        Term("gradient", gradient, gradient_matching),
    ]


def _watched(opened: Callable[[], Dataset], seen: Any) -> dict[str, Any]:
    """The fields of a run that is watched on labels that it does not learn from."""
    losses = {"affine": affine_invariant, "gradient": gradient_matching}
    whole = HeldOutLosses(open=opened, losses=losses, transform=partial(seen, rng=None))
    return {"validation": whole, "pictures": partial(shown, opened, partial(seen, flip=0.0))}


def _frozen(source: str, encoder: str, size: int | None) -> FrozenEncoder:
    return FrozenEncoder(source, cell=_shape(encoder, size).cell)


@cache
def _shape(encoder: str, size: int | None) -> Shape:
    return shape(encoder, size)


def _tiny_shape() -> Shape:
    return Shape(side=56, multiple=8, cell=8, square=False)


def _labelled(images: Path | str, labels: Path, share: float, *, apart: bool) -> Dataset:
    labelled = PseudoLabelled(open_photographs(images), labels)
    return Apart(labelled, share=share, held_out=apart)


def _batches(opened: Callable[[], Dataset], seen: Any, perturb: bool, **place: Any) -> Batches:
    seen.keywords["made_for"]()  # an encoder that is missing is told before samples are read
    transform = partial(_perturbed, seen=seen) if perturb else seen
    return batches(Mixture([(opened(), None)]), transform=transform, **place)


def _perturbed(sample: Sample, rng: np.random.Generator, *, seen: Transform) -> Sample:
    return Perturbation()(seen(sample, rng), rng)


def _seen(
    sample: Sample,
    rng: np.random.Generator | None = None,
    *,
    made_for: Callable[[], Shape],
    flip: float = 0.5,
) -> Sample:
    """What a student learns from; without `rng` the whole picture at the size that it takes."""
    form = made_for()
    given = {"size": form.side, "multiple": form.multiple, "square": form.square}
    return presented(sample, rng, **given, flip=flip)
