"""Fine-tuning on images with depth of your own: dense or sparse, in metres or relative.

`data` holds `rgb/` and `depth/` with files of equal names; depth in metres as 16-bit PNG of
`units_per_metre`, or as floats; numbers of another kind with `meaning=`. A part of the folder,
chosen by names alone, is held out: the run is measured and pictured on it before its first update
and after its last, and the report shows both side by side.

    distill run recipes.finetune:metric --data mine --out runs/mine
    distill report runs/mine
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from distill.datasets.apart import Apart
from distill.datasets.rgb_depth_folder import RgbDepthFolder
from distill.evaluation.validation import METRIC, PROTOCOL, HeldOut, HeldOutLosses, shown
from distill.loading import Batches, Mixture, batches
from distill.losses.affine_invariant import affine_invariant
from distill.losses.gradient_matching import gradient_matching
from distill.losses.silog import silog
from distill.models.depth_anything import DepthAnything, depth_anything
from distill.models.dpt import Dpt, load_student, made_for
from distill.models.encoders import Shape
from distill.models.metres import in_metres
from distill.objectives.supervised import Supervised
from distill.objectives.terms import Term
from distill.optim import polynomial
from distill.train import TrainJob
from distill.transforms import presented, within
from distill.types import Dataset, Sample, Space

DATA, START = Path("mine"), "depth-anything/Depth-Anything-V2-Small-hf"
_FITTED = 32  # images to which a relative network is fitted before it learns metres
_NEAREST = 1e-3  # metres; nearer pixels are not learned from: metric_depth/train.py of V2
Start = Annotated[str, "a released Depth Anything, or the folder `model` of a run of any recipe"]
HeldOutShare = Annotated[float, "our own; of the images, by name"]
ByFolder = Annotated[bool, "our own; true for frames of films, which are alike: whole folders"]
BatchSize = Annotated[int, "metric_depth/dist_train.sh of V2: 4 on each GPU; twice for one"]
Steps = Annotated[int, "our own; 16 passes over 1 000 images"]
EncoderRate = Annotated[float, "V2 section 7.1 and metric_depth/train.py"]
HeadRate = Annotated[float, "V2 section 7.1 and metric_depth/train.py; the head is not new here"]
Gradient = Annotated[float, "V2 section 7.1: 2 to 1; keeps edges. Sparse truth has none: 0"]
Warmup = Annotated[int, "our own; a start that is right is not to be moved by Adam's first steps"]
Clip = Annotated[float, "our own; few images, some of them odd"]
Size = Annotated[int | None, "none: the size that the start is made for; smaller is faster"]


def metric(
    data: Path = DATA,
    *,
    start: Start = START,
    max_depth: Annotated[int, "metres; metric_depth of V2: 20 indoors, 80 outdoors"] = 80,
    units_per_metre: Annotated[
        float | None, "none: 256 of integers (KITTI), floats are metres"
    ] = None,
    sparse: Annotated[
        bool, "true for lidar: no gradients are taken between measured pixels"
    ] = False,
    size: Size = None,
    batch_size: BatchSize = 8,
    steps: Steps = 2000,
    encoder_rate: EncoderRate = 5e-6,
    head_rate: HeadRate = 5e-5,
    warmup: Warmup = 100,
    max_grad_norm: Clip = 1.0,
    variance_focus: Annotated[float, "metric_depth/util/loss.py of V2"] = 0.5,
    gradient: Annotated[
        float, "our own: of log depth, keeps edges; sparse truth has none", "0: metric_depth of V2"
    ] = 0.5,
    held_out: HeldOutShare = 0.1,
    by_folder: ByFolder = False,
) -> TrainJob:
    """Metres from a relative or a metric network. SILog, and edges in log depth where dense.

    A relative start is fitted to the metres of 32 images before the first update, so its edges are
    kept and "before" is the best that two numbers can make of it. `val/abs_rel` and `val/delta1`
    are of metres as they are, `val/shape_...` after a fit of scale and shift in disparity.

    distill run recipes.finetune:metric --data mine --set max_depth=20 --out runs/mine
    """
    folder = partial(RgbDepthFolder, data, name="mine", units_per_metre=units_per_metre)
    parts = _Parts(folder, held_out, by_folder)
    seen = partial(_seen, form=partial(_form, start, size), max_depth=max_depth)
    terms = [Term("silog", 1.0, partial(silog, variance_focus=variance_focus))]
    if gradient > 0 and not sparse:
        terms.append(Term("gradient", gradient, _log_gradients))
    return TrainJob(
        objective=partial(
            Supervised, partial(_metric_student, start, parts.learned, seen, max_depth), terms
        ),
        validation=partial(_scores, held_out=parts.held_out, start=start, size=size),
        **_common(parts, seen, batch_size, steps, encoder_rate, head_rate, warmup, max_grad_norm),
    )


def relative(
    data: Path = DATA,
    *,
    start: Start = START,
    meaning: Annotated[
        str, "disparity: brighter is nearer, scale and shift unknown; depth: farther"
    ] = "disparity",
    sparse: Annotated[bool, "true: no gradients are taken between measured pixels"] = False,
    size: Size = None,
    batch_size: BatchSize = 8,
    steps: Steps = 2000,
    encoder_rate: EncoderRate = 5e-6,
    head_rate: HeadRate = 5e-5,
    warmup: Warmup = 100,
    max_grad_norm: Clip = 1.0,
    gradient: Gradient = 2.0,
    held_out: HeldOutShare = 0.1,
    by_folder: ByFolder = False,
) -> TrainJob:
    """Disparity up to scale and shift, from maps of 8 or 16 bits or floats; 0 is no measurement.

    `meaning=depth` takes depth up to a scale, such as reconstructions have. The start is relative.
    `val/affine` and `val/gradient` are the losses on held-out images: error and edges.

    distill run recipes.finetune:relative --data mine --out runs/mine
    """
    if meaning not in _MEANINGS:
        raise ValueError(f"meaning={meaning!r}; choose one of {', '.join(_MEANINGS)}")
    space = _MEANINGS[meaning]
    folder = partial(RgbDepthFolder, data, name="mine", space=space, allow_8bit=True)
    parts = _Parts(folder, held_out, by_folder)
    seen = partial(_seen, form=partial(_form, start, size))
    terms = [Term("affine", 1.0, affine_invariant)]
    if gradient > 0 and not sparse:
        terms.append(Term("gradient", gradient, gradient_matching))
    losses = {"affine": affine_invariant, "gradient": gradient_matching}
    watched = HeldOutLosses(open=parts.held_out, losses=losses, transform=partial(seen, rng=None))
    return TrainJob(
        objective=partial(Supervised, partial(_relative_student, start), terms),
        validation=watched,
        **_common(parts, seen, batch_size, steps, encoder_rate, head_rate, warmup, max_grad_norm),
    )


def tiny(data: Path = DATA) -> TrainJob:
    """Two steps of a small Depth Anything from scratch: proves that the recipe runs."""
    made = relative(data, batch_size=2, steps=2, warmup=0, held_out=0.5)
    folder = partial(
        RgbDepthFolder, data, name="mine", space=Space.AFFINE_DISPARITY, allow_8bit=True
    )
    parts = _Parts(folder, 0.5, False)
    seen = partial(_seen, form=_tiny_form)
    common = _common(parts, seen, 2, 2, 5e-6, 5e-5, 0, 1.0)
    losses = {"affine": affine_invariant}
    return replace(
        made,
        objective=partial(
            Supervised, partial(depth_anything, "tiny"), [Term("affine", 1.0, affine_invariant)]
        ),
        validation=HeldOutLosses(
            open=parts.held_out, losses=losses, transform=partial(seen, rng=None)
        ),
        **common | {"workers": 0},
    )


_MEANINGS = {"disparity": Space.AFFINE_DISPARITY, "depth": Space.SCALE_INVARIANT_DEPTH}


@dataclass(frozen=True)
class _Parts:
    """The user's folder in two."""

    folder: Callable[[], Dataset]
    share: float
    by_folder: bool

    def learned(self) -> Dataset:
        """What is learned from."""
        return Apart(self.folder(), share=self.share, held_out=False, by_folder=self.by_folder)

    def held_out(self) -> Dataset:
        """What it is measured on."""
        return Apart(self.folder(), share=self.share, held_out=True, by_folder=self.by_folder)


def _common(
    parts: _Parts,
    seen: Any,
    batch_size: int,
    steps: int,
    encoder_rate: float,
    head_rate: float,
    warmup: int,
    max_grad_norm: float,
) -> dict[str, Any]:
    rates = {"encoder": encoder_rate, "head": head_rate}
    return {
        "batches": partial(_batches, parts.learned, seen),
        "batch_size": batch_size,
        "steps": steps,
        "lr": partial(
            polynomial, rates=rates, power=0.9, warmup=warmup
        ),  # metric_depth/train.py of V2
        "max_grad_norm": max_grad_norm,
        "validate_every": max(1, steps // 5),
        "pictures": partial(shown, parts.held_out, partial(seen, flip=0.0)),
        "workers": 4,
    }


def _batches(opened: Callable[[], Dataset], seen: Any, **place: Any) -> Batches:
    seen.keywords["form"]()  # a start that is missing is told before samples are read
    return batches(Mixture([(opened(), None)]), transform=seen, **place)


def _relative_student(start: str) -> DepthAnything | Dpt:
    student = load_student(start)
    if student.space is not Space.AFFINE_DISPARITY:
        raise ValueError(f"{start} predicts metres; start from a relative model, or use :metric")
    return student


def _metric_student(
    start: str, learned: Callable[[], Dataset], seen: Any, max_depth: int
) -> DepthAnything | Dpt:
    """The start, fitted to metres where it is relative, on images spread over the folder."""

    def samples() -> Iterator[Sample]:
        dataset = learned()
        count = min(_FITTED, len(dataset))
        for number in range(count):
            yield partial(seen, rng=None)(dataset[number * len(dataset) // count])

    made = in_metres(load_student(start), samples(), max_depth=max_depth)
    reach = made.network.config.max_depth if isinstance(made, DepthAnything) else max_depth
    if reach < max_depth:  # a sigmoid cannot say more
        raise ValueError(
            f"max_depth={max_depth}, but {start} predicts metres up to {reach}: --set "
            f"max_depth={reach}, or start from a relative model"
        )
    return made


def _log_gradients(
    pred: Float[Tensor, "b h w"], target: Float[Tensor, "b h w"], valid: Bool[Tensor, "b h w"]
) -> Float[Tensor, " b"]:
    """Gradient matching of log depth: an edge counts by its ratio, near or far."""
    known = torch.where(valid, target, 1.0)
    return gradient_matching(pred.clamp(min=_NEAREST).log(), known.log(), valid)


def _scores(
    student: Any, *, held_out: Callable[[], Dataset], start: str, size: int | None
) -> dict[str, float]:
    """Of metres as they are, and of their shape alone."""
    side = _form(start, size).side
    return {
        f"{name}{metric}": value
        for name, protocol in {"": METRIC, "shape_": PROTOCOL}.items()
        for metric, value in HeldOut(open=held_out, size=side, protocol=protocol)(student).items()
    }


@cache
def _form(start: str, size: int | None) -> Shape:
    """What the start takes, at another size if it can.

    Raises:
        ValueError: it cannot.
    """
    form = made_for(start)
    if size is None or size == form.side:
        return replace(form, side=form.side // form.multiple * form.multiple)
    if form.square or size % form.multiple:
        only = f"{form.side} alone" if form.square else f"multiples of {form.multiple}"
        raise ValueError(f"size={size}, but {start} takes {only}")
    return replace(form, side=size)


def _tiny_form() -> Shape:
    return Shape(side=56, multiple=8, cell=8, square=False)


def _seen(
    sample: Sample,
    rng: np.random.Generator | None = None,
    *,
    form: Callable[[], Shape],
    max_depth: int | None = None,
    flip: float = 0.5,
) -> Sample:
    """What the network learns from; without `rng` the whole picture at the size that it takes."""
    if max_depth is not None:
        sample = within(sample, _NEAREST, float(max_depth))
    made = form()
    given = {"size": made.side, "multiple": made.multiple, "square": made.square}
    return presented(sample, rng, **given, flip=flip)
