"""Batches to the teachers' device and answers back; on a GPU neither makes the caller wait."""

from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from pseudo_labels.predictor import Answer


def to_device(
    views: Sequence[tuple[Float[Tensor, "3 _ _"], ...]], device: torch.device
) -> list[Float[Tensor, "b 3 _ _"]]:
    """The views of several images, stacked: one batch for each view.

    On a GPU through pinned buffers, which torch keeps until the copy is done and then reuses.
    """
    stacked: list[Tensor] = []
    for same in zip(*views, strict=True):
        shape = (len(same), *same[0].shape)
        on_gpu = device.type == "cuda"
        buffer = torch.empty(shape, dtype=same[0].dtype, pin_memory=on_gpu)
        torch.stack(same, out=buffer)
        stacked.append(buffer.to(device, non_blocking=True))
    return stacked


def to_host(answer: Answer) -> Callable[[], Answer]:
    """A function that waits until `answer` lies in host memory and returns it, at every call."""
    if not answer.values.is_cuda:
        return lambda: answer
    copied = replace(
        answer, **{field.name: _copied(getattr(answer, field.name)) for field in fields(answer)}
    )
    done = torch.cuda.Event()
    done.record()

    def wait() -> Answer:
        done.synchronize()
        return copied

    return wait


def _copied(value: Any) -> Any:
    if value is None:
        return None
    if isinstance(value, Tensor):
        return value.to("cpu", non_blocking=True)  # into pinned memory
    return {name: _copied(entry) for name, entry in value.items()}
