"""One process of a training run: its device, its part of each update, its state on the disk."""

import contextlib
import copy
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState
from accelerate.utils import DistributedDataParallelKwargs, InitProcessGroupKwargs
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from distill import atomic, checkpoint, host_memory, launch, optim, parts, sharding
from distill.limits import Limits
from distill.loading import on_device
from distill.types import Batch
from distill.watch import Watch

FROZEN = "frozen."  # an objective's helpers are neither trained nor saved


def accelerator(precision: str) -> Accelerator:
    """This process among those the launcher started, on its device.

    Raises:
        ValueError: the launcher started several processes and they do not see each other.
    """
    AcceleratorState._reset_state()  # a second job in one process may want another precision
    GradientState._reset_state()
    told = os.environ.get("ACCELERATE_USE_CPU", "").lower() in {"1", "true", "yes"}
    if on_cpu := told or not torch.cuda.is_available():
        launch.meet_over_gloo()
        host_memory.keep()
    with sharding.unknown_to_accelerate():
        made = Accelerator(
            mixed_precision="bf16" if precision == "bf16" else "no",
            cpu=on_cpu,
            kwargs_handlers=[
                # else DDP adds up in another order after a start's first update (from 3 processes)
                DistributedDataParallelKwargs(broadcast_buffers=False, find_unused_parameters=True),
                InitProcessGroupKwargs(timeout=launch.patience()),
            ],
        )
    if (launched := int(os.environ.get("WORLD_SIZE", "1"))) != made.num_processes:
        raise ValueError(
            f"{launched} processes were launched but Accelerate sees {made.num_processes}; "
            "launch with torchrun, or with one of recipes/clusters/*.yaml"
        )
    return made


class Engine:
    """An objective with its optimizer, spread over the processes, between two updates.

    Each process has all of both (DDP), or where the launcher asks for FSDP a piece
    (`distill.sharding`). Arithmetic is in bf16 by autocast in either case.

    Attributes:
        objective: spread over the processes; call this one.
        optimizer: of its parameters.
        step: updates done.
        watch: the guards; its veto holds the optimizer.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        objective: nn.Module,
        optimizer: Callable[[Mapping[str, Sequence[nn.Parameter]]], torch.optim.Optimizer],
        *,
        ema: float | None,
        limits: Limits | None = None,
    ) -> None:
        """Build the optimizer and spread both over the processes.

        Raises:
            ValueError: Muon under FSDP, or FSDP is asked for in a way that is not supported.
        """
        self._accelerator, self._bare = accelerator, cast(Any, objective.train())
        self._shown = _hollow(self._bare.student)
        self._hollow = dict(self._shown.state_dict())
        self._in_pieces = sharding.asked()
        if self._in_pieces:
            sharding.shard(objective, accelerator.device, whole=FROZEN)
            if accelerator.native_amp:
                autocast = torch.autocast(accelerator.device.type, torch.bfloat16)
                objective.forward = autocast(objective.forward)
        made = optimizer(self._bare.parameter_groups())
        if self._in_pieces and isinstance(made, optim.Muon):
            raise ValueError("Muon needs whole matrices, FSDP cuts them; use optim.adamw")
        self.objective, self.optimizer = cast(Any, objective), made
        if not self._in_pieces:
            self.objective, self.optimizer = accelerator.prepare(objective, made)
        self._bare_optimizer = made
        names = {parameter: name for name, parameter in self._bare.named_parameters()}
        self._trained = {names[p]: p for group in made.param_groups for p in group["params"]}
        self.watch = Watch(accelerator.device, limits)
        optim.veto(made, self.watch.veto)
        self._average = optim.Average(self._bare.student, ema) if ema is not None else None
        self.step, self._earlier, self._began = 0, 0.0, time.perf_counter()

    @property
    def seconds(self) -> float:
        """Of work so far, over all starts."""
        return self._earlier + time.perf_counter() - self._began

    def place(self, batch: Batch) -> Batch:
        """`batch` with its maps on the device."""
        return on_device(batch, self._accelerator.device)

    def totals(self, update: Sequence[Batch]) -> dict[str, Tensor] | None:
        """How many samples each mean of this update runs over, on all processes together.

        None for an update of one batch on one process, which counts for itself.
        """
        if len(update) == 1 and self._accelerator.num_processes == 1:
            return None
        return self.summed([self._bare.counts(batch) for batch in update])

    def summed(self, numbers: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """Each name's sum over batches and processes; one exchange, no read on the host."""
        names = tuple(numbers[0])
        own = torch.stack([torch.stack([entry[name] for name in names]) for entry in numbers])
        total = cast(Tensor, self._accelerator.reduce(own.detach().float().sum(0), "sum"))
        return dict(zip(names, total.unbind(), strict=True))

    @contextlib.contextmanager
    def synchronised(self, *, last: bool) -> Iterator[None]:
        """Within it a backward pass exchanges gradients only for the `last` batch of an update."""
        if self._in_pieces:
            self.objective.set_requires_gradient_sync(last)
            yield
            return
        with contextlib.nullcontext() if last else self._accelerator.no_sync(self.objective):
            yield

    def backward(self, share: Tensor) -> None:
        """Add the gradient of this batch's share of the update's mean.

        Gradients are averaged over processes where shares are to be summed, hence the factor.
        """
        self._accelerator.backward(share * self._accelerator.num_processes)

    def clip(self, max_norm: float | None) -> Tensor:
        """Shorten the gradient to `max_norm`; its norm before, which is only measured for None."""
        trained = self._trained.values()
        norm = torch.nn.utils.get_total_norm([p.grad for p in trained if p.grad is not None])
        if max_norm is not None:
            torch.nn.utils.clip_grads_with_norm_(trained, max_norm, norm)
        return norm.full_tensor() if isinstance(norm, DTensor) else norm

    def apply(self) -> None:
        """Take the step and forget the gradient."""
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self._average:
            self._average.update(self._bare.student, self.step, self.watch.veto)
        self.step += 1

    @contextlib.contextmanager
    def looking(self) -> Iterator[Any]:
        """Yield the student to be looked at; training goes on as if nobody had looked.

        What is looked at is the moving average where there is one. Every process enters and may
        look: weights in pieces are put together on each of them, meanwhile, so that images can be
        shared out whatever their number and size.
        """
        state = checkpoint.random_state()
        weights = self._average.weights if self._average else self._bare.student.state_dict()
        like = self._hollow
        whole = {name: sharding.put_together(w, like[name]) for name, w in weights.items()}
        self._shown.load_state_dict(whole, assign=True)
        try:
            with torch.no_grad():
                yield self._shown.to(self._accelerator.device)
        finally:
            self._shown.load_state_dict(self._hollow, assign=True)
            checkpoint.set_random_state(state)

    def save(self, folder: Path, *, samples: int, job: Any, keep: int) -> None:
        """Write a checkpoint; every process calls this and writes what it alone has."""
        groups = self._bare_optimizer.param_groups
        state = checkpoint.State(
            step=self.step,
            samples=samples,
            seconds=self.seconds,
            job=job,
            model=self._weights(),
            average=self._average.weights if self._average else None,
            optimizer=self._moments(),
            groups=[{k: v for k, v in group.items() if k != "params"} for group in groups],
            random=[checkpoint.random_state()],
            guards=self.watch.limits.state(),
        )
        checkpoint.save(folder, state, keep=keep)

    @torch.no_grad()
    def restore(self, state: checkpoint.State) -> None:
        """Go on where `state` was saved.

        With another number of processes, those beyond the saved ones keep their seeds.

        Raises:
            ValueError: the weights do not fit the objective.
        """
        averages = self._average.weights if self._average else None
        for mine, saved in ((self._weights(), state.model), (averages, state.average)):
            if (mine and mine.keys()) != (saved and saved.keys()):
                raise ValueError(
                    "the checkpoint's weights are of another model; choose another --out"
                )
            for name in mine or ():
                parts.fill(cast(Any, mine)[name], cast(Any, saved), name)
        self._restore_moments(state.optimizer)
        for group, saved in zip(self._bare_optimizer.param_groups, state.groups, strict=True):
            group.update(saved)
        self.watch.limits.restore(state.guards)
        self.step, self._earlier = state.step, state.seconds
        if (rank := self._accelerator.process_index) < len(state.random):
            checkpoint.set_random_state(state.random[rank])

    def _restore_moments(self, saved: Mapping[str, Tensor]) -> None:
        numbered = {str(i): p for i, p in enumerate(self._trained.values())}
        by_owner = self._trained | numbered
        for key in saved:
            owner, moment = key.rsplit(".", 1)
            if owner not in by_owner:
                raise ValueError(
                    f"the checkpoint's optimizer trained {owner}, this one does not; choose "
                    "another --out"
                )
            like = by_owner[owner]
            count = moment == "step"  # the one number among the moments
            mine = torch.zeros((), device=like.device) if count else torch.zeros_like(like)
            parts.fill(mine, saved, key)
            self._bare_optimizer.state[like][moment] = mine

    def wait(self) -> None:
        """Until every process is here."""
        self._accelerator.wait_for_everyone()

    def export(self, path: Path) -> None:
        """Write the student as a folder that plain transformers loads; every process calls this."""
        with self.looking() as student:
            if self._accelerator.is_main_process:
                with atomic.replacing_folder(path) as temporary:
                    student.save_pretrained(temporary)

    def _weights(self) -> dict[str, Tensor]:
        """What is saved of the objective."""
        state: dict[str, Tensor] = self._bare.state_dict()
        return {name: value for name, value in state.items() if not name.startswith(FROZEN)}

    def _moments(self) -> dict[str, Tensor]:
        state = self._bare_optimizer.state
        return {
            f"{name}.{moment}": value
            for name, parameter in self._trained.items()
            for moment, value in state.get(parameter, {}).items()
        }


def _hollow(student: nn.Module) -> Any:
    """A copy of the student, to be looked at, whose parameters have no memory yet."""
    empty = {
        id(p): nn.Parameter(torch.empty_like(p, device="meta"), requires_grad=False)
        for p in student.parameters()
    }
    return copy.deepcopy(student, empty).eval()
