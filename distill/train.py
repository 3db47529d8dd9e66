"""`TrainJob` and the loop: every stage of training is an objective and a recipe."""

import contextlib
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from distill import ancestry, atomic, checkpoint, engine, job, launch
from distill.loading import Batches
from distill.objectives.terms import OUTPUT
from distill.optim import adamw, set_rates
from distill.showing import show
from distill.starting import Run, begin
from distill.stopped import dumped, explained
from distill.tracking import Tracker, write_summary
from distill.types import Batch

log = logging.getLogger(__name__)

_TRACES = ("checkpoints", "metrics.jsonl", "summary.json")


@dataclass(frozen=True, kw_only=True)
class TrainJob:
    """A training run.

    Attributes:
        objective: builds the module that turns a batch into a loss; its `student` is exported.
        batches: `loading.batches` with its mixture and transform; of (batch_size, seed, start,
            rank, world_size, workers), and `set_aside` unless `max_quarantined` is 0.
        batch_size: samples of one update, over all processes and accumulated batches.
        steps: updates.
        lr: learning rate of each parameter group, of (step, steps).
        optimizer: of the objective's parameter groups: `optim.adamw` or `optim.Muon`.
        accumulate: batches of an update on each process; as their number, it changes memory, not
            the result, but for what is drawn for a batch: partners of CutMix, teacher and parts of
            `CrossContext`.
        max_grad_norm: longer gradients are shortened to this; None leaves them.
        precision: of the network's arithmetic; weights and losses are float32.
        ema: decay of a moving average of the weights, which is then validated and exported.
        activation_checkpointing: compute activations twice instead of keeping them.
        compiled: have torch compile the transformer blocks: a minute at the start, for GPUs.
        threads: CPU threads of each process; None is torch's choice, one a core, which suits large
            networks: small ones are faster on fewer. Results depend on it in their last bits.
        seed: of initial weights, sample order and perturbations.
        workers: processes that read samples.
        max_quarantined: share of all samples that may be unreadable. They are named in
            `quarantine.jsonl` and others stand in; one more stops the run. 0: the first one does.
        spike: an update whose loss is more than so many times the median of the last 100, and far
            outside their spread, is not applied and stops the run; None: none does.
        drift: an output of unknown scale that grows, shrinks or flattens beyond what float32
            resolves stops the run.
        log_every: updates between rows of metrics.
        checkpoint_every: updates between checkpoints.
        keep_checkpoints: how many of the last ones stay.
        validate_every: updates between validations; there is one before the first and at the end.
        validation: of the student, gives named numbers.
        pictures: builds the fixed batch whose predictions are shown; None: the run's first samples.
        commercial: refuse data, labels and weights whose terms, all the way up, do not allow it.
        accept: names of parts, with commas between, that `commercial` takes on your word.

    Raises:
        ValueError: a field is out of its range or contradicts another.
    """

    objective: Callable[[], nn.Module]
    batches: Callable[..., Batches]
    batch_size: int
    steps: int
    lr: Callable[[int, int], Mapping[str, float]]
    optimizer: Callable[[Mapping[str, Sequence[nn.Parameter]]], torch.optim.Optimizer] = adamw
    accumulate: int = 1
    max_grad_norm: float | None = None
    precision: Literal["bf16", "fp32"] = "bf16"
    ema: float | None = None
    activation_checkpointing: bool = False
    compiled: bool = False
    threads: int | None = None
    seed: int = 0
    workers: int = 2
    max_quarantined: float = 0.001
    spike: float | None = 5.0
    drift: bool = True
    log_every: int = 10
    checkpoint_every: int = 1000
    keep_checkpoints: int = 2
    validate_every: int = 1000
    validation: Callable[[nn.Module], Mapping[str, float]] | None = None
    pictures: Callable[[], Batch] | None = None
    commercial: bool = False
    accept: str = ""

    def __post_init__(self) -> None:
        positive = ("batch_size", "steps", "accumulate", "log_every")
        for name in (*positive, "checkpoint_every", "keep_checkpoints", "validate_every"):
            _require(getattr(self, name) >= 1, f"{name}={getattr(self, name)} must be at least 1")
        batch, parts, norm, ema = self.batch_size, self.accumulate, self.max_grad_norm, self.ema
        _require(self.workers >= 0, f"workers={self.workers} must be at least 0")
        share = self.max_quarantined
        _require(0 <= share <= 1, f"max_quarantined={share} not in [0, 1]")
        _require(self.threads is None or self.threads >= 1, f"threads={self.threads} must be >= 1")
        _require(batch % parts == 0, f"batch_size={batch} is not a multiple of accumulate={parts}")
        _require(self.precision in {"bf16", "fp32"}, f"precision={self.precision}: bf16 or fp32")
        _require(norm is None or norm > 0, f"max_grad_norm={norm} must be positive")
        _require(self.spike is None or self.spike > 1, f"spike={self.spike} must be above 1")
        _require(ema is None or 0 < ema < 1, f"ema={ema} must lie between 0 and 1")
        for step in {0, self.steps - 1}:
            for name, rate in self.lr(step, self.steps).items():
                _require(0 <= rate < inf, f"the learning rate of {name} at step {step} is {rate}")

    def run(self, out: Path, *, resume: bool = False) -> None:
        """Train into `out`: checkpoints, metrics, pictures, at last `model/` and `summary.json`.

        Raises:
            ValueError: `out` holds a run and `resume` is not given, or it belongs to another job.
            GuardStop: an update was not finite or its loss far above the others', the output has
                died or drifted off, or too little can be read.
            Interrupted: SIGTERM came; a checkpoint is written.
        """
        accelerator = engine.accelerator(self.precision)
        is_main = accelerator.is_main_process
        with contextlib.ExitStack() as stack:
            if is_main:
                stack.enter_context(job.exclusive(out))
                atomic.sweep(out)
                atomic.sweep(out / "checkpoints")
            stack.enter_context(job.threads(self.threads))
            accelerator.wait_for_everyone()
            if not resume and any((out / name).exists() for name in _TRACES):
                raise ValueError(f"{out} holds a run: add --resume or choose another --out")
            if (out / "summary.json").is_file():
                log.info("%s is finished; nothing is left to do", out)
                return
            saved = _last(out)  # until all have looked, nobody writes
            stack.enter_context(explained(out, enabled=is_main))
            run = begin(self, accelerator, out, saved, stack)
            tracker = Tracker(out, start=run.engine.step, steps=self.steps, enabled=is_main)
            with tracker, dumped(run.engine, out, rank=accelerator.process_index):
                _train(self, run, tracker)
            _finish(self, run)


def _last(out: Path) -> Path | None:
    """The last checkpoint, the same for all processes.

    Raises:
        ValueError: they see different ones.
    """
    saved = checkpoint.latest(out / "checkpoints")
    if len(seen := set(launch.told(saved.name if saved else "none"))) > 1:
        names = " and others ".join(sorted(seen))
        raise ValueError(
            f"{out}: some processes see {names} as its last checkpoint; it must lie on a file "
            "system that all hosts share"
        )
    return saved


def _train(job_: TrainJob, run: Run, tracker: Tracker) -> None:
    """The loop. A step is one update; whatever else happens, happens between two of them."""
    engine = run.engine
    if engine.step == 0 and job_.validation is not None:  # what it starts from
        show(engine, tracker, validation=job_.validation, pictures=run.pictures)
    for step in range(engine.step, job_.steps):
        set_rates(engine.optimizer, job_.lr(step, job_.steps))
        update = _draw(job_, run)
        totals = engine.totals(update)
        shares = []
        for batch in update:
            with engine.synchronised(last=batch is update[-1]):
                terms = engine.objective(batch, totals)
                engine.backward(terms["loss"])
            shares.append({name: value.detach() for name, value in terms.items()})
        norm = engine.clip(job_.max_grad_norm)
        _read(job_, run, tracker)  # the update before this one, while the device works
        numbers = engine.summed([_with_news(share, run, len(shares)) for share in shares])
        engine.watch.put(step, {**numbers, "grad_norm": norm}, update)
        engine.apply()  # vetoed on the device if a number is not finite
        _between(job_, run, tracker)


def _between(job_: TrainJob, run: Run, tracker: Tracker) -> None:
    """Validation and checkpoints, when their time has come."""
    step = run.engine.step
    validates = step == job_.steps or step % job_.validate_every == 0
    saves = step == job_.steps or step % job_.checkpoint_every == 0
    if validates or saves or run.stop:
        _read(job_, run, tracker)  # nothing is made of weights before their update is known good
    if validates:
        show(run.engine, tracker, validation=job_.validation, pictures=run.pictures)
    if saves or run.stop:
        tracker.sync()
        run.engine.save(
            run.out / "checkpoints",
            samples=step * job_.batch_size,
            job=run.description,
            keep=job_.keep_checkpoints,
        )
    if run.stop and step < job_.steps:
        raise job.Interrupted(f"terminated; {run.out} goes on from step {step} with --resume")


def _draw(job_: TrainJob, run: Run) -> list[Batch]:
    """The batches of one update on this process, on its device."""
    start = time.perf_counter()
    update = [run.engine.place(next(run.batches)) for _ in range(job_.accumulate)]
    for batch in update:
        run.quarantine.add(batch.get("set_aside", {}), step=run.engine.step)
    run.waited += time.perf_counter() - start
    return update


def _read(job_: TrainJob, run: Run, tracker: Tracker) -> None:
    """Learn how the last update went; every `log_every`-th becomes a row of metrics."""
    if (read := run.engine.watch.read()) is None:
        return
    index, numbers = read
    run.stop = numbers.pop("stop") > 0
    run.quarantine.check(round(numbers.pop("quarantined")))
    step, now = index + 1, time.perf_counter()
    speed = (step - run.row_step) * job_.batch_size / (now - run.row_at)
    shown = {name: numbers[name] for name in numbers if name not in (*OUTPUT, "grad_norm")}
    tracker.advance({**shown, "images/s": speed})
    if step % job_.log_every == 0 or step == job_.steps:
        rates = {f"lr/{name}": rate for name, rate in job_.lr(index, job_.steps).items()}
        time_ = {"images_per_s": speed, "wait_s": run.waited, "seconds": run.engine.seconds}
        tracker.row(step, {**numbers, **rates, **time_})
        run.row_step, run.row_at, run.waited = step, now, 0.0


def _with_news(share: Mapping[str, Tensor], run: Run, parts: int) -> dict[str, Tensor]:
    """Beside the terms, so that all processes learn of it at the same step."""
    news = {"stop": float(run.terminated.is_set()), "quarantined": len(run.quarantine) / parts}
    return {**share, **{name: torch.full_like(share["loss"], x) for name, x in news.items()}}


def _finish(job_: TrainJob, run: Run) -> None:
    """Export the student; the summary is written last and means that all is done."""
    run.engine.export(run.out / "model")
    if run.pictures is not None:
        ancestry.write(run.out / "model", run.lineage)
        images = job_.steps * job_.batch_size
        write_summary(run.out, steps=job_.steps, images=images, seconds=run.engine.seconds)
    run.engine.wait()


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)
