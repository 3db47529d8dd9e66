"""How batches meet a frozen network: in which portions, compiled or not; the same bits every time.

A CPU takes large images one by one, each on one thread and as many at once as there are threads:
their values depend on nothing else, their activations fit its caches, and no thread waits for
another, which may be reading files. Small ones share portions, as their batch has them. A GPU
takes batches filled up to a power of two, so that each size of image needs few graphs; what fills a
batch is cut off again.
"""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch
from jaxtyping import Float
from torch import Tensor

from distill.models.frozen import FrozenDepthAnything

_PATCHES_AT_ONCE = 1024  # on a CPU; above, a batch gains nothing
_GRAPHS = 4096  # sizes that may be compiled; torch would refuse the ninth


class Inference:
    """Runs a frozen network on batches of any number and size.

    Args:
        network: on its device. On a CPU it takes as many threads as torch has when this is built.
        compiled: whether torch compiles it, anew for each size that it meets; on a GPU into CUDA
            graphs. No timing decides between kernels, for then bits would depend on the moment.
    """

    def __init__(self, network: FrozenDepthAnything, *, compiled: bool) -> None:
        self._network, self._compiled = network, compiled
        self._device = network.device
        self._run = _compiled(network) if compiled else network.run
        self._lanes = _lanes(torch.get_num_threads()) if self._device.type == "cpu" else None
        self._seen: set[torch.Size] = set()

    def __call__(self, pixels: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b h w"]:
        """Values in float32 on the network's device; the caller's own, never overwritten."""
        if self._lanes is None:
            return self._on_gpu(pixels)
        rows, columns = (side // self._network.patch for side in pixels.shape[-2:])
        portions = pixels.split(max(1, _PATCHES_AT_ONCE // (rows * columns)))
        for portion in portions:
            if portion.shape not in self._seen:
                # alone: threads that compile the same at once would do it twice
                self._lanes.submit(self._one, portion).result()
                self._seen.add(portion.shape)
        return torch.cat(list(self._lanes.map(self._one, portions)))

    def _one(self, pixels: Tensor) -> Tensor:
        rows, columns = (side // self._network.patch for side in pixels.shape[-2:])
        with torch.inference_mode():
            return self._run(pixels, self._network.encoder.positions(rows, columns))

    def _on_gpu(self, pixels: Tensor) -> Tensor:
        filled = _filled(pixels.to(self._device, non_blocking=True))
        if self._compiled:  # what the last graph wrote was copied
            torch.compiler.cudagraph_mark_step_begin()
        return self._one(filled)[: len(pixels)].clone()


def _lanes(count: int) -> ThreadPoolExecutor:
    """Threads on each of which torch computes alone."""
    started = threading.Barrier(count + 1)

    def start() -> None:
        torch.set_num_threads(1)
        started.wait()

    lanes = ThreadPoolExecutor(count, "network", initializer=start)
    for _ in range(count):
        lanes.submit(int)
    started.wait()
    torch.set_num_threads(count)  # parts of that setting are the whole process'
    return lanes


def _compiled(network: FrozenDepthAnything) -> Callable[[Tensor, Tensor], Tensor]:
    import torch._dynamo  # slow to import, and only needed here
    import torch._inductor.config

    on_cpu = network.device.type == "cpu"
    # not as `options`, which tracing does not see: it would pass weights as arguments
    settings = {"deterministic": True, "freezing": on_cpu, "triton.cudagraphs": not on_cpu}
    limits = {"recompile_limit": _GRAPHS, "accumulated_recompile_limit": _GRAPHS}
    compiled = torch.compile(network.run, dynamic=False, fullgraph=True)

    def run(pixels: Tensor, positions: Tensor) -> Tensor:
        with torch._dynamo.config.patch(limits), torch._inductor.config.patch(settings):
            return compiled(pixels, positions)

    return run


def _filled(pixels: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "p 3 h w"]:
    """With copies of the last image up to a power of two."""
    missing = (1 << (len(pixels) - 1).bit_length()) - len(pixels)
    return torch.cat([pixels, pixels[-1:].expand(missing, -1, -1, -1)]) if missing else pixels
