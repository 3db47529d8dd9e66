"""How the processes of a launch meet, also when torchrun starts them again."""

import os

import torch.distributed
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous


def meet_over_gloo() -> None:
    """Open the group of this launch's processes, once; a process that is alone has none.

    Where torchrun starts processes again after one of them died, the store through which they meet
    still holds where the dead ones listened, and gloo would call there until it gives up (torch
    2.13). So each attempt has names of its own in it.
    """
    alone = int(os.environ.get("WORLD_SIZE", "1")) == 1
    if alone or torch.distributed.is_initialized() or "MASTER_ADDR" not in os.environ:
        return
    store, rank, size = next(iter(rendezvous("env://")))
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    store = PrefixStore(f"distill attempt {attempt}", store)
    torch.distributed.init_process_group("gloo", store=store, rank=rank, world_size=size)
