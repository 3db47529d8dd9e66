"""What an update that was held back was made of, left beside the run for a person to look at.

`OUT/stopped/step-000000123/` holds for each process and batch the samples (`00000-00.safetensors`),
a picture of them (`.png`), and in `.json` the update's numbers and seed, each sample's loss alone,
and of every parameter group the gradient's norm and the parameters where it is not finite.
`OUT/stopped.txt` has the words of whichever guard stopped the run, until it goes on.
"""

import contextlib
import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from distill import atomic, job
from distill.colour import panel
from distill.types import Batch
from distill.watch import BadUpdate

_MAPS = ("image", "target", "valid", "far", "confidence", "K")
_SHOWN = 16  # samples of a picture


@contextlib.contextmanager
def explained(out: Path, *, enabled: bool) -> Iterator[None]:
    """Leave what a guard says for those who only see that the run has ended: batch scripts.

    Args:
        out: the run's folder.
        enabled: on one process.

    Raises:
        GuardStop: from the block.
    """
    reason = out / "stopped.txt"
    if enabled:
        reason.unlink(missing_ok=True)
    try:
        yield
    except job.GuardStop as stop:
        if enabled:
            atomic.write_text(reason, f"{stop}\n")
        raise


@contextlib.contextmanager
def dumped(engine: Any, out: Path, *, rank: int) -> Iterator[None]:
    """Leave the samples of an update that the block has held back; every process enters.

    The weights are still those before the update, so what it did is computed again.

    Args:
        engine: an `engine.Engine`.
        out: the run's folder.
        rank: of this process.

    Raises:
        GuardStop: the update was held back; it names the folder.
    """
    try:
        yield
    except BadUpdate as bad:
        folder = out / "stopped" / f"step-{bad.step:09d}"
        paths = [folder / f"{rank:05d}-{number:02d}" for number in range(len(bad.batches))]
        for path, batch in zip(paths, bad.batches, strict=True):
            held = cast(dict[str, Any], batch)
            maps = {name: held[name].cpu().contiguous() for name in _MAPS if name in held}
            atomic.write_bytes(path.with_suffix(".safetensors"), save(maps))
        told = {"step": bad.step, "numbers": _plain(bad.numbers)}
        told["gradients"] = _gradients(engine, bad.batches)
        for path, batch in zip(paths, bad.batches, strict=True):
            losses = [_loss(engine, batch, place) for place in range(len(batch["key"]))]
            samples = {
                "seed": batch.get("seed"),
                "samples": _plain(dict(zip(batch["key"], losses, strict=True))),
            }
            text = json.dumps({**told, **samples}, indent=2)
            atomic.write_text(path.with_suffix(".json"), text + "\n")
            atomic.write_bytes(path.with_suffix(".png"), _picture(batch, losses))
        raise job.GuardStop(f"{bad}; {folder} holds them, with a picture and their losses") from bad


def _plain(numbers: Mapping[str, float]) -> dict[str, float | str]:
    """As JSON has them: numbers that are not finite by their name."""
    return {name: x if math.isfinite(x) else str(x) for name, x in numbers.items()}


def _picture(batch: Batch, losses: Sequence[float]) -> bytes:
    """The samples and their targets, the worst first: that is one whose loss is not finite."""
    badness = [loss if math.isfinite(loss) else math.inf for loss in losses]
    order = sorted(range(len(losses)), key=lambda place: -badness[place])
    rows = [panel(_only(batch, place), None, None) for place in order[:_SHOWN]]
    data = io.BytesIO()
    Image.fromarray(np.concatenate(rows)).save(data, "PNG")
    return data.getvalue()


def _only(batch: Batch, place: int) -> Batch:
    """One sample of a batch, as a batch."""
    named = (*_MAPS, "labelled", "key", "space")
    alone = {
        name: cast(Any, value)[place : place + 1] for name, value in batch.items() if name in named
    }
    return cast(Batch, alone | {"seed": batch.get("seed", 0)})


@torch.no_grad()
def _loss(engine: Any, batch: Batch, place: int) -> float:
    """Of one sample alone, without another's box in it."""
    return float(engine.objective(_only(batch, place))["loss"])


def _gradients(engine: Any, update: Sequence[Batch]) -> dict[str, Any]:
    """Each parameter group's gradient of the update: its norm, and where it is not finite."""
    engine.optimizer.zero_grad()
    totals = engine.totals(update)
    for batch in update:
        with engine.synchronised(last=batch is update[-1]):
            engine.backward(engine.objective(batch, totals)["loss"])
    names = {id(p): name for name, p in cast(nn.Module, engine.objective).named_parameters()}
    return {
        group["name"]: {
            **_plain({"norm": float(torch.nn.utils.get_total_norm([_own(p) for p in moved]))}),
            "not_finite": [names[id(p)] for p in moved if not torch.isfinite(_own(p)).all()],
        }
        for group in engine.optimizer.param_groups
        if (moved := [p for p in group["params"] if p.grad is not None])
    }


def _own(parameter: nn.Parameter) -> Tensor:
    """The gradient, or this process's piece of it."""
    assert parameter.grad is not None
    gradient = parameter.grad
    return gradient.to_local() if isinstance(gradient, DTensor) else gradient
