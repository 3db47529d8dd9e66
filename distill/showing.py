"""What a run shows of its student while it trains: numbers on held-out images, and pictures."""

import contextlib
import logging
import math
from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

from distill import checkpoint
from distill.colour import panel
from distill.limits import died
from distill.tracking import Tracker
from distill.types import Batch

log = logging.getLogger(__name__)

# In float32 the scores of equal weights were equal to the last bit; kernels may be chosen anew.
_SAME = 1e-4


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
        ValueError: before the first update, the student is not the model that it was loaded as.
    """
    with engine.looking() as student:
        chance = checkpoint.random_state()
        numbers = validation(student) if validation else {}
        if validation and engine.step == 0:
            _check_start(student, numbers, validation, chance)
        if pictures is not None:
            tracker.row(engine.step, {f"val/{k}": float(v) for k, v in numbers.items()})
            batch = engine.place(pictures)
            pred = student(batch["image"])
            if (zeros := float((pred == 0).float().mean())) > 0.5:  # it may be sky; updates tell
                log.warning("%s", died(zeros, f"the fixed pictures after step {engine.step}"))
            tracker.picture(engine.step, panel(batch, pred, student.space))
    engine.wait()


def _check_start(
    student: Any,
    numbers: Mapping[str, float],
    validation: Callable[[Any], Mapping[str, float]],
    chance: Any,
) -> None:
    """A student that was loaded whole must score as that model does, loaded afresh.

    `chance` is the random state that `numbers` were found from.
    """
    if (imported := getattr(student, "imported", None)) is None:
        return
    device = next(student.parameters()).device
    fresh = imported().to(device).eval()
    checkpoint.set_random_state(chance)
    for name, expected in validation(fresh).items():
        if not math.isclose(numbers[name], expected, rel_tol=_SAME, abs_tol=_SAME):
            raise ValueError(
                f"the student starts with {name} {numbers[name]:.6g}, but {student.weights_from}, "
                f"which it was loaded from, has {expected:.6g}: something changes its weights or "
                "its input between loading and training"
            )
