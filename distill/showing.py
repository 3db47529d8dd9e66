"""What a run shows of its student while it trains: numbers on held-out images, and pictures."""

import contextlib
from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

from distill.colour import panel
from distill.tracking import Tracker
from distill.types import Batch
from distill.watch import check_alive


@runtime_checkable
class Engine(Protocol):
    """What is needed of an `engine.Engine`."""

    step: int

    def looking(self) -> contextlib.AbstractContextManager[Any]:
        """Yield the student in evaluation mode."""
        ...

    def place(self, batch: Batch) -> Batch:
        """`batch` on the device."""
        ...

    def wait(self) -> None:
        """Until every process is here."""
        ...


def pictures_of(job: Any) -> Batch:
    """What a `TrainJob` shows: its own choice, or else the run's first four samples."""
    if job.pictures is not None:
        return job.pictures()
    aside = {"set_aside": True} if job.max_quarantined > 0 else {}
    drawn = job.batches(batch_size=4, seed=job.seed, workers=0, **aside)
    with contextlib.closing(drawn):
        return next(drawn)


def show(
    engine: Engine,
    tracker: Tracker,
    *,
    validation: Callable[[Any], Mapping[str, float]] | None,
    pictures: Batch | None,
) -> None:
    """Numbers and pictures of the student as it is.

    Every process calls `validation`, which may share its images out among them; what the first
    gets is recorded, and the first one makes the pictures.

    Raises:
        GuardStop: the output has died.
    """
    with engine.looking() as student:
        numbers = validation(student) if validation else {}
        if pictures is not None:
            tracker.row(engine.step, {f"val/{k}": float(v) for k, v in numbers.items()})
            batch = engine.place(pictures)
            pred = student(batch["image"])
            check_alive(pred, where=f"the fixed pictures after step {engine.step}")
            tracker.picture(engine.step, panel(batch, pred, student.space))
    engine.wait()
