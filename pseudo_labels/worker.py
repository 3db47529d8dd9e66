"""One process' part of a label job: claim a shard, label it, commit it, until none is left."""

import hashlib
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from distill.datasets.images import read_size
from distill.labels.codec import Codec
from distill.labels.encoded import EncodedLabel, encode_label
from distill.labels.meta import StoreMeta
from distill.labels.planes import Planes
from distill.labels.shards import committed, read_report, write_shard
from distill.types import Dataset, Encoded, Prediction
from pseudo_labels.claims import Claims
from pseudo_labels.defects import map_defect
from pseudo_labels.guards import Guards, Zeros, zeros_of, zeros_reported
from pseudo_labels.pipeline import Asked, Read, Steps, label_shards
from pseudo_labels.predictor import Asker, views_of_file
from pseudo_labels.quarantine import Quarantine, is_of_the_image
from pseudo_labels.transfer import to_device, to_host

log = logging.getLogger(__name__)

_PAUSE = 0.5  # seconds between two looks at the shards that other processes hold


@dataclass(kw_only=True)
class Worker:
    """Labels shards of the store at `out` until all are committed, by whomever.

    Attributes:
        out: the store; its `store.json` is written.
        meta: what it says.
        images: the data set.
        order: indices of its images by sorted key; shard n has the n-th `meta.shard_size` of them.
        asker: the teachers, on `device`, and how they are asked.
        device: where batches go.
        codec: how maps become bytes.
        batch_size: images of one size that the teachers see at once.
        workers: threads that read, and as many that encode.
        image_defect: height and width -> why such an image is not labelled, or None.
        guards: what stops the job.
        stop: set by SIGTERM.
        shows_progress: True for one process of a launch.
    """

    out: Path
    meta: StoreMeta
    images: Dataset
    order: Sequence[int]
    asker: Asker
    device: torch.device
    codec: Codec
    batch_size: int
    workers: int
    image_defect: Callable[[int, int], str | None]
    guards: Guards
    stop: threading.Event
    shows_progress: bool
    _counted: set[int] = field(default_factory=set[int], init=False)
    _zeros: Zeros = field(default_factory=Zeros, init=False)

    def fill(self) -> None:
        """Label what is missing.

        Raises:
            Interrupted: `stop` was set.
            GuardStop: from `guards`.
        """
        with (
            Claims(self.out) as claims,
            tqdm(total=self.meta.keys, unit="image", disable=not self.shows_progress) as bar,
        ):
            commit = partial(self._commit, Quarantine(self.out, claims))
            steps = Steps(self._read, self._ask, self._encode, commit, bar.update)
            while missing := self._missing(bar):
                shards = ((number, self._members(number)) for number in claims.free(missing))
                label_shards(
                    shards,
                    steps,
                    batch_size=self.batch_size,
                    workers=self.workers,
                    stop=self.stop,
                )
                if self._missing(bar) == missing:  # all of them are in other hands
                    self.stop.wait(_PAUSE)

    def _missing(self, bar: "tqdm[Any]") -> list[int]:
        present = committed(self.out)
        bar.n = sum(len(self._members(number)) for number in present)
        bar.refresh()
        return sorted(set(range(self.meta.shards)) - set(present))

    def _members(self, number: int) -> range:
        """Positions in `order`."""
        start = number * self.meta.shard_size
        return range(start, min(start + self.meta.shard_size, self.meta.keys))

    def _read(self, position: int) -> Read:
        index = self.order[position]
        key = self.images.key(index)
        try:
            return self._prepared(index, key)
        except (ValueError, OSError) as error:
            missing = isinstance(error, FileNotFoundError)
            if is_of_the_image(error) and not (missing and self._is_gone()):
                return Read(key=key, reason=str(error))
            raise OSError(
                f"{error}; the job stops before {key}: committed shards are kept, go on with "
                "--resume once the source can be reached"
            ) from error

    def _prepared(self, index: int, key: str) -> Read:
        if isinstance(self.images, Encoded):
            data = self.images.encoded(index)
            digest = hashlib.sha256(data).digest()
            if reason := self.image_defect(*read_size(data, name=key)):
                return Read(key=key, reason=reason)
            views, size = views_of_file(self.asker, data, name=key)
            return Read(key=key, views=views, image_size=size, image_sha256=digest)
        image = _to_pil(self.images[index].image)
        size = (image.height, image.width)
        if reason := self.image_defect(*size):
            return Read(key=key, reason=reason)
        return Read(key=key, views=self.asker.views(image), image_size=size)

    def _is_gone(self) -> bool:
        """Whether images from all over the set are missing, as when a mount is gone."""
        last = len(self.order) - 1
        for position in (0, last // 2, last):
            try:
                _ = self.images[self.order[position]]
            except FileNotFoundError:
                continue
            except (ValueError, OSError):
                pass
            return False
        return True

    @torch.inference_mode()
    def _ask(self, views: Sequence[tuple[Float[Tensor, "3 _ _"], ...]]) -> Asked:
        return to_host(self.asker.ask(to_device(views, self.device)))

    @torch.inference_mode()
    def _encode(self, image: Read, asked: Asked, place: int) -> EncodedLabel | str:
        answer = asked()
        values = answer.values[place]
        reason = map_defect(values)
        if reason is not None:
            return reason

        def here(plane: Tensor | None) -> Tensor | None:
            return None if plane is None else plane[place]

        sure = here(answer.confidence)
        return encode_label(
            image.key,
            Prediction(
                values=values,
                space=self.asker.space,
                confidence=None if sure is None else float(sure.mean()),
            ),
            codec=self.codec,
            image_size=image.image_size,
            planes=Planes(confidence=sure, far=here(answer.far), classes=here(answer.classes)),
            agreement={name: float(entry[place]) for name, entry in answer.agreement.items()},
            image_sha256=image.image_sha256,
        )

    def _commit(
        self,
        quarantine: Quarantine,
        number: int,
        labels: list[EncodedLabel],
        reasons: Mapping[str, str],
    ) -> None:
        quarantine.add(reasons, check=self.guards.check_quarantined)
        self.guards.check_zeros(self._zeros_so_far() + zeros_of(labels, reasons))
        write_shard(self.out, number, labels, quarantined=reasons)
        log.info("labels-%05d: %d labels, %d quarantined", number, len(labels), len(reasons))

    def _zeros_so_far(self) -> Zeros:
        """Of all committed shards, by whomever; every index is read once."""
        for number in set(committed(self.out)) - self._counted:
            self._zeros += zeros_reported(read_report(self.out, number))
            self._counted.add(number)
        return self._zeros


def _to_pil(image: Float[Tensor, "3 h w"]) -> Image.Image:
    return Image.fromarray((image * 255).round().byte().permute(1, 2, 0).numpy())
