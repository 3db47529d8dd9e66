"""Students that ask their teachers anew at every step. He et al. 2025 (Distill-Any-Depth).

No label store: the teachers are networks in the loop, which the authors run on one GPU. `teacher`,
`assistant` and `start` are folders, as runs and `distill convert` write them.
"""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np

from distill.datasets.photographs import open_photographs
from distill.loading import Batches, Mixture, batches
from distill.losses.context_normalised import context_normalised
from distill.losses.gradient_matching import gradient_matching
from distill.models.depth_anything import DepthAnything, depth_anything, load_depth_anything
from distill.objectives.cross_context import CrossContext, LocalCrops
from distill.objectives.terms import Term
from distill.train import TrainJob
from distill.transforms import crop, mirror, resize
from distill.types import Sample
from recipes.choices import Descent, Features, Length
from recipes.sets import Watched

PHOTOS, TEACHER = Path("photos"), Path("models/depth_anything_v2_vitl")
CONTEXTS = {"global": (1,), "local": (4,), "hybrid": (1, 2, 4), "none": ()}
Teacher = Annotated[Path, "section 4.1: Depth Anything V2 L", "any Depth Anything"]
Assistant = Annotated[
    Path | None, "section 4.1: GenPercept, whose diffusion is not had here", "any Depth Anything"
]
Start = Annotated[
    Path | None,
    "Depth Anything V2 of the same size, as their demo models",
    "none: from DINOv2",
]
NewHead = Annotated[
    bool, "their demo models keep it", "true: table 5, V2's encoder under a new head"
]
Dinov2 = Annotated[str, "V1 section 3.3: the student's size"]
Normalisation = Literal["global", "local", "hybrid", "none"]


@dataclass(frozen=True, kw_only=True)
class Distilled:
    """The numbers of Distill-Any-Depth; sections and tables are its own."""

    length: Length
    size: Annotated[int, "section 4.1: 560, 40 patches"] = 560
    smallest: Annotated[int, "section 4.1: crops from 644 to the short side"] = 644
    flip: Annotated[float, "V2 section 7.1; not told here"] = 0.5
    normalisation: Annotated[
        Normalisation, "table 1: best in the shared context", "global: Depth Anything's"
    ] = "hybrid"
    shared: Annotated[float, "section 3.2, equation 9"] = 1.0
    local: Annotated[float, "section 4.1", "0: no local contexts"] = 0.5
    local_normalisation: Annotated[
        Normalisation, "table 1: best in local contexts", "global: Depth Anything's"
    ] = "hybrid"
    parts: Annotated[int, "ours; section 3.2 has N of them"] = 2
    part_side: Annotated[
        tuple[float, float],
        "ours: shares of the picture's side, smallest and largest; each is seen at `size`",
        "0.5,0.5: section 4.1, patches of 560 x 560, if `zoom` is the scale they are cut at",
    ] = (0.5, 0.75)
    zoom: Annotated[
        int, "ours: parts are cut from a picture so many times as large; section 4.1: silent"
    ] = 2
    primary: Annotated[float, "section 4.1, selected 7:3; used with an assistant"] = 0.7
    gradient: Annotated[float, "section 4.1: 2.0, as V2"] = 2.0
    scales: Annotated[int, "Ranftl et al. 2020; not told here"] = 4
    features: Features
    descent: Descent
    watched: Watched


NUMBERS = Distilled(
    length=Length(batch_size=8, steps=20_000),
    features=Features(feature=1.0),
    descent=Descent(),
    watched=Watched(),
)


def vits(
    data: Path | str = PHOTOS,
    *,
    teacher: Teacher = TEACHER,
    assistant: Assistant = None,
    start: Start = Path("models/depth_anything_v2_vits"),
    new_head: NewHead = False,
    dinov2: Dinov2 = "facebook/dinov2-small",
    numbers: Distilled = NUMBERS,
) -> TrainJob:
    """Student S of Depth Anything V2's teacher L, on photographs without labels.

    20 000 steps of 8; the authors' 200 000 images of SA-1B took one V100. Their measured gains are
    partly of protocol: compare students by one protocol of your own.

    distill run recipes.distill_any_depth:vits --data photos --out runs/student
    """
    begin = _begin("vits", start, dinov2, new_head)
    return _student(begin, data, teacher, assistant, dinov2, numbers)


def vitb(
    data: Path | str = PHOTOS,
    *,
    teacher: Teacher = TEACHER,
    assistant: Assistant = None,
    start: Start = Path("models/depth_anything_v2_vitb"),
    new_head: NewHead = False,
    dinov2: Dinov2 = "facebook/dinov2-base",
    numbers: Distilled = NUMBERS,
) -> TrainJob:
    """Student B.

    distill run recipes.distill_any_depth:vitb --data photos --out runs/student_b
    """
    begin = _begin("vitb", start, dinov2, new_head)
    return _student(begin, data, teacher, assistant, dinov2, numbers)


def vitl(
    data: Path | str = PHOTOS,
    *,
    teacher: Teacher = TEACHER,
    assistant: Assistant = None,
    start: Start = TEACHER,
    new_head: NewHead = False,
    dinov2: Dinov2 = "facebook/dinov2-large",
    numbers: Distilled = NUMBERS,
) -> TrainJob:
    """Student L, of its teacher's size.

    distill run recipes.distill_any_depth:vitl --data photos --out runs/student_l
    """
    begin = _begin("vitl", start, dinov2, new_head)
    return _student(begin, data, teacher, assistant, dinov2, numbers)


def tiny(data: Path | str = PHOTOS, *, teacher: Path = TEACHER) -> TrainJob:
    """Two steps of a small student from scratch: proves that the recipe runs."""
    length = Length(batch_size=2, steps=2)
    small = {"size": 24, "smallest": 30, "parts": 1, "features": Features(feature=0.0)}
    numbers = replace(NUMBERS, length=length, **small)
    made = _student(partial(depth_anything, "tiny"), data, teacher, None, None, numbers)
    return replace(made, workers=0)


def _begin(size: str, start: Path | None, dinov2: str, new_head: bool) -> partial[DepthAnything]:
    if start is None or new_head:
        return partial(depth_anything, size, encoder=dinov2 if start is None else start)
    return partial(load_depth_anything, start)


def _student(
    begin: partial[DepthAnything],
    data: Path | str,
    teacher: Path,
    assistant: Path | None,
    dinov2: str | None,
    numbers: Distilled,
) -> TrainJob:
    folders = [teacher] if assistant is None else [teacher, assistant]
    return TrainJob(
        objective=partial(
            CrossContext,
            begin,
            [partial(load_depth_anything, folder) for folder in folders],
            _shared(numbers),
            size=numbers.size,
            local=_local(numbers),
            chances=None if assistant is None else (numbers.primary, 1 - numbers.primary),
            feature=numbers.features.term(),
            encoder=numbers.features.frozen(dinov2),
        ),
        batches=partial(_photographs, data, _transform(numbers)),
        batch_size=numbers.length.batch_size,
        steps=numbers.length.steps,
        workers=8,
        **numbers.descent.fields(),
        **numbers.watched.fields(),
    )


def _shared(numbers: Distilled) -> list[Term]:
    edges = partial(gradient_matching, scales=numbers.scales)
    shared = Term("shared", numbers.shared, _by(numbers.normalisation))
    return [shared, *([Term("gradient", numbers.gradient, edges)] if numbers.gradient else [])]


def _local(numbers: Distilled) -> LocalCrops | None:
    if not numbers.local:
        return None
    term = Term("local", numbers.local, _by(numbers.local_normalisation))
    return LocalCrops(term=term, count=numbers.parts, side=numbers.part_side)


def _by(normalisation: Normalisation) -> partial[Any]:
    return partial(context_normalised, levels=CONTEXTS[normalisation])


def _transform(numbers: Distilled) -> partial[Sample]:
    side = numbers.zoom * numbers.size
    return partial(_square, smallest=numbers.smallest, side=side, flip=numbers.flip)


def _photographs(images: Path | str, transform: Any, **place: Any) -> Batches:
    return batches(Mixture([(open_photographs(images), None)]), transform=transform, **place)


def _square(
    sample: Sample, rng: np.random.Generator, *, smallest: int, side: int, flip: float
) -> Sample:
    """A random square, its side uniform from `smallest` to the short side; mirrored or not."""
    height, width = sample.image.shape[-2:]
    short = min(height, width)
    length = int(rng.integers(min(smallest, short), short + 1))
    top, left = int(rng.integers(height - length + 1)), int(rng.integers(width - length + 1))
    sample = crop(sample, top=top, left=left, height=length, width=length)
    sample = resize(sample, height=side, width=side)
    return mirror(sample) if rng.random() < flip else sample
