"""How a job lies on several devices: whole on each (DDP), or its weights in pieces (FSDP)."""

from dataclasses import dataclass
from typing import Literal, cast

from accelerate.commands.config.config_args import ClusterConfig, load_config_from_file
from torch import nn

from distill import sharding
from distill.plan.counting import size
from distill.plan.question import Question


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Devices and what each of them holds.

    Attributes:
        devices: one process each.
        kind: `alone`, `DDP` or `FSDP`.
        layer: classes of the blocks that FSDP puts together one by one, with commas between; none:
            the network's own.
    """

    devices: int
    kind: Literal["alone", "DDP", "FSDP"]
    layer: str = ""

    def share(self, whole: float) -> float:
        """Bytes of trained weights or their like on one device."""
        return whole / self.devices if self.kind == "FSDP" else whole

    def gradients(self, whole: float, passes: int) -> float:
        """Bytes of gradients on one device, of updates of so many batches."""
        return self.share(whole) if passes == 1 else whole  # summed at the last batch

    def beside(self, module: nn.Module) -> dict[str, float]:
        """Bytes on one device that only exchanging needs.

        DDP keeps its gradients twice, in buckets. FSDP puts together the block at work and the next
        one, and all that lies outside of blocks, with the gradients of one of them. What is not
        trained lies whole on each device.
        """
        if self.kind == "DDP":
            return {"exchange buckets": float(size(module, trained=True))}
        if self.kind == "alone":
            return {}
        sizes = [size(block, trained=True) for block in sharding.pieces(module, self.layer)]
        outside = size(module, trained=True) - sum(sizes)
        return {"put together": float(3 * max(sizes, default=0) + 2 * outside)}

    def sent(self, module: nn.Module, passes: int) -> float:
        """Bytes that each device sends for one update of `passes` batches, by the ring algorithm.

        Gradients are summed and spread again, 2 (n - 1) / n of their size; with FSDP weights are
        collected twice a batch, and gradients, whole until then, are summed at the last.
        """
        ring = (self.devices - 1) / self.devices
        if self.kind == "FSDP":
            return ring * (2 * passes + 1) * size(module, trained=True)
        return 2 * ring * size(module, trained=True)


def spread(question: Question) -> Spread:
    """As the launch file says; else whole on each of the devices.

    Raises:
        ValueError: the launch file starts another number of processes than `--gpus`.
        FileNotFoundError: there is no such file.
    """
    if question.launch is None:
        devices = question.gpus or 1
        return Spread(devices=devices, kind="alone" if devices == 1 else "DDP")
    if not question.launch.is_file():
        raise FileNotFoundError(f"plan: no launch file {question.launch}; see recipes/clusters")
    told = load_config_from_file(str(question.launch))
    devices = cast(ClusterConfig, told).num_processes
    if question.gpus not in (None, devices):
        raise ValueError(
            f"plan: {question.launch} starts {devices} processes, --gpus says {question.gpus}; "
            "leave one of them out"
        )
    kind = str(getattr(told.distributed_type, "value", told.distributed_type))
    if kind != "FSDP":
        return Spread(devices=devices, kind="alone" if devices == 1 else "DDP")
    settings = getattr(told, "fsdp_config", None) or {}
    layer = str(settings.get("fsdp_transformer_layer_cls_to_wrap", ""))
    return Spread(devices=devices, kind="FSDP", layer=layer)
