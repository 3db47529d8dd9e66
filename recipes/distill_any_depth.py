"""Students that ask their teachers anew at every step. He et al. 2025 (Distill-Any-Depth).

No label store: the teachers are networks in the loop, which the authors run on one GPU. `teacher`,
`assistant` and `start` are folders, as runs and `distill convert` write them.
"""

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from distill.datasets.photographs import open_photographs
from distill.datasets.rgb_depth_folder import RgbDepthFolder
from distill.evaluation.validation import HeldOut, pictures
from distill.loading import Batches, Mixture, batches
from distill.losses.context_normalised import context_normalised
from distill.losses.feature_alignment import feature_alignment
from distill.losses.gradient_matching import gradient_matching
from distill.models.depth_anything import depth_anything, load_depth_anything
from distill.models.dinov2 import FrozenDinov2
from distill.objectives.cross_context import CrossContext, LocalCrops
from distill.objectives.terms import Term
from distill.optim import polynomial
from distill.train import TrainJob
from distill.transforms import crop, mirror, resize
from distill.types import Sample

PHOTOS, TEACHER = Path("photos"), Path("models/depth_anything_v2_vitl")
RATES = {"encoder": 5e-6, "head": 5e-5}  # decoder: section 4; encoder: V2 section 7.1
LEVELS = (1, 2, 4)  # hybrid normalisation, best in both contexts of table 1


def vits(
    data: Path | str = PHOTOS,
    *,
    teacher: Path = TEACHER,
    assistant: Annotated[Path | None, "GenPercept in section 3; any Depth Anything here"] = None,
    primary: Annotated[float, "section 3, select 7 : 3; used with an assistant"] = 0.7,
    start: Annotated[Path | None, "as their demo models; none: from DINOv2, as table 5"] = Path(
        "models/depth_anything_v2_vits"
    ),
    dinov2: Annotated[str, "V1 section 3.3: the student's size"] = "facebook/dinov2-small",
    size: Annotated[int, "section 4: 560, 40 patches"] = 560,
    smallest: Annotated[int, "section 4: crops from 644 to the short side"] = 644,
    zoom: Annotated[int, "our own; parts are cut from a picture this many times as large"] = 2,
    parts: Annotated[int, "our own; the paper gives no number"] = 2,
    local: Annotated[float, "section 3: 0.5; 0 leaves local contexts out"] = 0.5,
    feature: Annotated[float, "section 4: 1.0, as V2"] = 1.0,
    gradient: Annotated[float, "section 4: 2.0, as V2"] = 2.0,
    held_out: Path | None = None,
) -> TrainJob:
    """Student S of Depth Anything V2's teacher L, on photographs without labels.

    20 000 steps of 8; the authors' 200 000 images of SA-1B took one V100. Their measured gains are
    partly of protocol: compare students by one protocol of your own.

    distill run recipes.distill_any_depth:vits --data photos --out runs/student
    """
    begin = (
        partial(depth_anything, "vits", encoder=dinov2)
        if start is None
        else partial(load_depth_anything, start)
    )
    folders = [teacher] if assistant is None else [teacher, assistant]
    crops = LocalCrops(term=Term("local", local, _context), count=parts)
    watched = HeldOut(open=partial(RgbDepthFolder, held_out, name="held_out")) if held_out else None
    return TrainJob(
        objective=partial(
            CrossContext,
            begin,
            [partial(load_depth_anything, folder) for folder in folders],
            [Term("shared", 1.0, _context), Term("gradient", gradient, gradient_matching)],
            size=size,
            local=crops if local > 0 else None,
            chances=None if assistant is None else (primary, 1 - primary),
            feature=Term("feature", feature, partial(feature_alignment, tolerance=0.15)),
            encoder=partial(FrozenDinov2, dinov2),
        ),
        batches=partial(_photographs, data, smallest, zoom * size),
        validation=watched,
        pictures=partial(pictures, watched) if watched else None,
        batch_size=8,  # section 4
        steps=20_000,  # section 4
        lr=partial(polynomial, rates=RATES, power=0.9),  # V2's; the paper says nothing of it
        workers=8,
    )


_context = partial(context_normalised, levels=LEVELS)


def _photographs(images: Path | str, smallest: int, side: int, **where: Any) -> Batches:
    mixture = Mixture([(open_photographs(images), None)])
    return batches(mixture, transform=partial(_square, smallest=smallest, side=side), **where)


def _square(sample: Sample, rng: np.random.Generator, *, smallest: int, side: int) -> Sample:
    """A random square, its side uniform from `smallest` to the short side; mirrored or not."""
    height, width = sample.image.shape[-2:]
    short = min(height, width)
    length = int(rng.integers(min(smallest, short), short + 1))
    top, left = int(rng.integers(height - length + 1)), int(rng.integers(width - length + 1))
    sample = crop(sample, top=top, left=left, height=length, width=length)
    sample = resize(sample, height=side, width=side)
    return mirror(sample) if rng.random() < 0.5 else sample
