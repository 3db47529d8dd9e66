"""How the processes of a launch meet, wait for each other and end, also when started again.

On several hosts `TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1` must be in torchrun's environment, as
recipes/clusters/torchrun_train.sh has it: each attempt then meets in a store of its own, which is
how a host that was started anew finds the others (torch 2.14).
"""

import ctypes
import logging
import os
import signal
from datetime import timedelta
from typing import Any

import torch.distributed
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

log = logging.getLogger(__name__)

_PATIENCE = "DISTILL_TIMEOUT"
_PARENT_DEATH_SIGNAL = 1  # linux/prctl.h: PR_SET_PDEATHSIG


def patience() -> timedelta:
    """How long a process waits for the others before it takes them for lost: 1800 seconds.

    The environment variable `DISTILL_TIMEOUT` changes it. It holds for gloo and NCCL and must be
    longer than what the first process does alone, which is to export the student.

    Raises:
        ValueError: the variable is not a positive number of seconds.
    """
    text = os.environ.get(_PATIENCE, "1800")
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < timedelta.max.total_seconds():
        raise ValueError(f"{_PATIENCE}={text}: give seconds, such as {_PATIENCE}=600")
    return timedelta(seconds=seconds)


def check_split(batch_size: int, accumulate: int, processes: int) -> None:
    """Refuse an update that the processes of a launch cannot share.

    Raises:
        ValueError: `batch_size` is not a multiple of `accumulate` times `processes`.
    """
    if batch_size % (accumulate * processes):
        raise ValueError(
            f"batch_size={batch_size} must be a multiple of accumulate={accumulate} "
            f"times {processes} processes"
        )


def meet_over_gloo() -> None:
    """Open the group of this launch's processes, once; a process that is alone has none.

    Where torchrun starts processes again after one of them died, the store through which they meet
    may still hold where the dead ones listened, and gloo would call there until it gives up. So
    each attempt has names of its own in a store that torchrun keeps; hosts that joined at different
    times count attempts differently, so they need the variable named above.
    """
    alone = int(os.environ.get("WORLD_SIZE", "1")) == 1
    if alone or torch.distributed.is_initialized() or "MASTER_ADDR" not in os.environ:
        return
    store, rank, size = next(iter(rendezvous("env://", timeout=patience())))
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
        attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        store = PrefixStore(f"distill attempt {attempt}", store)
        if rank == 0 and int(os.environ.get("GROUP_WORLD_SIZE", "1")) > 1:
            log.warning(
                "a host that joins again would not be met; start torchrun with "
                "TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1"
            )
    torch.distributed.init_process_group(
        "gloo", store=store, rank=rank, world_size=size, timeout=patience()
    )


def place() -> tuple[int, int]:
    """The number of this process and how many there are; (0, 1) where it is alone."""
    if not torch.distributed.is_initialized():
        return 0, 1
    return torch.distributed.get_rank(), torch.distributed.get_world_size()


def told(news: Any) -> list[Any]:
    """What each process has to say, in their order; all of them call this, and wait for all."""
    _, count = place()
    heard = [news] * count
    if count > 1:
        torch.distributed.all_gather_object(heard, news)
    return heard


def die_with_launcher() -> None:
    """Have the kernel end this process when torchrun or Accelerate, which started it, has ended.

    Processes that outlive a launcher that was killed would hold the output folder, and refuse it to
    the next start, until they notice. Accelerate passes no signal on to a process that is alone:
    with its end comes SIGTERM, after which a run saves. On another system than Linux, or without
    them, it does nothing.
    """
    if not hasattr(libc := ctypes.CDLL(None), "prctl"):
        return
    if "TORCHELASTIC_RUN_ID" in os.environ:
        libc.prctl(_PARENT_DEATH_SIGNAL, signal.SIGKILL)
    elif "ACCELERATE_MIXED_PRECISION" in os.environ:  # which its launcher sets
        libc.prctl(_PARENT_DEATH_SIGNAL, signal.SIGTERM)


def heard(code: int) -> int:
    """The exit code to leave with, so that torchrun does not start again what has ended for good.

    torchrun takes every code but 0 for a crash, and with restarts left begins anew. But what a
    guard stopped (3) it would stop again: the first process of each host ends torchrun too. What is
    done, with inputs that failed (1), is done: 0, which torchrun hears from the other processes.
    """
    if int(os.environ.get("TORCHELASTIC_MAX_RESTARTS", "0")) == 0:
        return code
    if code == 3 and os.environ["LOCAL_RANK"] == "0":  # a second signal would not let others finish
        os.kill(os.getppid(), signal.SIGTERM)
    return 0 if code == 1 else code
