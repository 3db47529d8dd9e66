"""Guards of a training run: numbers that are not finite, an output that has died.

The numbers of an update are copied off the device while it goes on working, and read one update
later. Until then a flag on the device keeps a bad update, and every one after it, from the weights.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from distill import job
from distill.types import Batch

PATIENCE = 10  # updates in a row whose output is mostly zero: one may be half sky


@dataclass(frozen=True)
class _Pending:
    step: int
    names: tuple[str, ...]
    numbers: Tensor
    ready: torch.cuda.Event | None
    batches: Sequence[Batch]


class Watch:
    """Holds back bad updates on the device and reads each update's numbers one update later.

    Attributes:
        veto: float32 on the device; 1 from the first bad update on.
    """

    def __init__(self, device: torch.device) -> None:
        self.veto = torch.zeros((), device=device)
        self._pending: _Pending | None = None
        self._dead = 0

    def put(self, step: int, numbers: Mapping[str, Tensor], batches: Sequence[Batch]) -> None:
        """Judge update `step`, before the optimizer takes it.

        Args:
            step: number of the update, from 0.
            numbers: its terms and gradient norm, equal on every process.
            batches: what it was made of on this process.
        """
        assert self._pending is None, "read the previous update first"
        packed = torch.stack([number.detach().float() for number in numbers.values()])
        self.veto.copy_(torch.maximum(self.veto, (~torch.isfinite(packed)).any().float()))
        ready = None
        if packed.is_cuda:
            host = torch.empty(packed.shape, pin_memory=True)
            packed = host.copy_(packed, non_blocking=True)
            ready = torch.cuda.Event()
            ready.record()
        self._pending = _Pending(step, tuple(numbers), packed, ready, batches)

    def read(self) -> tuple[int, dict[str, float]] | None:
        """The last update's step and numbers; None when there is none to read.

        Raises:
            GuardStop: one of them is not finite, or the output has been mostly zero for long.
        """
        if self._pending is None:
            return None
        last, self._pending = self._pending, None
        if last.ready is not None:
            last.ready.synchronize()
        numbers = dict(zip(last.names, last.numbers.tolist(), strict=True))
        if not all(map(math.isfinite, numbers.values())):
            raise job.GuardStop(
                f"update {last.step} is not finite and was not applied: {_text(numbers)}; "
                f"{_suspects(last.batches)}"
            )
        self._dead = self._dead + 1 if numbers.get("zeros", 0.0) > 0.5 else 0
        if self._dead >= PATIENCE:
            raise job.GuardStop(_died(numbers["zeros"], f"{PATIENCE} updates up to {last.step}"))
        return last.step, numbers


def check_alive(pred: Tensor, *, where: str) -> None:
    """Refuse an output of which more than half is exactly zero.

    Raises:
        GuardStop: it is.
    """
    if (zeros := float((pred == 0).float().mean())) > 0.5:
        raise job.GuardStop(_died(zeros, where))


def _died(zeros: float, where: str) -> str:
    return (
        f"{zeros:.0%} of the output is exactly 0 in {where}: the final ReLU has died; "
        "lower the head's learning rate, warm up, or start its last bias higher"
    )


def _suspects(batches: Sequence[Batch]) -> str:
    """The samples whose inputs are not finite, or all samples where every input is."""
    keys = [key for batch in batches for key in batch["key"]]
    broken = [
        key
        for batch in batches
        for key, image in zip(batch["key"], batch["image"], strict=True)
        if not torch.isfinite(image).all()
    ]
    if broken:
        return f"images with numbers that are not finite: {', '.join(broken)}"
    return f"its samples: {', '.join(keys)}"


def _text(numbers: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in numbers.items())
