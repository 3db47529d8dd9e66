"""What `distill labels` answers: whether a store is sound, how it was made, what it holds.

And which of its shards are to be labelled again, because they are damaged or their images changed.
"""

import collections
import hashlib
import itertools
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from distill import atomic, job
from distill.job import PartialFailure
from distill.labels import audit
from distill.labels.shards import committed, index_path, tar_path
from distill.labels.store import LabelStore
from distill.types import Dataset, Encoded

_AHEAD = 4  # images that are being read for each thread
_ROWS = 10_000  # of the index, at a time


def verify(path: Path) -> int:
    """Read every byte of a store and check it.

    Returns:
        The number of labels.

    Raises:
        PartialFailure: damaged and missing shards, each with its reason.
        FileNotFoundError: there is no store.
    """
    store = LabelStore(path, allow_incomplete=True)
    failures = {
        str(tar_path(path, number)): "not written yet; finish the label job with --resume"
        for number in store.missing()
    }
    for fault in store.damage():
        failures[str(fault.path)] = str(fault).removeprefix(f"{fault.path}").lstrip(": ")
    cache = path / ".index.arrow"
    if not failures and not audit.cache_agrees(store.index, path):
        failures[str(cache)] = "differs from the index files that it joins; delete it"
    if failures:
        raise PartialFailure(failures)
    return len(store)


def repair(path: Path) -> dict[str, str]:
    """Take back the commit of every damaged shard, so that the label job writes only these again.

    What is sound stays as it is. Resume the job that made the store, with the images, the teacher
    and the versions that made it: the shards come out with the bytes that they had.

    Returns:
        The damaged files, each with what is wrong with it.

    Raises:
        FileNotFoundError: there is no store.
        Occupied: a job is writing there.
    """
    store = LabelStore(path, allow_incomplete=True)
    with job.exclusive(path):
        found: dict[str, str] = {}
        for number in committed(path):
            fault = audit.fault(path, number)
            if fault is not None:
                found[str(fault.path)] = fault.reason
                atomic.remove(index_path(path, number))
        if found or not audit.cache_agrees(store.index, path):
            atomic.remove(path / ".index.arrow")  # made again by whoever asks next
    return found


def changed(path: Path, images: Dataset, *, threads: int = 16) -> Iterator[str]:
    """The keys whose image is not the one that was labelled any more: other bytes, or gone.

    Labels without the SHA-256 of their image are taken as they are. Images are read once, some at
    a time; nothing but their digests is kept.

    Args:
        path: the store.
        images: that it labels.
        threads: that read at the same time.

    Raises:
        ValueError: `images` are not files, so that they have no bytes to compare.
        OSError: an image cannot be reached.
    """
    for key, _ in _changed(path, images, threads):
        yield key


def discard_changed(path: Path, images: Dataset, *, threads: int = 16) -> list[str]:
    """Take back the commit of every shard with an image that `changed`; the keys of these images.

    Raises:
        ValueError, OSError: as `changed`.
    """
    found = dict(_changed(path, images, threads))
    for number in sorted(set(found.values())):
        atomic.remove(index_path(path, number))
    return list(found)


def stats(path: Path) -> dict[str, Any]:
    """How a store was made and `LabelStore.stats`, also of an unfinished store."""
    store = LabelStore(path, allow_incomplete=True)
    meta = store.meta
    made = {
        "teachers": [
            {"name": one.name, "sha256": one.sha256, "licence": one.licence}
            for one in meta.teachers
        ],
        "space": meta.space.value,
        "strategy": meta.strategy,
        "error_bound": meta.error_bound,
        "images": meta.keys,
    }
    return made | store.stats()


def _changed(path: Path, images: Dataset, threads: int) -> Iterator[tuple[str, int]]:
    """Key and shard of each label whose image changed."""
    if not isinstance(images, Encoded):
        raise ValueError(f"{images.name}: its images are no files; they cannot be compared")
    store = LabelStore(path, allow_incomplete=True)
    with ThreadPoolExecutor(threads, "compare") as pool:
        pending: collections.deque[tuple[dict[str, Any], Future[bytes | None]]]
        pending = collections.deque()

        def different(row: dict[str, Any], found: "Future[bytes | None]") -> bool:
            return found.result() != row["image_sha256"]

        for row, place in _labelled(store, images):
            pending.append((row, pool.submit(_digest, images, place)))
            if len(pending) > _AHEAD * threads and different(*(first := pending.popleft())):
                yield first[0]["key"], first[0]["shard"]
        for row, digest in pending:
            if different(row, digest):
                yield row["key"], row["shard"]


def _labelled(store: LabelStore, images: Dataset) -> Iterator[tuple[dict[str, Any], int | None]]:
    """Each row that knows a digest, and the index of its image; both are sorted by key."""
    places = iter(_in_key_order(images))
    place = next(places, None)
    columns = store.index.select(["key", "shard", "image_sha256"])
    for batch in columns.to_batches(max_chunksize=_ROWS):
        for row in batch.to_pylist():
            if row["image_sha256"] is None:
                continue
            while place is not None and images.key(place) < row["key"]:
                place = next(places, None)
            there = place is not None and images.key(place) == row["key"]
            yield row, place if there else None


def _digest(images: Encoded, place: int | None) -> bytes | None:
    """None where the image is gone or does not unpack any more."""
    if place is None:
        return None
    try:
        return hashlib.sha256(images.encoded(place)).digest()
    except (FileNotFoundError, ValueError):
        return None


def _in_key_order(images: Dataset) -> Sequence[int]:
    keys = map(images.key, range(len(images)))
    if all(before < after for before, after in itertools.pairwise(keys)):
        return range(len(images))
    return sorted(range(len(images)), key=images.key)
