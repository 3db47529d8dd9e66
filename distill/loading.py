"""Endless batches of a mixture of data sets, every sample a pure function of the seed and a number.

Sample number n of a run is the same whatever the number of workers and processes, and wherever the
run was resumed: its data set, its place in the shuffled epoch and its random generator follow from
(seed, n) alone. The whole state of the sampler is therefore the count of samples drawn so far.
"""

import atexit
import bisect
import itertools
import math
import signal
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from distill.job import die_with_parent
from distill.shuffle import hashed, permuted
from distill.types import Batch, Dataset, Sample

Transform = Callable[[Sample, np.random.Generator], Sample]

_LARGEST_BLOCK = 1000  # samples after which the shares of a mixture are exact


class Mixture:
    """Data sets drawn from together: concatenated, or each with a fixed share.

    Without weights the data sets are one long one, and an epoch shuffles them together. With
    weights each is shuffled and repeated for itself, and every block of as many samples as the
    smallest whole-numbered ratio has holds exactly its share of each: with 1 and 2, one of the
    first and two of the second in every three samples.

    Args:
        sources: data sets and their weights; a weight is None for all of them or for none.

    Raises:
        ValueError: no data set, one without samples, only some weights, a weight that is not
            positive, or weights that are no ratio of small whole numbers.
    """

    def __init__(self, sources: Sequence[tuple[Dataset, float | int | None]]) -> None:
        if not sources:
            raise ValueError("mixture: no data sets; give at least one")
        for dataset, weight in sources:
            if len(dataset) == 0:
                raise ValueError(f"mixture: {dataset.name} has no samples; leave it out")
            if (weight is None) != (sources[0][1] is None):
                raise ValueError(
                    f"mixture: {sources[0][0].name} has weight {sources[0][1]} and {dataset.name} "
                    f"{weight}; give every data set a weight, or none"
                )
        datasets = [dataset for dataset, _ in sources]
        weights = [weight for _, weight in sources if weight is not None]
        self._groups = (
            [_Group([dataset]) for dataset in datasets] if weights else [_Group(datasets)]
        )
        self._pattern = _interleaved(_whole_ratio(weights, [d.name for d in datasets]))
        self._earlier = [
            self._pattern[:place].count(group) for place, group in enumerate(self._pattern)
        ]

    def __len__(self) -> int:
        """Samples of all data sets together."""
        return sum(group.length for group in self._groups)

    def locate(self, n: int, seed: int) -> tuple[Dataset, int]:
        """Data set and index of sample number `n` of the run with this seed."""
        block, place = divmod(n, len(self._pattern))
        group = self._pattern[place]
        count = block * self._pattern.count(group) + self._earlier[place]
        epoch, index = divmod(count, self._groups[group].length)
        shuffled = permuted(index, self._groups[group].length, hashed(seed, group, epoch))
        return self._groups[group].locate(shuffled)


class Batches(Iterator[Batch]):
    """What `batches` returns: an iterator that never ends until it is closed."""

    def __init__(self, loader: DataLoader[Any]) -> None:
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

    Raises:
        ValueError: a number is out of its range, or `batch_size` is not a multiple of `world_size`.
            Later, from the iterator: a sample cannot be read or stacked; it is named.
    """
    if batch_size < 1 or world_size < 1 or batch_size % world_size:
        raise ValueError(
            f"batches: batch_size {batch_size} over {world_size} processes; it must be a positive "
            "multiple of them"
        )
    if not 0 <= rank < world_size:
        raise ValueError(f"batches: rank {rank} of {world_size}; ranks count from 0")
    if min(start, workers, seed) < 0:
        raise ValueError(
            f"batches: start {start}, workers {workers}, seed {seed}; none may be negative"
        )
    part = batch_size // world_size
    numbers = itertools.count(start + rank * part, batch_size)
    loader = DataLoader(
        _Numbered(mixture, transform, seed),  # type: ignore[arg-type] # any __getitem__ will do
        batch_sampler=(list(range(n, n + part)) for n in numbers),
        collate_fn=_collate,
        num_workers=workers,
        worker_init_fn=_start_worker,
        pin_memory=torch.cuda.is_available(),
        generator=torch.Generator(),  # without one it draws from the global state
    )
    return Batches(loader)


class _Group:
    """Data sets one after the other."""

    def __init__(self, datasets: Sequence[Dataset]) -> None:
        self._datasets = datasets
        self._ends = list(itertools.accumulate(len(dataset) for dataset in datasets))
        self.length = self._ends[-1]

    def locate(self, index: int) -> tuple[Dataset, int]:
        which = bisect.bisect_right(self._ends, index)
        return self._datasets[which], index - (self._ends[which - 1] if which else 0)


def _whole_ratio(weights: Sequence[float | int], names: Sequence[str]) -> list[int]:
    """The weights as the smallest whole numbers of the same ratio; one share without weights."""
    for weight, name in zip(weights, names, strict=False):
        if not (0 < weight < math.inf):
            raise ValueError(f"mixture: {name} has weight {weight}; it must be above 0 and finite")
    ratios = [Fraction(weight).limit_denominator(_LARGEST_BLOCK) for weight in weights or [1]]
    factor = math.lcm(*(ratio.denominator for ratio in ratios))
    shares = [int(ratio * factor) for ratio in ratios]
    shares = [share // math.gcd(*shares) for share in shares]
    if sum(shares) > _LARGEST_BLOCK or 0 in shares:
        raise ValueError(
            f"mixture: weights {list(weights)} make blocks of {sum(shares)} samples; take whole "
            f"numbers that sum to at most {_LARGEST_BLOCK}, like 1 and 2"
        )
    return shares


def _interleaved(shares: Sequence[int]) -> list[int]:
    """Which data set each place of a block draws from, each spread evenly."""
    places = [
        ((turn + 0.5) / share, which) for which, share in enumerate(shares) for turn in range(share)
    ]
    return [which for _, which in sorted(places)]


@dataclass(frozen=True)
class _Broken:
    """Crosses from a worker in place of a batch, so that the message arrives as it was written."""

    reason: str


class _Numbered:
    """Samples by their number in the run."""

    def __init__(self, mixture: Mixture, transform: Transform | None, seed: int) -> None:
        self._mixture, self._transform, self._seed = mixture, transform, seed

    def __getitem__(self, n: int) -> tuple[int, Sample] | _Broken:
        dataset, index = self._mixture.locate(n, self._seed)
        try:
            sample = dataset[index]
            if self._transform is not None:
                sample = self._transform(sample, np.random.default_rng((self._seed, n)))
        except (ValueError, OSError) as error:
            return _Broken(f"{dataset.key(index)} (sample {n}): {error}")
        except Exception as error:
            error.add_note(f"while loading {dataset.key(index)} (sample {n})")
            raise
        return hashed(self._seed, n) >> 1, sample


def _collate(drawn: Sequence[tuple[int, Sample] | _Broken]) -> Batch | _Broken:
    """Samples stacked; what keeps them from it named."""
    for entry in drawn:
        if isinstance(entry, _Broken):
            return entry
    numbered = [entry for entry in drawn if not isinstance(entry, _Broken)]
    samples = [sample for _, sample in numbered]
    if reason := _mismatch(samples):
        return _Broken(reason)
    batch = Batch(
        key=[sample.key for sample in samples],
        image=torch.stack([sample.image for sample in samples]),
        space=[sample.space for sample in samples],
        seed=numbered[0][0],
    )
    targets = [sample.target for sample in samples if sample.target is not None]
    if targets:
        batch["target"] = torch.stack(targets)
        batch["valid"] = torch.stack([s.valid for s in samples if s.valid is not None])
        batch["far"] = torch.stack([_far(sample) for sample in samples])
        batch["labelled"] = torch.tensor([not sample.pseudo_label for sample in samples])
    return batch


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
    return None


def _far(sample: Sample) -> Tensor:
    if sample.far is not None:
        return sample.far
    return torch.zeros(sample.image.shape[1:], dtype=torch.bool)


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
