"""Label stores: a teacher's depth for every photograph of a folder.

A teacher whose kind of model does not tell what its numbers mean needs `--set space=`, such as
`space=AFFINE_DISPARITY` or `space=METRIC_DEPTH`.
"""

from functools import partial
from pathlib import Path
from typing import Annotated

from distill.datasets.photographs import open_photographs
from pseudo_labels.generate import LabelJob
from pseudo_labels.semantics import with_semantics
from pseudo_labels.strategies.council import council as council_strategy
from pseudo_labels.strategies.cross_context import cross_context as cross_context_strategy
from pseudo_labels.strategies.edges import edges
from pseudo_labels.strategies.multi_scale import multi_scale as multi_scale_strategy
from pseudo_labels.strategies.plain import plain as plain_strategy
from pseudo_labels.strategies.tta import flip as flip_strategy

TEACHERS = "depth-anything/Depth-Anything-V2-Large-hf, apple/DepthPro-hf, Intel/zoedepth-nyu-kitti"
PHOTOS, TEACHER = Path("photos"), "runs/teacher/model"


def plain(data: Path | str = PHOTOS, *, teacher: str = TEACHER) -> LabelJob:
    """One look at each image, as Depth Anything V2 labels.

    `data` is a folder of images, tar shards, Parquet files, LMDB folders or videos, or a URL.

    distill run recipes.labels:plain --data photos --out runs/labels
    """
    return LabelJob(
        images=partial(open_photographs, data), teacher=teacher, strategy=plain_strategy
    )


def flip(data: Path | str = PHOTOS, *, teacher: str = TEACHER) -> LabelJob:
    """The mean of two mirrored looks; how well they agree is stored as confidence.

    distill run recipes.labels:flip --data photos --out runs/labels
    """
    return LabelJob(images=partial(open_photographs, data), teacher=teacher, strategy=flip_strategy)


def multi_scale(data: Path | str = PHOTOS, *, teacher: str = TEACHER) -> LabelJob:
    """The median of looks at 3/4, 1 and 5/4 of the teacher's size; confidence is their agreement.

    distill run recipes.labels:multi_scale --data photos --out runs/labels
    """
    images = partial(open_photographs, data)
    return LabelJob(images=images, teacher=teacher, strategy=multi_scale_strategy)


def council(data: Path | str = PHOTOS, *, teachers: str = TEACHERS) -> LabelJob:
    """The median of several teachers, of any kind, each the mean of two mirrored looks.

    `teachers` are directories or hub ids with commas between. Confidence is their agreement; how
    well edges lie on the image's is stored as well.

    distill run recipes.labels:council --data photos --out runs/labels
    """
    return LabelJob(
        images=partial(open_photographs, data),
        teacher=tuple(name.strip() for name in teachers.split(",")),
        strategy=partial(edges, inner=partial(council_strategy, inner=flip_strategy)),
    )


def cross_context(
    data: Path | str = PHOTOS,
    *,
    teacher: str = TEACHER,
    grid: Annotated[int, "our own; 2 for maps 1.5 times as large, 3 for twice"] = 3,
) -> LabelJob:
    """The whole image and overlapping parts of it in one map, larger than the teacher's own.

    distill run recipes.labels:cross_context --data photos --out runs/labels
    """
    return LabelJob(
        images=partial(open_photographs, data),
        teacher=teacher,
        strategy=partial(edges, inner=partial(cross_context_strategy, grid=grid)),
    )


def sky(
    data: Path | str = PHOTOS,
    *,
    teacher: str = TEACHER,
    finder: str = "IDEA-Research/grounding-dino-tiny",
    masks: str = "syscv-community/sam-hq-vit-base",
    tagger: str | None = None,
) -> LabelJob:
    """One look at each image; sky, found by Grounding DINO and cut out by HQ-SAM, is far.

    `finder` may be an official .pth, such as groundingdino_swint_ogc.pth, with the extra
    `[semantic]`. With a `tagger`, such as google/siglip2-base-patch16-224, sky is looked for only
    where it sees some. More classes: `partial(with_semantics, ..., classes=("mirror", "window"))`.

    distill run recipes.labels:sky --data photos --out runs/labels
    """
    return LabelJob(
        images=partial(open_photographs, data),
        teacher=teacher,
        strategy=partial(with_semantics, finder=finder, masks=masks, tagger=tagger),
    )
