"""Endless batches of a mixture of data sets, every sample a pure function of the seed and a number.

Sample number n of a run is the same whatever the number of workers and processes, and wherever the
run was resumed: its data set, its place in the shuffled epoch and its random generator follow from
(seed, n) alone. The whole state of the sampler is therefore the count of samples drawn so far.
"""

import atexit
import itertools
import signal
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from distill.job import die_with_parent
from distill.mixture import Mixture
from distill.shuffle import hashed
from distill.types import Batch, Dataset, Sample, View, ViewBatch

Transform = Callable[[Sample, np.random.Generator], Sample]

_ATTEMPTS = 10  # of the samples that stand in for one; so many in a row are no chance


class Batches(Iterator[Batch]):
    """What `batches` returns: an iterator that never ends until it is closed.

    Attributes:
        mixture: what is drawn from.
        transform: of each sample.
    """

    def __init__(
        self, loader: DataLoader[Any], mixture: Mixture, transform: Transform | None
    ) -> None:
        self.mixture, self.transform = mixture, transform
        self._batches = iter(loader)
        self._stop = weakref.finalize(self, _shut_down, self._batches)
        atexit.register(self._stop)  # before multiprocessing waits for the workers

    def __next__(self) -> Batch:
        if not self._stop.alive:
            raise StopIteration
        batch = next(self._batches)
        if isinstance(batch, _Broken):
            self.close()
            raise ValueError(batch.reason)
        return batch

    def close(self) -> None:
        """End the workers; nothing comes after this."""
        self._stop()
        self._batches = iter(())


def batches(
    mixture: Mixture,
    *,
    batch_size: int,
    transform: Transform | None = None,
    seed: int,
    start: int = 0,
    rank: int = 0,
    world_size: int = 1,
    workers: int = 0,
    set_aside: bool = False,
) -> Batches:
    """This process's part of each batch of the run, from sample number `start` on, without end.

    Args:
        mixture: to draw from.
        batch_size: samples of a batch over all processes; process `rank` gets the `rank`-th of
            `world_size` equal parts, in order.
        transform: makes every sample the same size; called as `transform(sample, rng)` with a
            generator of its own for each sample number.
        seed: of order and transforms.
        start: samples already drawn by all processes together.
        rank: of this process.
        world_size: processes.
        workers: reading processes of one thread each; 0 reads in this one. The bytes of a batch do
            not depend on it.
        set_aside: another sample of the same share takes the place of one that cannot be read,
            the same one in every run; the batch names what it lacks in `set_aside`, with reasons.

    Raises:
        ValueError: a number is out of its range, or `batch_size` is not a multiple of `world_size`.
            Later, from the iterator: a sample cannot be read or stacked; it is named. With
            `set_aside` only where none of ten others could be read either.
    """
    if min(start, workers, seed) < 0:
        raise ValueError(
            f"batches: start {start}, workers {workers}, seed {seed}; none may be negative"
        )
    loader = DataLoader(
        _Numbered(mixture, transform, seed, _ATTEMPTS if set_aside else 1),  # type: ignore[arg-type] # any __getitem__ will do
        batch_sampler=numbers(batch_size, start=start, rank=rank, world_size=world_size),
        collate_fn=_collate,
        num_workers=workers,
        worker_init_fn=_start_worker,
        pin_memory=torch.cuda.is_available(),
        generator=torch.Generator(),  # without one it draws from the global state
    )
    return Batches(loader, mixture, transform)


def numbers(batch_size: int, *, start: int, rank: int, world_size: int) -> Iterator[list[int]]:
    """The numbers in the run of the samples that one process draws, batch by batch, without end.

    Raises:
        ValueError: as `batches`.
    """
    if batch_size < 1 or world_size < 1 or batch_size % world_size:
        raise ValueError(
            f"batches: batch_size {batch_size} over {world_size} processes; it must be a positive "
            "multiple of them"
        )
    if not 0 <= rank < world_size:
        raise ValueError(f"batches: rank {rank} of {world_size}; ranks count from 0")
    part = batch_size // world_size
    firsts = itertools.count(start + rank * part, batch_size)
    return (list(range(n, n + part)) for n in firsts)


def on_device(batch: Batch, device: torch.device) -> Batch:
    """`batch` with its maps on the device."""
    placed: dict[str, Any] = dict(batch)
    for name in ("image", "target", "valid", "far", "confidence", "K"):
        if name in placed:
            placed[name] = placed[name].to(device, non_blocking=True)
    if "views" in batch:
        placed["views"] = [
            {n: v if n == "offset" else v.to(device, non_blocking=True) for n, v in view.items()}  # type: ignore[attr-defined]  # tensors, all others
            for view in batch["views"]
        ]
    return cast(Batch, placed)


@dataclass(frozen=True)
class _Broken:
    """Crosses from a worker in place of a batch, so that the message arrives as it was written."""

    reason: str


@dataclass(frozen=True)
class _Drawn:
    """A sample, random bits for its batch, and what should have been there, with the reasons."""

    sample: Sample
    bits: int
    unread: dict[str, str]


class _Numbered:
    """Samples by their number in the run."""

    def __init__(
        self, mixture: Mixture, transform: Transform | None, seed: int, attempts: int
    ) -> None:
        self._mixture, self._transform = mixture, transform
        self._seed, self._attempts = seed, attempts

    def __getitem__(self, n: int) -> _Drawn | _Broken:
        unread: dict[str, str] = {}
        for attempt in range(self._attempts):
            dataset, index = self._mixture.locate(n, self._seed, attempt)
            try:
                sample = self._read(dataset, index, n)
            except (ValueError, OSError) as error:
                unread[dataset.key(index)] = str(error)
                continue
            except Exception as error:
                error.add_note(f"while loading {dataset.key(index)} (sample {n})")
                raise
            return _Drawn(sample, hashed(self._seed, n) >> 1, unread)
        key, reason = next(iter(unread.items()))
        others = f"; nor could {len(unread) - 1} others be read" if len(unread) > 1 else ""
        return _Broken(f"{key} (sample {n}): {reason}{others}")

    def _read(self, dataset: Dataset, index: int, n: int) -> Sample:
        sample = dataset[index]
        if self._transform is None:
            return sample
        return self._transform(sample, np.random.default_rng((self._seed, n)))


def _collate(drawn: Sequence[_Drawn | _Broken]) -> Batch | _Broken:
    """Samples stacked; what keeps them from it named."""
    for entry in drawn:
        if isinstance(entry, _Broken):
            return entry
    whole = [entry for entry in drawn if not isinstance(entry, _Broken)]
    samples = [entry.sample for entry in whole]
    if reason := _mismatch(samples):
        return _Broken(reason)
    batch = Batch(
        key=[sample.key for sample in samples],
        image=torch.stack([sample.image for sample in samples]),
        space=[sample.space for sample in samples],
        seed=whole[0].bits,
    )
    if unread := {key: reason for entry in whole for key, reason in entry.unread.items()}:
        batch["set_aside"] = unread
    cameras = [sample.K for sample in samples if sample.K is not None]
    if len(cameras) == len(samples):
        batch["K"] = torch.stack(cameras)
    if samples[0].views:
        batch["views"] = [
            _view_batch(views) for views in zip(*(s.views for s in samples), strict=True)
        ]
    targets = [sample.target for sample in samples if sample.target is not None]
    if targets:
        batch["target"] = torch.stack(targets)
        batch["valid"] = torch.stack([s.valid for s in samples if s.valid is not None])
        batch["far"] = torch.stack([_far(sample) for sample in samples])
        batch["labelled"] = [not sample.pseudo_label for sample in samples]
        if any(sample.confidence is not None for sample in samples):
            batch["confidence"] = torch.stack([_confidence(sample) for sample in samples])
    return batch


def _view_batch(views: Sequence[View]) -> ViewBatch:
    def stacked(known: Sequence[Tensor | None], size: int) -> Tensor:
        unknown = torch.full((size, size), torch.nan)
        return torch.stack([unknown if matrix is None else matrix for matrix in known])

    return ViewBatch(
        image=torch.stack([view.image for view in views]),
        K=stacked([view.K for view in views], 3),
        view_from_sample=stacked([view.view_from_sample for view in views], 4),
        offset=[view.offset for view in views],
    )


def _mismatch(samples: Sequence[Sample]) -> str | None:
    """Why these samples do not make a batch; None when they do."""
    first = samples[0]
    for sample in samples:
        if sample.image.shape != first.image.shape:
            sizes = [tuple(s.image.shape[1:]) for s in (first, sample)]
            return (
                f"{first.key} is {sizes[0]} and {sample.key} {sizes[1]} pixels; a batch needs one "
                "size: give batches a transform that crops"
            )
        if (sample.target is None) != (first.target is None):
            named = (first, sample) if sample.target is None else (sample, first)
            return (
                f"{named[0].key} has a target and {named[1].key} has none; label the images "
                "first, or draw them in a mixture of their own"
            )
        if len(sample.views) != len(first.views):
            return (
                f"{first.key} has {len(first.views)} views and {sample.key} {len(sample.views)}; "
                "draw them in mixtures of their own"
            )
    return None


def _far(sample: Sample) -> Tensor:
    if sample.far is not None:
        return sample.far
    return torch.zeros(sample.image.shape[1:], dtype=torch.bool)


def _confidence(sample: Sample) -> Tensor:
    if sample.confidence is not None:
        return sample.confidence
    return torch.ones(sample.image.shape[1:])


def _start_worker(_worker: int) -> None:
    """One thread each; and the signal that ends a job is the job's to answer.

    A scheduler signals every process. A worker that died of it would bring the job down before its
    checkpoint, so the first SIGTERM passes; the second, should nobody end this worker, ends it.
    """
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: signal.signal(signal.SIGTERM, signal.SIG_DFL))
    die_with_parent()


def _shut_down(iterator: Any) -> None:
    if hasattr(iterator, "_shutdown_workers"):
        iterator._shutdown_workers()
        for worker in iterator._workers:  # one that is slow to end was terminated once by torch
            if worker.is_alive():
                worker.terminate()
            worker.join()
