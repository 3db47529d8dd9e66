"""Several processes as torchrun starts them, with a tiny Depth Anything that they train."""

import json
import os
import signal
import socket
import traceback
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch
from torch.distributed.tensor import DTensor
from training import Planes, forking, job, planes

from distill import atomic, checkpoint, engine, parts
from distill.evaluation.validation import HeldOut
from distill.job import seed_everything
from distill.losses.affine_invariant import affine_invariant
from distill.losses.gradient_matching import gradient_matching
from distill.models.depth_anything import DepthAnything, depth_anything
from distill.objectives.supervised import Supervised
from distill.objectives.terms import Term

LAST, RATE = 20, 1e-4


def launch(
    count: int, work: Callable[..., None], *args: Any, fsdp: bool = False
) -> list[BaseProcess]:
    """Run `work(*args)` in each of `count` processes of one launch."""
    context = forking()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    shared |= {"ACCELERATE_USE_CPU": "true", "ACCELERATE_USE_FSDP": str(fsdp).lower()}
    shared |= {"TQDM_DISABLE": "True"}
    shared |= {"FSDP_TRANSFORMER_CLS_TO_WRAP": "Dinov2Layer"}
    started = []
    for rank in map(str, range(count)):
        environment = {**shared, "RANK": rank, "LOCAL_RANK": rank}
        started.append(context.Process(target=_alive, args=(environment, work, args)))
        started[-1].start()
    return started


def _alive(environment: dict[str, str], work: Callable[..., None], args: tuple[Any, ...]) -> None:
    os.environ.update(environment)
    torch.set_num_threads(1)
    os.fsync = lambda _descriptor: None  # a process that is killed needs none, and disks are busy
    try:
        work(*args)
    except Exception:  # noqa: BLE001 - the starter reads it
        traceback.print_exc()
        os._exit(1)  # as torchrun would, which ends those that still wait
    os._exit(0)


def in_one_order() -> DepthAnything:
    """The smallest network, with all sums in the order in which they are under FSDP.

    No weights in channels_last, whose convolutions sum otherwise; and what a block does with its
    input is summed before what the head does with it.
    """
    made = depth_anything("tiny")
    for parameter in made.parameters():
        parameter.data = torch.empty(parameter.shape).copy_(parameter.data)
    for block in made.network.backbone.encoder.layer:
        block.register_forward_pre_hook(lambda _, given: (given[0].view_as(given[0]), *given[1:]))
    return made


class Steady(torch.optim.Optimizer):
    """Adam by one rounded operation after the other.

    Kernels that fuse several, torch's lerp and AdamW among them, do a tensor's last numbers by
    scalar code that rounds otherwise, so that it would matter where a tensor was cut.
    """

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride] - overloads
        for group in self.param_groups:
            for parameter in group["params"]:
                self._move(parameter, group["lr"])

    def _move(self, parameter: torch.Tensor, rate: float) -> None:
        entry = self.state[parameter]
        if not entry:
            entry.update({"step": torch.zeros(()), "exp_avg": torch.zeros_like(parameter)})
            entry["exp_avg_sq"] = torch.zeros_like(parameter)
        entry["step"] += 1
        weight, gradient = own(parameter), own(parameter.grad)
        first, second = own(entry["exp_avg"]), own(entry["exp_avg_sq"])
        first.mul_(0.9).add_(gradient * 0.1)
        second.mul_(0.999).add_(gradient * gradient * 0.001)
        n = float(entry["step"])
        size = (second / (1 - 0.999**n)).sqrt().add_(1e-8)
        weight.sub_(first / (1 - 0.9**n) / size * rate)


def own(tensor: Any) -> torch.Tensor:
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def steady(groups: Mapping[str, Sequence[torch.nn.Parameter]]) -> Steady:
    return Steady([{"name": name, "params": list(group)} for name, group in groups.items()], {})


def supervised() -> Supervised:
    terms = [Term("affine", 1.0, affine_invariant), Term("gradient", 2.0, gradient_matching)]
    return Supervised(in_one_order, terms)


def train(out: Path, resume: bool = False, **fields: Any) -> None:
    held_out = HeldOut(open=partial(Planes, length=7, size=32), size=32)
    given: dict[str, Any] = {"batch_size": 6, "steps": LAST, "rate": RATE, "optimizer": steady}
    given |= {"checkpoint_every": LAST // 2, "keep_checkpoints": 9, "validate_every": LAST}
    batches = partial(planes, data={"size": 32})
    made = job(
        **{"objective": supervised, "batches": batches, "validation": held_out} | given | fields
    )
    made.run(out, resume=resume)


def train_fields(out: Path, fields: dict[str, Any]) -> None:
    train(out, **fields)


def train_in_parts(folder: Path) -> None:
    """The run of two convolutions, accumulating 1, 2 and 3 batches."""
    for parts_ in (1, 2, 3):
        made = job(
            student={"dropout": 0.0}, batch_size=36, accumulate=parts_, steps=3, validation=None
        )
        made.run(folder / f"{os.environ['WORLD_SIZE']}-{parts_}")


def reload(saved: Path, out: Path) -> None:
    """What is there right after loading: saved again, and validated."""
    seed_everything(1)  # other weights than those that are loaded
    made = engine.Engine(engine.accelerator("fp32"), supervised(), steady, ema=0.9)
    made.restore(checkpoint.load(saved))
    made.save(out, samples=0, job={}, keep=1)
    with made.looking() as student:
        numbers = HeldOut(open=partial(Planes, length=7, size=32), size=32)(student)
    atomic.write_text(out / f"numbers-{os.environ['RANK']}.json", json.dumps(numbers))


def train_and_break(out: Path, how: str) -> None:
    """The second checkpoint: the second process dies while it writes its part, or cannot."""
    write = parts.write

    def half(folder: Path, kind: str, *args: Any, **place: Any) -> None:
        if kind == "optimizer" and "000020" in folder.name and os.environ["RANK"] == "1":
            if how == "dies":
                os.kill(os.getpid(), signal.SIGKILL)
            raise OSError("no space left")
        write(folder, kind, *args, **place)

    parts.write = half
    train(out, resume=True)
