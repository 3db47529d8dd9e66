"""The data sets behind a job, without its weights.

Jobs are known by their fields: this floor does not import them all.
"""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from distill.evaluation import benchmarks
from distill.loading import Transform
from distill.models.depth_anything import depth_anything
from distill.objectives.distillation import Distillation
from distill.objectives.supervised import Supervised
from distill.types import Dataset, Space


@dataclass(frozen=True, kw_only=True)
class Opened:
    """Data sets that are used alike.

    Attributes:
        datasets: open.
        transform: of each sample; None leaves it as it is.
    """

    datasets: list[Dataset]
    transform: Transform | None = None


@dataclass(frozen=True, kw_only=True)
class Use:
    """What a job does with some of its data.

    Attributes:
        role: `training`, `validation`, `labelling`, or a benchmark's name.
        open: raises ValueError or OSError where something is missing.
        budget: share of the samples that may be unreadable.
        needs_target: the job cannot do without truth or labels.
        space: into which targets are converted; None where that is not known.
        min_side: pixels that an image needs.
        max_aspect: of long to short side that an image may have.
        expected: images of the benchmark's published list.
    """

    role: str
    open: Callable[[], Opened]
    budget: float = 0.0
    needs_target: bool = False
    space: Space | None = None
    min_side: int = 1
    max_aspect: float = float("inf")
    expected: int | None = None


def uses(job: Any) -> list[Use]:
    """What `job` does with data; nothing is opened yet.

    Raises:
        ValueError: nothing, or its kind is not known.
    """
    found: list[Use] = []
    if hasattr(job, "batches"):
        found = list(_training(job))
    elif hasattr(job, "images") and hasattr(job, "strategy"):
        found = [
            Use(
                role="labelling",
                open=lambda: Opened(datasets=[job.images()]),
                budget=job.max_quarantined,
                min_side=job.min_side,
                max_aspect=job.max_aspect,
            )
        ]
    elif hasattr(job, "benchmark"):
        found = [_scoring(job.benchmark, job.data)]
    elif isinstance(getattr(job, "data", None), dict):
        found = [_scoring(name, folder) for name, folder in job.data.items()]
    if not found:
        raise ValueError(f"{type(job).__name__} reads no data sets that are known here")
    return found


def _training(job: Any) -> Iterator[Use]:
    learns = isinstance(job.objective, partial) and job.objective.func in (Supervised, Distillation)

    def drawn() -> Opened:
        batch = job.batch_size // job.accumulate
        with contextlib.closing(job.batches(batch_size=batch, seed=job.seed, workers=0)) as found:
            return Opened(datasets=found.mixture.datasets, transform=found.transform)

    yield Use(
        role="training",
        open=drawn,
        budget=job.max_quarantined,
        needs_target=learns,
        space=_space(job.objective),
    )
    opener = getattr(job.validation, "open", None)
    if opener is not None:
        yield Use(
            role="validation", open=lambda: Opened(datasets=[opener()]), space=Space.METRIC_DEPTH
        )


def _space(objective: Any) -> Space | None:
    """What the student predicts, as its builder is told; None for other students than ours."""
    if not isinstance(objective, partial):
        return None
    for part in (*objective.args, *objective.keywords.values()):
        if isinstance(part, partial) and part.func is depth_anything:
            metric = part.keywords.get("max_depth") is not None
            return Space.METRIC_DEPTH if metric else Space.AFFINE_DISPARITY
    return None


def _scoring(name: str, data: Any) -> Use:
    benchmark = benchmarks.find(name)
    depth = benchmark.protocol.measures != "pairs"
    return Use(
        role=name,
        open=lambda: Opened(datasets=[benchmark.open(benchmark.folder(data))]),
        needs_target=depth,
        space=Space.METRIC_DEPTH if depth else None,
        expected=benchmark.protocol.expected_images,
    )
