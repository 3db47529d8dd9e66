"""Guards of a training run: numbers that are not finite, losses far above the recent ones.

The numbers of an update are copied off the device while it goes on working, and read one update
later. Until then a flag on the device keeps a bad update, and every one after it, from the weights:
what the host has read of the updates before is all that the flag needs.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from distill import job
from distill.limits import Limits
from distill.types import Batch


class BadUpdate(job.GuardStop):
    """An update that was held back.

    Attributes:
        step: its number, from 0.
        numbers: its terms and gradient norm.
        batches: what it was made of on this process.
    """

    def __init__(self, reason: str, last: "_Pending", numbers: Mapping[str, float]) -> None:
        super().__init__(reason)
        self.step, self.numbers, self.batches = last.step, dict(numbers), last.batches


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
        limits: what the numbers are held against, beside being finite.
    """

    def __init__(self, device: torch.device, limits: Limits | None = None) -> None:
        self.veto = torch.zeros((), device=device)
        self.limits = Limits() if limits is None else limits
        self._pending: _Pending | None = None

    def put(self, step: int, numbers: Mapping[str, Tensor], batches: Sequence[Batch]) -> None:
        """Judge update `step`, before the optimizer takes it.

        Args:
            step: number of the update, from 0.
            numbers: its terms and gradient norm, equal on every process.
            batches: what it was made of on this process.
        """
        assert self._pending is None, "read the previous update first"
        packed = torch.stack([number.detach().float() for number in numbers.values()])
        bad = (~torch.isfinite(packed)).any()
        if "loss" in numbers:
            bad = bad | (packed[list(numbers).index("loss")] > self.limits.loss)
        self.veto.copy_(torch.maximum(self.veto, bad.float()))
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
            BadUpdate: one of them is not finite, or the loss is far above the recent ones.
            GuardStop: the output has been mostly zero, or outside its bounds, for long.
        """
        if self._pending is None:
            return None
        last, self._pending = self._pending, None
        if last.ready is not None:
            last.ready.synchronize()
        numbers = dict(zip(last.names, last.numbers.tolist(), strict=True))
        if not all(map(math.isfinite, numbers.values())):
            raise BadUpdate(
                f"update {last.step} is not finite and was not applied: {_text(numbers)}; "
                f"{_suspects(last.batches)}",
                last,
                numbers,
            )
        if numbers.get("loss", 0.0) > self.limits.loss:
            raise BadUpdate(
                f"update {last.step} was not applied: its loss is "
                f"{self.limits.describe(numbers['loss'])}; the last checkpoint is from before it. "
                "Mend its samples or set them aside, lower the learning rate, or take it with "
                f"--set spike=none; {_suspects(last.batches)}",
                last,
                numbers,
            )
        return last.step, {**numbers, **self.limits.take(last.step, numbers)}


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
