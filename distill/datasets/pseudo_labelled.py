"""Photographs joined with a teacher's labels: images and a store make one labelled data set."""

import itertools
import logging
from array import array
from collections.abc import Container, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from distill.datasets import images as files
from distill.labels.store import Label, LabelStore
from distill.types import Dataset, Encoded, Sample, Space

_logger = logging.getLogger(__name__)


class PseudoLabelled:
    """The images that have a label, each at the size of its label, with the teacher's numbers.

    Images that the label job put aside as unusable are left out. The space of the targets is the
    store's; `K` stays unknown. `images` and `store` stay readable as attributes, the store open.

    Args:
        images: as they were labelled, under the same name, in the order of their keys.
        store: what `make pseudolabel` wrote.
        partial: serve what is there of an unfinished store or of a part of the images.
        where: serve only labels that this condition holds for, such as `confidence > 0.8 and
            image_width >= 1024`; see `LabelStore.matching`.
        leave_out: keys that are not served, such as those that the firewall suspects.
        reduced: decode a JPEG that is much larger than its label at a fraction of its size
            (`images.read_sized`); False decodes all of it, as the teacher's preprocessing does.

    Raises:
        FileNotFoundError: `store` holds no store.
        ValueError: an image has no label, or a label no image, and not `partial`; or nothing is
            left; or `where` is no condition.
    """

    def __init__(
        self,
        images: Dataset,
        store: Path,
        *,
        partial: bool = False,
        reduced: bool = True,
        where: str | None = None,
        leave_out: Container[str] = (),
    ) -> None:
        self.name, self.images, self._reduced = images.name, images, reduced
        self.store = LabelStore(store, allow_incomplete=partial)
        rows, bare, strangers = _join(images, self.store.keys(), self.store.quarantined())
        self._rows = self._chosen(rows, where, leave_out)
        if len(rows) == 0 or ((bare.count or strangers.count) and not partial):
            raise ValueError(
                f"{self.name}: {bare.count} of {len(images)} images have no label in "
                f"{store}{bare.such_as}, {strangers.count} labels there have no image"
                f"{strangers.such_as}; label these images into a store of their own (`make "
                "pseudolabel`), or use those that match: PseudoLabelled(..., partial=True), which "
                "is --set matching=True of recipes.student"
            )
        if bare.count or strangers.count:
            _logger.warning(
                "%s: left out are %d images without label%s and %d labels without image%s",
                *(self.name, bare.count, bare.such_as, strangers.count, strangers.such_as),
            )

        if len(self._rows) == 0:
            raise ValueError(
                f"{store}: none of {len(rows)} labels is left by where={where!r} and what is to be "
                "left out; look at them with `distill labels query`"
            )
        if len(self._rows) < len(rows):
            _logger.info("%s: %d of %d labels are used", store, len(self._rows), len(rows))

    def __len__(self) -> int:
        return len(self._rows)

    def key(self, index: int) -> str:
        """The key of sample `index`, without reading it."""
        return self.images.key(int(self._rows[index]))

    def __getitem__(self, index: int) -> Sample:
        """Read image and label; the image at the label's size, by OpenCV's bicubic kernel.

        Raises:
            ValueError: image or label is damaged or gone, or the image is not the one that was
                labelled.
        """
        key = self.key(index)
        try:
            label = self.store.read(key)
        except KeyError as error:
            raise ValueError(f"{key}: no label in {self.store.path} any more") from error
        image, size = self._image(index, label.valid.shape)
        if size != label.image_size:
            raise ValueError(
                f"{key}: is {size} now and was {label.image_size} when it was labelled for "
                f"{self.store.path}; label it again"
            )
        target, valid, far = _with_sky(label)
        return Sample(
            key=key,
            image=image,
            target=target,
            valid=valid,
            far=far,
            confidence=label.planes.confidence,
            space=label.prediction.space,
            pseudo_label=True,
        )

    def encoded(self, index: int) -> bytes:
        """The image's own bytes, where its data set has them."""
        assert isinstance(self.images, Encoded), f"{self.name} has no files"
        return self.images.encoded(int(self._rows[index]))

    def _chosen(
        self, rows: Int64[np.ndarray, " n"], where: str | None, leave_out: Container[str]
    ) -> Int64[np.ndarray, " m"]:
        if where is not None:
            mask = self.store.matching(where)
            names = itertools.compress(self.store.keys(), mask)
            rows = np.intersect1d(rows, _join(self.images, names, ())[0], assume_unique=True)
        keys = ((self.images.key(int(row)) not in leave_out) for row in rows)
        return rows[np.fromiter(keys, bool, len(rows))] if leave_out else rows

    def _image(
        self, index: int, shape: torch.Size
    ) -> tuple[Float[Tensor, "3 h w"], tuple[int, int]]:
        """At the label's shape; and its whole (height, width)."""
        height, width = shape
        if isinstance(self.images, Encoded):
            data, key = self.encoded(index), self.key(index)
            return files.read_sized(data, height, width, name=key, reduced=self._reduced)
        image = self.images[int(self._rows[index])].image
        whole = (image.shape[1], image.shape[2])
        return image if whole == (height, width) else files.resized(image, height, width), whole


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


def _with_sky(
    label: Label,
) -> tuple[Float[Tensor, "h w"], Bool[Tensor, "h w"], Bool[Tensor, "h w"] | None]:
    """Target, `valid` and `far` of a label in whose image sky was looked for.

    Disparity of unknown shift has no number for infinity but the one that its teacher would have
    given: 0, where a ReLU ends the network (Yang et al. 2024a, section 3.1: sky is 0), and never
    more than the farthest other pixel. In other spaces sky is marked, for `geometry.to_space`.
    """
    values, valid, far = label.prediction.values, label.valid, label.planes.far
    values = torch.where(valid, values, torch.nan)
    if far is None:
        return values, valid, None
    ground = valid & ~far
    if label.prediction.space is Space.AFFINE_DISPARITY:
        lowest = values[ground].min() if bool(ground.any()) else values.new_zeros(())
        return torch.where(far, lowest.clamp(max=0), values), valid | far, None
    return values.masked_fill(far, torch.nan), ground, far


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
