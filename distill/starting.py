"""A training run is built and put back to where it was saved: all that comes before its loop."""

import contextlib
import dataclasses
import logging
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from distill import ancestry, checkpoint, job, launch
from distill.engine import Engine
from distill.limits import Limits
from distill.loading import Batches
from distill.models import blocks
from distill.quarantine import Quarantine
from distill.showing import pictures_of
from distill.types import Batch

log = logging.getLogger(__name__)

_FREE = {  # fields that change no weight, so that a resumed job may differ in them
    *("workers", "log_every", "checkpoint_every", "keep_checkpoints"),
    *("validate_every", "validation", "pictures", "max_quarantined", "commercial", "accept"),
    *("spike", "drift"),
}


@dataclass(kw_only=True)
class Run:
    """What the loop knows beside the engine.

    Attributes:
        engine: where the objective and its optimizer stand.
        batches: of this process.
        quarantine: what could not be read.
        out: the run's folder.
        pictures: shown at every validation; the first process has them.
        description: of the job, for its checkpoints.
        lineage: what the student is made from.
        terminated: SIGTERM came to this process.
        stop: it came to one of them, and all know.
        waited: seconds for the loader, since the last row.
        row_at: when that was.
        row_step: updates done then.
    """

    engine: Engine
    batches: Batches
    quarantine: Quarantine
    out: Path
    pictures: Batch | None
    description: Any
    lineage: ancestry.Lineage
    terminated: threading.Event
    stop: bool = False
    waited: float = 0.0
    row_at: float = field(default_factory=time.perf_counter)
    row_step: int = 0


def begin(
    job_: Any, accelerator: Any, out: Path, saved: Path | None, held: contextlib.ExitStack
) -> Run:
    """Build everything, and put it back to the checkpoint `saved` if there is one.

    Args:
        job_: a `TrainJob`.
        accelerator: of this process.
        out: the run's folder.
        saved: the checkpoint to go on from.
        held: closes what the run holds open.

    Raises:
        ValueError: the batch cannot be split over the processes, the terms of a part do not allow
            the run, or the checkpoint is another job's.
    """
    world = accelerator.num_processes
    launch.check_split(job_.batch_size, job_.accumulate, world)
    state = checkpoint.load(saved) if saved else None
    start = state.step if state else 0
    terminated = held.enter_context(job.terminated())
    batches = held.enter_context(contextlib.closing(_open(job_, accelerator, start)))
    drawn = [f"{len(dataset)} of {dataset.name}" for dataset in batches.mixture.datasets]
    description = job.describe(job_) | {"samples": drawn}  # other files have other numbers
    if state is not None:
        checkpoint.check_same_job(_defaults(job_) | state.job, description, free=_FREE)
    place, samples = (accelerator.process_index, world), len(batches.mixture)
    quarantine = Quarantine(out, *place, samples=samples, budget=job_.max_quarantined, start=start)
    pictures = pictures_of(job_) if accelerator.is_main_process else None
    job.seed_everything(job_.seed)
    objective = job_.objective()
    lineage = ancestry.of_training(out.name, objective, batches.mixture.datasets)
    ancestry.check(lineage, commercial=job_.commercial, accept=job_.accept)
    if job_.activation_checkpointing:
        blocks.checkpoint_activations(objective.student)
    if job_.compiled:
        blocks.compile_blocks(objective)
    limits = Limits(spike=job_.spike, drift=job_.drift, space=objective.student.space)
    made = Engine(accelerator, objective, job_.optimizer, ema=job_.ema, limits=limits)
    job.seed_everything(job_.seed + accelerator.process_index)
    if state is not None:
        made.restore(state)
        log.info("resuming at step %d", state.step)
    return Run(
        engine=made,
        batches=batches,
        quarantine=quarantine,
        out=out,
        pictures=pictures,
        description=description,
        lineage=lineage,
        terminated=terminated,
        row_step=made.step,
    )


def _defaults(job_: Any) -> dict[str, Any]:
    """Fields with a default: what a checkpoint means that was written before they came."""
    fields = dataclasses.fields(job_)
    return {f.name: job.describe(f.default) for f in fields if f.default is not dataclasses.MISSING}


def _open(job_: Any, accelerator: Any, step: int) -> Batches:
    """This process's batches after `step` updates; missing data is told before weights load."""
    aside = {"set_aside": True} if job_.max_quarantined > 0 else {}
    return job_.batches(
        batch_size=job_.batch_size // job_.accumulate,
        seed=job_.seed,
        start=step * job_.batch_size,
        rank=accelerator.process_index,
        world_size=accelerator.num_processes,
        workers=job_.workers,
        **aside,
    )
