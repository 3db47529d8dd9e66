"""What is done to a network's transformer blocks, one by one, before it trains.

A block is a module of a class that `_no_split_modules` names, as in transformers, and that the
network has several of: DINOv2's embedding is named there too.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Any

from torch import nn


def blocks_of(network: nn.Module) -> Iterator[nn.Module]:
    """Every block in `network`, at any depth."""
    names = {
        name
        for module in network.modules()
        for name in getattr(module, "_no_split_modules", None) or ()
    }
    named = [module for module in network.modules() if type(module).__name__ in names]
    counts = Counter(type(module) for module in named)
    return (module for module in named if counts[type(module)] > 1)


def compile_blocks(network: nn.Module) -> None:
    """Have torch compile each block when it first meets a batch.

    Blocks of one shape share the code. What lies between them runs as it is: compiled as a whole,
    the network was slower on a CPU.

    Raises:
        ValueError: there are none.
    """
    blocks = list(blocks_of(network))
    if not blocks:
        raise ValueError(
            f"{type(network).__name__} names no transformer blocks to compile; leave compiled off"
        )
    for block in blocks:
        block.compile(dynamic=False)


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
