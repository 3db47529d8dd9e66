"""How batches meet a frozen network: in which portions, compiled or not; the same bits every time.

What an image's values are depends on the image and the number of threads, not on who else waits: a
CPU takes large images one by one (their activations fit its caches, and batches gain nothing
there), a GPU takes batches filled up to a power of two, so that each size of image needs few
graphs. What fills a batch is cut off again.
"""

from collections.abc import Callable
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor

from distill.models.frozen import FrozenDepthAnything

_PATCHES_AT_ONCE = 1024  # on a CPU; above, a batch gains nothing
_GRAPHS = 4096  # sizes that may be compiled; torch would refuse the ninth


class Inference:
    """Runs a frozen network on batches of any number and size.

    Args:
        network: on its device.
        compiled: whether torch compiles it, anew for each size that it meets; on a GPU into CUDA
            graphs. No timing decides between kernels, for then bits would depend on the moment.
    """

    def __init__(self, network: FrozenDepthAnything, *, compiled: bool) -> None:
        self._network, self._compiled = network, compiled
        self._device = network.stored.device
        self._run = _compiled(network) if compiled else network.run

    def __call__(self, pixels: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b h w"]:
        """Values in float32 on the network's device; the caller's own, never overwritten."""
        rows, columns = (side // self._network.patch for side in pixels.shape[-2:])
        with torch.inference_mode():
            positions = self._network.positions(rows, columns)
            if self._device.type == "cpu":
                portions = pixels.split(max(1, _PATCHES_AT_ONCE // (rows * columns)))
                found = [self._run(portion, positions) for portion in portions]
            else:
                filled = _filled(pixels.to(self._device, non_blocking=True))
                if self._compiled:  # what the last graph wrote was copied
                    torch.compiler.cudagraph_mark_step_begin()
                found = [self._run(filled, positions)[: len(pixels)]]
        return torch.cat(found)


def _compiled(network: FrozenDepthAnything) -> Callable[[Tensor, Tensor], Tensor]:
    import torch._dynamo  # slow to import, and only needed here

    on_cpu = network.stored.device.type == "cpu"
    options: dict[str, Any] = {
        "deterministic": True,
        "freezing": on_cpu,
        "triton.cudagraphs": not on_cpu,
    }
    run = torch.compile(network.run, dynamic=False, fullgraph=True, options=options)
    limits = {"recompile_limit": _GRAPHS, "accumulated_recompile_limit": _GRAPHS}
    # the decorator that config.patch returns is no type that pyright knows
    return cast("Callable[[Tensor, Tensor], Tensor]", torch._dynamo.config.patch(limits)(run))


def _filled(pixels: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "p 3 h w"]:
    """With copies of the last image up to a power of two."""
    missing = (1 << (len(pixels) - 1).bit_length()) - len(pixels)
    return torch.cat([pixels, pixels[-1:].expand(missing, -1, -1, -1)]) if missing else pixels
