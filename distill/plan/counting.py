"""FLOPs and memory of work on tensors that are all shape and no content."""

import contextlib
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a piece of work takes.

    Attributes:
        flops: of matrix products, convolutions and attention, each multiply-add as two.
        peak: bytes of tensors made by the work that live at once, at most.
        left: bytes of them that are still there at its end.
    """

    flops: float
    peak: int
    left: int


def _attention(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    return sdpa_flop_count(query, key, value)


def _attention_backward(grad: Any, query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    return sdpa_backward_flop_count(grad, query, key, value)


_CPU_ATTENTION = {  # torch knows the kernels of a GPU alone
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
}


@contextlib.contextmanager
def shadows() -> Iterator[None]:
    """Within it tensors have shapes, types and a device (the CPU), and no memory.

    Arithmetic is chosen as on that device, so that attention does not keep its matrix and autocast
    works, which the meta device alone would not do.
    """
    with FakeTensorMode(allow_non_fake_inputs=True):
        yield


@contextlib.contextmanager
def building() -> Iterator[None]:
    """Within it modules are built on the meta device, inside `shadows` too, for `shadow` to turn.

    A shadow cannot be moved to another memory format, which networks do when they are built.
    """
    with unset_fake_temporarily(), torch.device("meta"):
        yield


def shadow(module: nn.Module, *, device: str = "cpu") -> nn.Module:
    """`module` with empty parameters and buffers, in place: shadows, or on `meta` outside them."""
    for part in module.modules():
        for name, parameter in part.named_parameters(recurse=False):
            made = torch.empty(parameter.shape, dtype=parameter.dtype, device=device)
            setattr(part, name, nn.Parameter(made, requires_grad=parameter.requires_grad))
        for name, buffer in part.named_buffers(recurse=False):
            made = torch.empty(buffer.shape, dtype=buffer.dtype, device=device)
            keeps = name not in part._non_persistent_buffers_set
            part.register_buffer(name, made, persistent=keeps)
    return module


def cost(work: Callable[[], object]) -> Cost:
    """Do `work` within `shadows` and count."""
    live = _Live()
    with live, FlopCounterMode(display=False, custom_mapping=_CPU_ATTENTION) as counter:
        kept = work()
    counted = Cost(flops=float(counter.get_total_flops()), peak=live.peak, left=live.now)
    del kept
    return counted


def size(module: nn.Module, *, trained: bool | None = None) -> int:
    """Bytes of the parameters that are `trained` or not, or of all of them."""
    chosen = (p for p in module.parameters() if trained in (None, p.requires_grad))
    return sum(parameter.numel() * parameter.element_size() for parameter in chosen)


class _Live(TorchDispatchMode):
    """Watches the memory of every tensor that an operation makes, until it is gone.

    Memory that an operation gets was there before, or is known already.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> object:
        for leaf in tree_leaves((args, kwargs)):
            if isinstance(leaf, Tensor):
                self._add(leaf.untyped_storage(), ours=False)  # of a view of it, too
        made = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(made):
            if isinstance(leaf, Tensor):
                self._add(leaf.untyped_storage(), ours=True)
        return made

    def _add(self, memory: Any, *, ours: bool) -> None:
        if id(memory) in self._known:
            return
        self._known.add(id(memory))
        size = memory.nbytes() if ours else 0
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(memory, self._forget, id(memory), size)

    def _forget(self, identity: int, size: int) -> None:
        self._known.discard(identity)
        self.now -= size
