"""Photographs joined with a teacher's labels: images and a store make one labelled data set."""

from collections.abc import Container
from pathlib import Path

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from distill.datasets import images as files
from distill.datasets.labelled_images import labelled_images
from distill.labels.store import Label, LabelStore
from distill.types import Dataset, Encoded, Sample, Space


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
        self._rows = labelled_images(
            images, self.store, partial=partial, where=where, leave_out=leave_out
        )

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
