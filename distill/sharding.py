"""FSDP2: weights, gradients and moments lie in pieces on all processes, as a launch file asks.

`torch.distributed.fsdp.fully_shard` cuts every tensor by rows, on GPUs and CPUs alike. Accelerate
would cast targets and the last convolution to bf16, whose steps gradient matching would see, and
on a CPU it wraps in DDP instead, without a word; so it learns nothing of this.
"""

import os
from contextlib import AbstractContextManager

import torch
from accelerate.utils import patch_environment
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from distill.models.blocks import blocks_of

_REFUSED = {
    "FSDP_OFFLOAD_PARAMS": "weights stay on the device",
    "FSDP_ACTIVATION_CHECKPOINTING": "the job's activation_checkpointing does it",
    "FSDP_CPU_RAM_EFFICIENT_LOADING": "every process loads the weights before they are cut",
}


def asked() -> bool:
    """Whether the launcher asks for FSDP and there are others to share with."""
    return _on("ACCELERATE_USE_FSDP") and torch.distributed.is_initialized()


def unknown_to_accelerate() -> AbstractContextManager[None]:
    """Within it Accelerate sees a launch without FSDP."""
    return patch_environment(ACCELERATE_USE_FSDP="false")


def shard(objective: nn.Module, device: torch.device, *, whole: str) -> None:
    """Cut the parameters of `objective` into pieces, one group of them for each block.

    Blocks are modules of the classes that the launch file names
    (`fsdp_transformer_layer_cls_to_wrap`), or else the network's own (`models.blocks`);
    what lies in none of them is one more group. A block is put together before it computes, and
    cut again after that unless `fsdp_reshard_after_forward` is false.

    Args:
        objective: equal on all processes; its parameters become `DTensor`.
        device: of this process.
        whole: parameters whose names begin so are not trained: each process keeps all of them, as
            they cost no moments, and to send them around at each step would cost more.

    Raises:
        ValueError: the launch file asks for what is not done, or names a block that is not there.
    """
    for setting, instead in _REFUSED.items():
        if _on(setting):
            raise ValueError(f"{setting.lower()} is not supported: {instead}; set it to false")
    kept = {p for name, p in objective.named_parameters() if name.startswith(whole)}
    for parameter in objective.parameters():
        parameter.data = parameter.data.contiguous()  # rows of channels_last are not in one piece
    for parameter in kept:
        if not parameter.is_meta:  # as in a rehearsal
            parameter.data = parameter.data.to(device)
    mesh = init_device_mesh(device.type, (torch.distributed.get_world_size(),))
    reshard = os.environ.get("FSDP_RESHARD_AFTER_FORWARD", "true").lower() != "false"
    for block in pieces(objective, os.environ.get("FSDP_TRANSFORMER_CLS_TO_WRAP", "")):
        if not kept.issuperset(block.parameters()):
            fully_shard(block, mesh=mesh, reshard_after_forward=reshard, ignored_params=kept)
    fully_shard(objective, mesh=mesh, ignored_params=kept)
    assert all(isinstance(p, DTensor) for p in objective.parameters() if p not in kept)


def put_together(tensor: Tensor, like: Tensor) -> Tensor:
    """All rows of a tensor, on every process, in the memory format of `like`; every process calls.

    One that is not in pieces is returned itself.
    """
    if not isinstance(tensor, DTensor):
        return tensor
    return torch.empty_like(like, device=tensor.device).copy_(tensor.full_tensor())


def pieces(objective: nn.Module, named: str) -> list[nn.Module]:
    """The blocks of the classes `named`, commas between, or the network's own; inner ones first.

    Raises:
        ValueError: one of the classes is not there.
    """
    names = {name.strip() for name in named.split(",") if name.strip()}
    classes = {module: type(module).__name__ for module in objective.modules()}
    if missing := names - set(classes.values()):
        raise ValueError(
            f"fsdp_transformer_layer_cls_to_wrap names {sorted(missing)}, which "
            f"{type(objective).__name__} has none of; it is made of {sorted(set(classes.values()))}"
        )
    found = [module for module, name in classes.items() if name in names]
    found = found if names else list(blocks_of(objective))
    return [module for module in reversed(found) if module is not objective]


def _on(setting: str) -> bool:
    return os.environ.get(setting, "").lower() in {"1", "true", "yes"}
