"""A short real run of the job itself, where it will run: its loader, network, step and writing.

A job runs twice into a folder that is thrown away, first little, then as much as fits into the
given seconds. What it costs to start and what each image costs follow from the two.
"""

import contextlib
import json
import logging
import math
import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from distill import job as jobs
from distill.tracking import peak_bytes, read_rows
from distill.types import Dataset, Encoded, Sample

log = logging.getLogger(__name__)

_SHARE_FOR_START = 0.25  # of the seconds, for the first run and the starts of both


@dataclass(frozen=True, kw_only=True)
class Speed:
    """Seconds, measured.

    Attributes:
        image: of wall time, each.
        processor: of processor time, each, of all processes of the job together.
        processor_start: of the same, before the first image.
        event: of wall time, for a validation with a checkpoint.
        start: of wall time, until the first image is through.
        label_bytes: of a label in the store; None in training.
        measured: images.
        held: bytes, at most; see `tracking.peak_bytes`.
    """

    image: float
    processor: float
    processor_start: float
    event: float
    start: float
    label_bytes: float | None
    measured: int
    held: int


def probe(job: Any, seconds: float) -> Speed:
    """Run `job` for about so many seconds; nothing stays.

    Raises:
        ValueError: a job of another kind; or what its `run` raises.
    """
    with tempfile.TemporaryDirectory(prefix="distill-plan-") as folder:
        if hasattr(job, "batches"):
            return _training(job, seconds, Path(folder))
        return _labelling(job, seconds, Path(folder))


@dataclass(frozen=True)
class _Took:
    wall: float
    processor: float


def _timed(run: Callable[[], None]) -> _Took:
    wall, before = time.perf_counter(), os.times()
    run()
    after = os.times()
    spent = sum(after[:4]) - sum(before[:4])  # user and system, own and of ended children
    return _Took(time.perf_counter() - wall, spent)


def _training(job: Any, seconds: float, folder: Path) -> Speed:
    few = 3
    short = _timed(partial(_train, job, few, folder / "short"))
    first, *_, last = _rows(folder / "short")
    update = max(1e-4, (last["seconds"] - first["seconds"]) / (few - 1))
    many = max(4 * few, math.floor((seconds - 2 * short.wall) / update))
    long = _timed(partial(_train, job, many, folder / "long"))
    rows = _rows(folder / "long")
    settled = next(n for n, row in enumerate(rows) if row["step"] >= many / 4)
    begin, end = rows[min(settled, len(rows) - 2)], rows[-1]
    update = (end["seconds"] - begin["seconds"]) / (end["step"] - begin["step"])
    summary = json.loads((folder / "long" / "summary.json").read_text())
    event = max(0.0, summary["seconds"] - end["seconds"])
    images = job.batch_size
    processor = (long.processor - short.processor) / (many - few)
    return Speed(
        image=update / images,
        processor=processor / images,
        processor_start=max(0.0, short.processor - few * processor),
        event=event,
        start=max(0.0, long.wall - many * update - event),
        label_bytes=None,
        measured=many * images,
        held=peak_bytes(),
    )


def _train(job: Any, steps: int, out: Path) -> None:
    """The job's first steps, at its own rates, one validation and one checkpoint at the end."""
    cut = replace(
        job,
        steps=steps,
        lr=partial(_rates, job.lr, job.steps),
        log_every=max(1, min(job.log_every, steps // 8)),
        validate_every=steps,
        checkpoint_every=steps,
        max_quarantined=1.0 if job.max_quarantined else 0.0,  # a share of few may be large
    )
    cut.run(out)


def _rates(
    lr: Callable[[int, int], Mapping[str, float]], whole: int, step: int, steps: int
) -> Mapping[str, float]:
    """The learning rates that the whole job has at `step`."""
    assert steps > 0
    return lr(min(step, whole - 1), whole)


def _rows(out: Path) -> Sequence[Mapping[str, Any]]:
    return [row for row in read_rows(out / "metrics.jsonl") if "seconds" in row]


def _labelling(job: Any, seconds: float, folder: Path) -> Speed:
    dataset = job.images()
    few = min(2 * job.batch_size, max(1, len(dataset) // 2))
    short = _timed(partial(_label, job, dataset, few, folder / "short"))
    many = 2 * few
    while True:
        long = _timed(partial(_label, job, dataset, many, folder / f"{many}"))
        image = max(1e-5, (long.wall - short.wall) / (many - few))
        fits = few + math.floor((1 - _SHARE_FOR_START) * seconds / image)
        if long.wall >= seconds / 2 or many >= len(dataset):
            break
        many = min(len(dataset), max(2 * many, min(fits, 8 * many)))
    written = _written(folder / f"{many}")
    processor = (long.processor - short.processor) / (many - few)
    return Speed(
        image=image,
        processor=processor,
        processor_start=max(0.0, short.processor - few * processor),
        event=0.0,
        start=max(0.0, short.wall - few * image),
        label_bytes=written / many,
        measured=many,
        held=peak_bytes(),
    )


def _label(job: Any, dataset: Dataset, count: int, out: Path) -> None:
    """Label `count` images that are spread over the data set."""
    chosen = [n * len(dataset) // count for n in range(count)]
    some = (_SomeEncoded if isinstance(dataset, Encoded) else _Some)(dataset, chosen)
    with contextlib.suppress(jobs.PartialFailure):  # the others are labelled
        replace(job, images=lambda: some, max_quarantined=1.0).run(out)


def _written(store: Path) -> int:
    """Bytes of the shards and their indices."""
    return sum(p.stat().st_size for p in store.rglob("labels-*") if p.is_file())


class _Some:
    """A few samples of a data set."""

    def __init__(self, dataset: Any, chosen: Sequence[int]) -> None:
        self.name, self._dataset, self._chosen = dataset.name, dataset, chosen

    def __len__(self) -> int:
        return len(self._chosen)

    def __getitem__(self, index: int) -> Sample:
        return self._dataset[self._chosen[index]]

    def key(self, index: int) -> str:
        return self._dataset.key(self._chosen[index])


class _SomeEncoded(_Some):
    def encoded(self, index: int) -> bytes:
        return self._dataset.encoded(self._chosen[index])


def here() -> tuple[str, float]:
    """This machine's device, for people, and its memory in bytes."""
    if torch.cuda.is_available():
        told = torch.cuda.get_device_properties(0)
        return told.name, float(told.total_memory)
    cores = len(os.sched_getaffinity(0))
    return f"{cores} CPU cores", float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
