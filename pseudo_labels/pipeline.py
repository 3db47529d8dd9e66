"""Reading, asking, encoding and writing at once; the shards come out as if done one by one.

Threads read images ahead, across the ends of shards. This thread alone asks the teacher, in
batches that a shard's own images determine: images of one prepared size, in the order of the keys.
Other threads encode the maps, and one more commits a shard when its last map is encoded.
"""

import collections
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby

import torch
from jaxtyping import Float
from torch import Tensor

from distill.job import Interrupted
from distill.labels.encoded import EncodedLabel
from pseudo_labels.predictor import Answer

Asked = Callable[[], Answer]
"""Waits until the answer is there, in host memory, and gives it; as often as it is called."""


@dataclass(frozen=True, kw_only=True)
class Read:
    """An image that was read, or the reason why it could not be.

    Attributes:
        key: of the image.
        views: the teachers' inputs; None when there is a reason.
        image_size: (height, width) in the file.
        image_sha256: of the file's bytes, where there is a file.
        reason: why there will be no label.
    """

    key: str
    views: tuple[Float[Tensor, "3 _ _"], ...] | None = None
    image_size: tuple[int, int] = (0, 0)
    image_sha256: bytes | None = None
    reason: str | None = None


@dataclass(frozen=True)
class Steps:
    """What the pipeline does with an image, a batch, a map and a shard.

    Attributes:
        read: index of an image -> its teachers' inputs; in many threads.
        ask: the views of each image of a batch -> its answer; in the calling thread.
        encode: image, answer of its batch, its place there -> label, or the reason why there is
            none; in many threads.
        commit: number, labels in the order of their keys, reasons by key; in one thread.
        progress: images that the teacher has seen since the last call.
    """

    read: Callable[[int], Read]
    ask: Callable[[Sequence[tuple[Float[Tensor, "3 _ _"], ...]]], Asked]
    encode: Callable[[Read, Asked, int], EncodedLabel | str]
    commit: Callable[[int, list[EncodedLabel], Mapping[str, str]], None]
    progress: Callable[[int], object]


Encoded = tuple[str, "Future[EncodedLabel | str]"]


def label_shards(
    shards: Iterable[tuple[int, range]],
    steps: Steps,
    *,
    batch_size: int,
    workers: int,
    stop: threading.Event,
) -> None:
    """Label shards, each a number and the indices of its images; taken as they are needed.

    Args:
        shards: may be a generator that claims each shard when it is asked for.
        steps: what is done.
        batch_size: images of one size that the teacher sees at once.
        workers: threads that read, and as many that encode.
        stop: when set, what is not committed is given up.

    Raises:
        Interrupted: `stop` is set.
    """
    with (
        ThreadPoolExecutor(workers, "read") as readers,
        ThreadPoolExecutor(workers, "encode") as encoders,
        ThreadPoolExecutor(1, "commit") as committer,
    ):
        try:
            _check(stop)
            commits: collections.deque[Future[None]] = collections.deque()
            images = _ahead(readers, steps.read, shards, 2 * batch_size + workers)
            for number, members in groupby(images, key=lambda image: image[0]):
                encoded: list[Encoded] = []
                reasons: dict[str, str] = {}
                _check(stop)
                for batch in batches((read for _, read in members), batch_size, reasons):
                    _check(stop)
                    encoded += _ask(batch, steps, encoders)
                    if len(encoded) > 4 * batch_size:  # so that maps do not pile up
                        encoded[-4 * batch_size][1].result()
                commits.append(committer.submit(_commit, steps, number, encoded, reasons))
                while len(commits) > 2:
                    commits.popleft().result()
            for commit in commits:
                commit.result()
        except BaseException:
            for pool in (readers, encoders, committer):
                pool.shutdown(wait=False, cancel_futures=True)
            raise


def batches(
    images: Iterable[Read], batch_size: int, reasons: dict[str, str]
) -> Iterator[list[Read]]:
    """Batches of one prepared size each, a function of the images alone; the last are smaller.

    Images without views are noted in `reasons`.
    """
    waiting: dict[tuple[torch.Size, ...], list[Read]] = {}
    for image in images:
        if image.views is None:
            reasons[image.key] = image.reason or "no views"
            continue
        size = tuple(view.shape for view in image.views)
        waiting.setdefault(size, []).append(image)
        if len(waiting[size]) == batch_size:
            yield waiting.pop(size)
    yield from (waiting[size] for size in sorted(waiting))


def _ahead(
    pool: ThreadPoolExecutor,
    read: Callable[[int], Read],
    shards: Iterable[tuple[int, range]],
    ahead: int,
) -> Iterator[tuple[int, Read]]:
    """All images in order with the number of their shard; up to `ahead` are being read."""
    pending: collections.deque[tuple[int, Future[Read]]] = collections.deque()
    for number, indices in shards:
        for index in indices:
            pending.append((number, pool.submit(read, index)))
            if len(pending) > ahead:
                shard, future = pending.popleft()
                yield shard, future.result()
    for shard, future in pending:
        yield shard, future.result()


def _ask(batch: list[Read], steps: Steps, encoders: ThreadPoolExecutor) -> list[Encoded]:
    asked = steps.ask([image.views for image in batch if image.views is not None])
    steps.progress(len(batch))
    return [
        (image.key, encoders.submit(steps.encode, image, asked, n)) for n, image in enumerate(batch)
    ]


def _commit(steps: Steps, number: int, encoded: list[Encoded], reasons: dict[str, str]) -> None:
    results = [(key, future.result()) for key, future in encoded]
    labels = [result for _, result in results if isinstance(result, EncodedLabel)]
    faults = {key: result for key, result in results if isinstance(result, str)}
    steps.commit(number, sorted(labels, key=lambda label: label.key), reasons | faults)


def _check(stop: threading.Event) -> None:
    if stop.is_set():
        raise Interrupted("stopped by SIGTERM; committed shards are kept, go on with --resume")
