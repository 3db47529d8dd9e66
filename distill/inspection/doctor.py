"""Where a run loses its time: what a reading process delivers against what the network takes.

Each stage is measured alone, on one thread, on samples spread over the data; the network by its own
updates (a training job) or answers (a label job) on a batch of that data. What limits a run, how
many reading processes feed the network and how the data would be read faster follow from these.
"""

import contextlib
import itertools
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from distill import engine as engines
from distill import job as jobs
from distill.evaluation.rows import as_picture
from distill.loading import Batches
from distill.models import blocks
from distill.types import Batch, Dataset, Sample

_SPARE = 1.25  # the loader should deliver so many times what the network takes
_LEAST = 2.0  # seconds that a measurement goes on, at least
_REMEDIES = {
    "fetching": "keep the images in tar shards on a local disk, or read with more workers",
    "decoding": "store JPEGs whose short side is at most twice the network's, labels as they are",
    "preparing": "store images no larger than twice the network's size, or perturb them less",
}


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """Milliseconds an image on one thread, and images a second.

    Attributes:
        fetch: to get an image's bytes from where they are; None where a data set does not say.
        read: to read a sample: its bytes, decoding, label.
        transform: to resize, crop, perturb, or to prepare for a teacher.
        loader: images/s that `workers` processes delivered; None where there are none: a label
            job reads in threads, a job with `workers=0` by itself.
        workers: of the job.
        model: images/s of the network, with `batch` images at once.
        batch: images.
        device: of the network.
        cores: that this process may use.
    """

    fetch: float | None
    read: float
    transform: float
    loader: float | None
    workers: int
    model: float
    batch: int
    device: str
    cores: int

    @property
    def one(self) -> float:
        """Images/s of one reading process."""
        return 1e3 / (self.read + self.transform)

    @property
    def needed(self) -> int:
        """Reading processes that feed the network with something to spare."""
        return math.ceil(_SPARE * self.model / self.one)

    @property
    def limit(self) -> str:
        """The stage that decides the speed of the run as it is set."""
        supply = self.loader or self.one * max(1, min(self.workers, self.cores))
        if supply >= self.model:
            return "the network"
        fetch = self.fetch or 0.0
        times = dict(zip(_REMEDIES, (fetch, self.read - fetch, self.transform), strict=True))
        return max(times, key=lambda name: times[name])

    @property
    def text(self) -> str:
        """For people."""
        fetched = "" if self.fetch is None else f" (of it {self.fetch:.1f} ms to fetch the bytes)"
        loader = "         - (not measured)"
        if self.loader is not None:
            loader = f"{_rate(self.loader):>10} images/s, measured"
        network = f"{_rate(self.model):>10}"
        lines = [
            f"reading a sample {self.read:10.1f} ms{fetched}",
            f"transforming it  {self.transform:10.1f} ms",
            f"one process      {_rate(self.one):>10} images/s",
            f"{self.workers} workers{'':<8} {loader}",
            f"the network      {network} images/s on {self.device}, {self.batch} at once",
            f"limit: {self.limit}",
            *self._advice(),
        ]
        return "\n".join(lines)

    def _advice(self) -> Iterator[str]:
        if self.needed > self.cores:
            yield (
                f"{self.needed} reading processes would feed the network, there are {self.cores} "
                f"cores: at best {self.one * self.cores:.0f} images/s"
            )
        else:
            yield f"workers={self.needed} feed the network with a quarter to spare"
        if self.limit in _REMEDIES:
            yield f"{self.limit} dominates: {_REMEDIES[self.limit]}"


def diagnose(job: Any, *, batch: int | None = None, samples: int = 64) -> Diagnosis:
    """Measure a training or label job on this machine; nothing is written.

    Args:
        job: a `TrainJob` or a `LabelJob`.
        batch: images at once; None is the job's own, halved until it fits into memory.
        samples: that are read at most.

    Raises:
        ValueError: a job of another kind, `batch` is below 1, or a sample cannot be read.
        FileNotFoundError: data or weights are missing.
    """
    if batch is not None and batch < 1:
        raise ValueError(f"doctor: batch={batch}; measure one image at least")
    if hasattr(job, "batches"):
        return _training(job, batch, samples)
    if hasattr(job, "teacher") and hasattr(job, "strategy"):
        return _labelling(job, batch, samples)
    raise ValueError(f"doctor: {type(job).__name__} trains and labels nothing; name such a recipe")


def _training(job: Any, batch: int | None, samples: int) -> Diagnosis:
    wanted = batch or job.batch_size // job.accumulate
    draw = {"batch_size": wanted, "seed": job.seed}
    with contextlib.closing(job.batches(**draw, workers=0)) as drawn:
        places = [drawn.mixture.locate(n, job.seed) for n in range(min(samples, 4 * wanted))]
        fetch, read, kept = _read(places)
        transform = drawn.transform
        made = (
            _timed(lambda n: transform(kept[n % len(kept)], np.random.default_rng(n)), len(kept))
            if transform
            else 0.0
        )
    loader = None
    if job.workers:
        with contextlib.closing(job.batches(**draw, workers=job.workers)) as drawn:
            loader = wanted * _batches_per_second(drawn, job.workers)
    with contextlib.closing(job.batches(**draw, workers=0)) as drawn:
        model, fits, device = _updates(job, next(drawn))
    return Diagnosis(
        fetch=fetch,
        read=read,
        transform=made,
        loader=loader,
        workers=job.workers,
        model=model,
        batch=fits,
        device=device,
        cores=len(os.sched_getaffinity(0)),
    )


def _labelling(job: Any, batch: int | None, samples: int) -> Diagnosis:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dataset, asker = job.images(), job.strategy(job.teachers(device))
    count = min(samples, len(dataset))
    places = [(dataset, n * len(dataset) // count) for n in range(count)]
    fetch, read, kept = _read(places)
    made = _timed(lambda n: asker.views(as_picture(kept[n % count])), count)
    views = asker.views(as_picture(kept[0]))

    def ask(size: int) -> Callable[[], object]:
        images = [view.expand(size, -1, -1, -1).contiguous().to(device) for view in views]
        return lambda: asker.ask(images)

    with torch.inference_mode(), jobs.threads(job.threads):
        model, fits = _largest(ask, batch or job.batch_size)
    return Diagnosis(
        fetch=fetch,
        read=read,
        transform=made,
        loader=None,
        workers=job.workers or jobs.cores(),
        model=model,
        batch=fits,
        device=str(device),
        cores=len(os.sched_getaffinity(0)),
    )


def _read(places: Sequence[tuple[Dataset, int]]) -> tuple[float | None, float, list[Sample]]:
    """Milliseconds to fetch and to read a sample, on one thread; and the samples."""
    kept: list[Sample] = []
    with jobs.threads(1):
        places[0][0][places[0][1]]  # opens files, builds indices
        start = time.perf_counter()
        for dataset, index in places:
            kept.append(dataset[index])
            if time.perf_counter() - start > 10 * _LEAST:
                break
        read = 1e3 * (time.perf_counter() - start) / len(kept)
    encoded = [getattr(dataset, "encoded", None) for dataset, _ in places]
    if not all(encoded):
        return None, read, kept
    start = time.perf_counter()
    for fetch, (_, index) in itertools.islice(zip(encoded, places, strict=True), len(kept)):
        fetch(index)  # type: ignore[misc]  # all of them are there
    return 1e3 * (time.perf_counter() - start) / len(kept), read, kept


def _timed(work: Callable[[int], object], least: int) -> float:
    """Milliseconds a call, on one thread."""
    with jobs.threads(1):
        work(0)
        start, calls = time.perf_counter(), 0
        while calls < least or time.perf_counter() - start < 0.2 * _LEAST:
            work(calls)
            calls += 1
        return 1e3 * (time.perf_counter() - start) / calls


def _batches_per_second(drawn: Batches, workers: int) -> float:
    for _ in range(2 * workers + 1):  # until all have started and what they had ahead is used
        next(drawn)
    start, count = time.perf_counter(), 0
    while count < 2 * workers or time.perf_counter() - start < _LEAST:
        next(drawn)
        count += 1
    return count / (time.perf_counter() - start)


def _updates(job: Any, batch: Batch) -> tuple[float, int, str]:
    """Images/s of whole updates, images at once, device."""
    accelerator = engines.accelerator(job.precision)
    with jobs.threads(job.threads):
        jobs.seed_everything(job.seed)
        objective = job.objective()
        if job.activation_checkpointing:
            blocks.checkpoint_activations(objective.student)
        if job.compiled:
            blocks.compile_blocks(objective)
        engine = engines.Engine(accelerator, objective, job.optimizer, ema=job.ema)

        def update(size: int) -> Callable[[], None]:
            part = engine.place(_part(batch, size))

            def step() -> None:
                terms = engine.objective(part, engine.totals([part]))
                engine.backward(terms["loss"])
                engine.clip(job.max_grad_norm)
                engine.apply()

            return step

        speed, fits = _largest(update, len(batch["key"]))
    return speed, fits, str(accelerator.device)


def _largest(work: Callable[[int], Callable[[], object]], size: int) -> tuple[float, int]:
    """Images/s at the largest size up to `size`, halved while memory runs out; and that size."""
    while True:
        try:
            return size * _per_second(work(size)), size
        except torch.OutOfMemoryError:
            if size == 1:
                raise
            torch.cuda.empty_cache()
            size //= 2


def _per_second(step: Callable[[], object]) -> float:
    on_gpu = torch.cuda.is_available()
    wait = torch.cuda.synchronize if on_gpu else lambda: None
    for _ in range(3 if on_gpu else 1):
        step()
    wait()
    start, count = time.perf_counter(), 0
    while count < 2 or time.perf_counter() - start < _LEAST:
        step()
        wait()
        count += 1
    return count / (time.perf_counter() - start)


def _part(batch: Batch, size: int) -> Batch:
    """The first `size` samples."""
    return {  # type: ignore[return-value]  # the keys are the batch's
        name: value[:size] if isinstance(value, list | torch.Tensor) else value
        for name, value in batch.items()
    }


def _rate(per_second: float) -> str:
    """Three digits at least, for a large network on a small machine does less than one."""
    return f"{per_second:.1f}" if per_second >= 10 else f"{per_second:.3g}"
