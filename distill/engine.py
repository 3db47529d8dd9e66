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
from accelerate.utils import (
    DistributedDataParallelKwargs,
    DistributedType,
    FullyShardedDataParallelPlugin,
    InitProcessGroupKwargs,
    gather_object,
)
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.fsdp import MixedPrecisionPolicy
from torch.distributed.tensor import DTensor

from distill import atomic, checkpoint, launch, optim
from distill.limits import Limits
from distill.loading import on_device
from distill.types import Batch
from distill.watch import Watch

_COMPLETE = StateDictOptions(full_state_dict=True, cpu_offload=True)
_FROZEN = "frozen."  # an objective's helpers are neither trained nor saved


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
    made = Accelerator(
        mixed_precision="bf16" if precision == "bf16" else "no",
        cpu=on_cpu,
        kwargs_handlers=[
            # else DDP adds up in another order after a start's first update (three processes on)
            DistributedDataParallelKwargs(broadcast_buffers=False, find_unused_parameters=True),
            InitProcessGroupKwargs(timeout=launch.patience()),
        ],
        fsdp_plugin=sharding() if os.environ.get("ACCELERATE_USE_FSDP") == "true" else None,
    )
    if (launched := int(os.environ.get("WORLD_SIZE", "1"))) != made.num_processes:
        raise ValueError(
            f"{launched} processes were launched but Accelerate sees {made.num_processes}; "
            "launch with torchrun, or with one of recipes/clusters/*.yaml"
        )
    return made


def sharding() -> FullyShardedDataParallelPlugin:
    """FSDP2 as the launch file describes it, with weights and inputs in float32.

    Arithmetic is in bf16 by autocast, as on one device. Accelerate's own choice casts targets and
    the last convolution to bf16 too, whose steps gradient matching would see.
    """
    return FullyShardedDataParallelPlugin(
        fsdp_version=2, mixed_precision_policy=MixedPrecisionPolicy(cast_forward_inputs=False)
    )


class Engine:
    """An objective with its optimizer, spread over the processes, between two updates.

    Under FSDP weights and moments lie in pieces on all processes. What is saved, validated and
    exported is then put together first, the student in a copy of its own.

    Attributes:
        objective: as Accelerate wrapped it; call this one.
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
            ValueError: `ema` or Muon under FSDP.
        """
        self._accelerator, self._bare = accelerator, cast(Any, objective)
        in_pieces = accelerator.distributed_type is DistributedType.FSDP
        if in_pieces and ema is not None:
            raise ValueError(
                "a moving average (ema) does not work with FSDP yet; leave one of them"
            )
        self._whole = copy.deepcopy(self._bare.student) if in_pieces else None
        if in_pieces:  # FSDP cuts rows of memory; channels_last ones are refused
            for parameter in self._bare.parameters():
                parameter.data = parameter.data.contiguous()
        made = optimizer(self._bare.parameter_groups())
        if in_pieces and isinstance(made, optim.Muon):
            raise ValueError("Muon needs whole matrices, FSDP cuts them; use optim.adamw")
        self.objective, self.optimizer = accelerator.prepare(objective.train(), made)
        self._bare_optimizer = made
        self._trained = [p for group in made.param_groups for p in group["params"]]
        self.watch = Watch(accelerator.device, limits)
        optim.veto(made, self.watch.veto)
        self._average = optim.Average(self._bare.student, ema) if ema is not None else None
        self.step, self._earlier, self._began = 0, 0.0, time.perf_counter()

    @property
    def seconds(self) -> float:
        """Of work so far, over all starts."""
        return self._earlier + time.perf_counter() - self._began

    @property
    def student(self) -> Any:
        """What is validated and exported: the moving average where there is one."""
        if self._average:
            return self._average.module
        return self._bare.student if self._whole is None else self._whole

    def place(self, batch: Batch) -> Batch:
        """`batch` with its maps on the device; which samples are labelled stays with the host."""
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

    def synchronised(self, *, last: bool) -> contextlib.AbstractContextManager[Any]:
        """Within it a backward pass exchanges gradients only for the `last` batch of an update."""
        return contextlib.nullcontext() if last else self._accelerator.no_sync(self.objective)

    def backward(self, share: Tensor) -> None:
        """Add the gradient of this batch's share of the update's mean.

        Gradients are averaged over processes where shares are to be summed, hence the factor.
        """
        self._accelerator.backward(share * self._accelerator.num_processes)

    def clip(self, max_norm: float | None) -> Tensor:
        """Shorten the gradient to `max_norm`; its norm before, which is only measured for None."""
        if max_norm is None:
            gradients = [p.grad for p in self._trained if p.grad is not None]
            norm = torch.nn.utils.get_total_norm(gradients)
        else:
            norm = cast(Tensor, self._accelerator.clip_grad_norm_(self._trained, max_norm))
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

        Every process enters; the first may look. A student put together from pieces is on the
        device only meanwhile.
        """
        self._put_together()
        if self._whole is not None and self._accelerator.is_main_process:
            self._whole.to(self._accelerator.device)
        state, student = checkpoint.random_state(), self.student
        training = student.training
        student.eval()
        try:
            with torch.no_grad():
                yield student
        finally:
            student.train(training)
            if self._whole is not None:
                self._whole.to("cpu")
            checkpoint.set_random_state(state)

    def save(self, folder: Path, *, samples: int, job: Any, keep: int) -> None:
        """Write a checkpoint; every process calls this."""
        random = gather_object([checkpoint.random_state()])
        model, optimizer = self._model_state(), self._optimizer_state()
        if self._accelerator.is_main_process:
            state = checkpoint.State(
                step=self.step,
                samples=samples,
                seconds=self.seconds,
                job=job,
                model=model,
                average=self._average.module.state_dict() if self._average else None,
                optimizer=optimizer,
                random=random,
                guards=self.watch.limits.state(),
            )
            checkpoint.save(folder, state, keep=keep)
        self._accelerator.wait_for_everyone()

    def restore(self, state: checkpoint.State) -> None:
        """Go on where `state` was saved.

        With another number of processes, those beyond the saved ones keep their seeds.

        Raises:
            ValueError: the weights do not fit the objective.
        """
        names = {name for name in self._bare.state_dict() if not name.startswith(_FROZEN)}
        if set(state.model) != names or (state.average is None) != (self._average is None):
            raise ValueError("the checkpoint's weights are of another model; choose another --out")
        if self._whole is None:
            self._bare.load_state_dict(state.model, strict=False)
            self._bare_optimizer.load_state_dict(state.optimizer)
        else:
            partly = StateDictOptions(full_state_dict=True, strict=False)
            set_model_state_dict(self._bare, dict(state.model), options=partly)
            set_optimizer_state_dict(
                self._bare, self._bare_optimizer, state.optimizer, options=_COMPLETE
            )
        if self._average and state.average is not None:
            self._average.module.load_state_dict(state.average)
        self.watch.limits.restore(state.guards)
        self.step, self._earlier = state.step, state.seconds
        if (rank := self._accelerator.process_index) < len(state.random):
            checkpoint.set_random_state(state.random[rank])

    def wait(self) -> None:
        """Until every process is here."""
        self._accelerator.wait_for_everyone()

    def export(self, path: Path) -> None:
        """Write the student as a folder that plain transformers loads; every process calls this."""
        self._put_together()
        if not self._accelerator.is_main_process:
            return
        with atomic.replacing_folder(path) as temporary:
            self.student.save_pretrained(temporary)

    def _model_state(self) -> dict[str, Tensor]:
        """What is saved of the objective; under FSDP put together on the first process alone."""
        state: dict[str, Any] = (
            self._bare.state_dict()
            if self._whole is None
            else get_model_state_dict(self._bare, options=_COMPLETE)
        )
        return {name: value for name, value in state.items() if not name.startswith(_FROZEN)}

    def _optimizer_state(self) -> dict[str, Any]:
        if self._whole is None:
            return self._bare_optimizer.state_dict()
        return get_optimizer_state_dict(self._bare, self._bare_optimizer, options=_COMPLETE)

    def _put_together(self) -> None:
        """Under FSDP bring the copy of the student up to date, on the first process."""
        if self._whole is None:
            return
        state, prefix = self._model_state(), "student."
        if self._accelerator.is_main_process:
            own = {name[len(prefix) :]: state[name] for name in state if name.startswith(prefix)}
            self._whole.load_state_dict(own)


def checkpoint_activations(student: Any) -> None:
    """Have the student compute its activations twice instead of keeping them.

    Raises:
        ValueError: it cannot.
    """
    network = getattr(student, "network", student)
    if not getattr(network, "supports_gradient_checkpointing", False):
        raise ValueError(f"{type(network).__name__} cannot checkpoint its activations; turn it off")
    network.activation_checkpointing_enable(
        activation_checkpointing_kwargs={"use_reentrant": False}
    )
    for module in network.modules():
        if hasattr(module, "set_grad_checkpointing"):  # an encoder of timm has a switch of its own
            module.set_grad_checkpointing(True)
