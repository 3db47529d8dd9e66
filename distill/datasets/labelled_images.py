"""Which images have a label: a data set and a store, both sorted by key, walked side by side."""

import itertools
import logging
from array import array
from collections.abc import Container, Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64

from distill.labels.store import LabelStore
from distill.types import Dataset

_logger = logging.getLogger(__name__)


def labelled_images(
    images: Dataset,
    store: LabelStore,
    *,
    partial: bool,
    where: str | None,
    leave_out: Container[str],
) -> Int64[np.ndarray, " n"]:
    """Indices of the images that have a label which is wanted, ascending.

    Args:
        images: sorted by key.
        store: of their labels; what it put aside needs none.
        partial: images without label and labels without image are left out, with a warning.
        where: a condition on labels; see `LabelStore.matching`.
        leave_out: keys.

    Raises:
        ValueError: an image has no label, or a label no image, and not `partial`; or nothing is
            left; or `where` is no condition.
    """
    rows, bare, strangers = _join(images, store.keys(), store.quarantined())
    if len(rows) == 0 or ((bare.count or strangers.count) and not partial):
        raise ValueError(
            f"{images.name}: {bare.count} of {len(images)} images have no label in "
            f"{store.path}{bare.such_as}, {strangers.count} labels there have no image"
            f"{strangers.such_as}; label these images into a store of their own (`make "
            "pseudolabel`), or use those that match: PseudoLabelled(..., partial=True), which "
            "is --set matching=True of recipes.student"
        )
    if bare.count or strangers.count:
        _logger.warning(
            "%s: left out are %d images without label%s and %d labels without image%s",
            *(images.name, bare.count, bare.such_as, strangers.count, strangers.such_as),
        )
    wanted = rows
    if where is not None:
        names = itertools.compress(store.keys(), store.matching(where))
        wanted = _join(images, names, ())[0]
    if leave_out:
        wanted = np.array([row for row in wanted if images.key(int(row)) not in leave_out], int)
    if len(wanted) == 0:
        raise ValueError(
            f"{store.path}: none of {len(rows)} labels is left by where={where!r} and what is to "
            "be left out; look at them with `distill labels query`"
        )
    if len(wanted) < len(rows):
        _logger.info("%s: %d of %d labels are used", store.path, len(wanted), len(rows))
    return wanted


@dataclass
class _Alone:
    """Keys without a partner: how many, and the first."""

    count: int = 0
    first: str = ""

    def add(self, key: str) -> None:
        self.count, self.first = self.count + 1, self.first or key

    @property
    def such_as(self) -> str:
        return f" ({self.first}{', ...' if self.count > 1 else ''})" if self.count else ""


def _join(
    images: Dataset, labelled: Iterable[str], aside: Container[str]
) -> tuple[Int64[np.ndarray, " n"], _Alone, _Alone]:
    """The images that have a label; those that have none nor are put `aside`; labels without image.

    Images and labels come sorted by key.
    """
    keys, rows, bare, strangers = iter(labelled), array("q"), _Alone(), _Alone()
    label = next(keys, None)
    for i in range(len(images)):
        key = images.key(i)
        while label is not None and label < key:
            strangers.add(label)
            label = next(keys, None)
        if label == key:
            rows.append(i)
            label = next(keys, None)
        elif key not in aside:
            bare.add(key)
    for left in itertools.chain([] if label is None else [label], keys):
        strangers.add(left)
    return np.array(rows, dtype=np.int64), bare, strangers
