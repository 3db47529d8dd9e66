"""`distill rehearse`: whether a training job starts on a cluster, tried before it queues for one.

The job is built as one process of many over a process group that exchanges nothing, on tensors
without memory. FSDP then cuts the real parameters for that process, and the real optimizer makes
its moments for them.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import patch_environment
from torch import distributed, nn
from torch.distributed.tensor import DTensor
from torch.testing._internal.distributed.fake_pg import FakeStore

from distill import loading, sharding
from distill.engine import FROZEN
from distill.launch import check_split
from distill.models import blocks
from distill.plan.counting import shadow, shadows, size
from distill.plan.networks import weightless
from distill.plan.question import Question
from distill.plan.reckoning import grouped, scaled
from distill.plan.spread import Spread, spread


@dataclass(frozen=True, kw_only=True)
class Part:
    """What one process of the job has.

    Attributes:
        rank: its number.
        samples: numbers of the samples of its first update, batch by batch.
        keys: of the first batch, where data was given.
        weights: bytes of trained weights that lie there.
        frozen: bytes of those that are not trained.
        moments: bytes of the optimizer's state.
    """

    rank: int
    samples: tuple[tuple[int, ...], ...]
    keys: tuple[str, ...]
    weights: int
    frozen: int
    moments: int


@dataclass(frozen=True, kw_only=True)
class Rehearsal:
    """A job that would start.

    Attributes:
        lies: how it is spread.
        parts: the first process, one in the middle and the last.
        batch_size: samples of an update, over all of them.
        accumulate: batches of an update on each.
        rates: learning rates of each group at the first and the last update.
        parameters: of the whole network that are trained.
        checkpoints: updates after which checkpoints are written.
    """

    lies: Spread
    parts: tuple[Part, ...]
    batch_size: int
    accumulate: int
    rates: Mapping[str, tuple[float, float]]
    parameters: int
    checkpoints: tuple[int, int]

    @property
    def text(self) -> str:
        """For people."""
        return "\n".join(f"{name:<12}{line}" for name, line in self._lines())

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return asdict(self)

    def _lines(self) -> Iterator[tuple[str, str]]:
        count, each = self.lies.devices, len(self.parts[0].samples[0])
        by = f" by {self.lies.layer}" if self.lies.layer else ""
        cut = f", in pieces{by}" if self.lies.kind == "FSDP" else ""
        yield "processes", f"{count} ({self.lies.kind}{cut})"
        several = f" in {self.accumulate} batches" if self.accumulate > 1 else ""
        yield "batch", f"{self.batch_size} a step{several}, {each} at once on each process"
        yield "trained", f"{grouped(self.parameters)} parameters"
        for name, (first, last) in self.rates.items():
            yield "rate", f"{name}: {first:.2g} at the first step, {last:.2g} at last"
        for part in self.parts:
            yield f"rank {part.rank}", self._of(part)
        first, last = (f"step-{step:09d}" for step in self.checkpoints)
        yield "checkpoints", f"checkpoints/{first} ... {last}"

    @staticmethod
    def _of(part: Part) -> str:
        numbers = ", ".join(_range(batch) for batch in part.samples)
        parts = {"weights": part.weights, "frozen": part.frozen, "moments": part.moments}
        held = ", ".join(f"{name} {scaled(float(n), 'B')}" for name, n in parts.items() if n)
        keys = f": {', '.join(part.keys)}" if part.keys else ""
        return f"{held}; begins with samples {numbers}{keys}"


def rehearse(job: Any, *, ranks: int | None, launch: Path | None, reads_data: bool) -> Rehearsal:
    """Build `job` as the first, a middle and the last of its processes.

    Args:
        job: a `TrainJob`.
        ranks: processes; None: as many as `launch` starts, or one.
        launch: a launch file of Accelerate, which says whether weights are cut into pieces (FSDP).
        reads_data: the job's data may be opened; each of the three then draws its first batch.

    Raises:
        ValueError: the job does not train, its batch cannot be split, or whatever else would keep
            it from starting.
    """
    if not hasattr(job, "batches"):
        raise ValueError(f"rehearse: {type(job).__name__} does not train; it needs no rehearsal")
    lies = spread(Question(hardware="any", launch=launch, gpus=None if launch else ranks))
    count = ranks or lies.devices
    lies = Spread(devices=count, kind=lies.kind, layer=lies.layer)
    check_split(job.batch_size, job.accumulate, count)
    parts = []
    for rank in _shown(count):
        with _one_of(count, rank):
            parts.append(_part(job, lies, rank, reads_data=reads_data))
    ends = job.lr(0, job.steps), job.lr(job.steps - 1, job.steps)
    with shadows():
        trained = size(weightless(job.objective)(), trained=True)
    return Rehearsal(
        lies=lies,
        parts=tuple(parts),
        batch_size=job.batch_size,
        accumulate=job.accumulate,
        rates={name: (ends[0][name], ends[1][name]) for name in ends[0]},
        parameters=trained // torch.float32.itemsize,
        checkpoints=(min(job.checkpoint_every, job.steps), job.steps),
    )


def _shown(count: int) -> Sequence[int]:
    return sorted({0, count // 2, count - 1})


@contextlib.contextmanager
def _one_of(count: int, rank: int) -> Iterator[None]:
    """Within it this process is one of so many, the others of which are not there."""
    distributed.init_process_group("fake", rank=rank, world_size=count, store=FakeStore())
    try:
        yield
    finally:
        distributed.destroy_process_group()


def _part(job: Any, lies: Spread, rank: int, *, reads_data: bool) -> Part:
    place = {"batch_size": job.batch_size // job.accumulate, "rank": rank}
    place["world_size"] = lies.devices
    numbers = loading.numbers(start=0, **place)
    keys: tuple[str, ...] = ()
    if reads_data:
        with contextlib.closing(job.batches(seed=job.seed, workers=0, **place)) as batches:
            keys = tuple(next(batches)["key"])
    with shadows():  # where networks can be asked for the widths of their features
        objective = weightless(job.objective)()
    shadow(objective, device="meta")
    if job.activation_checkpointing:
        blocks.checkpoint_activations(objective.student)
    if lies.kind == "FSDP":
        with patch_environment(FSDP_TRANSFORMER_CLS_TO_WRAP=lies.layer):
            sharding.shard(objective, torch.device("cpu"), whole=FROZEN)
    return Part(
        rank=rank,
        samples=tuple(tuple(next(numbers)) for _ in range(job.accumulate)),
        keys=keys,
        weights=_held(objective, trained=True),
        frozen=_held(objective, trained=False),
        moments=_moments(job, objective),
    )


def _held(objective: nn.Module, *, trained: bool) -> int:
    chosen = (p for p in objective.parameters() if p.requires_grad is trained)
    own = (p.to_local() if isinstance(p, DTensor) else p for p in chosen)
    return sum(p.numel() * p.element_size() for p in own)


def _moments(job: Any, objective: Any) -> int:
    """What the optimizer keeps after a step on this process' pieces."""
    with shadows():
        groups = {
            name: [_shadow(p) for p in group if p.requires_grad]
            for name, group in objective.parameter_groups().items()
        }
        optimizer = job.optimizer(groups)
        optimizer.step()
    state = [value for entry in optimizer.state.values() for value in entry.values()]
    return sum(v.numel() * v.element_size() for v in state if isinstance(v, torch.Tensor))


def _shadow(parameter: nn.Parameter) -> nn.Parameter:
    own = parameter.to_local() if isinstance(parameter, DTensor) else parameter
    made = nn.Parameter(torch.empty(own.shape, dtype=own.dtype))
    made.grad = torch.empty_like(made)
    return made


def _range(numbers: tuple[int, ...]) -> str:
    if len(numbers) == 1:
        return str(numbers[0])
    return f"{numbers[0]} to {numbers[-1]}"
