"""Label stores: a teacher's depth for every photograph of a folder.

A teacher whose kind of model does not tell what its numbers mean needs `--set space=`, such as
`space=AFFINE_DISPARITY` or `space=METRIC_DEPTH`.
"""

from functools import partial
from pathlib import Path

from distill.datasets.photographs import open_photographs
from pseudo_labels.generate import LabelJob
from pseudo_labels.strategies.plain import plain as plain_strategy
from pseudo_labels.strategies.tta import flip as flip_strategy

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
