"""Everything a run needs to go on as if it had never stopped, one complete folder a checkpoint.

A folder holds `model.safetensors`, `average.safetensors` (with a moving average), `optimizer.pt`,
`random.pt` (one state a process) and `state.json` (step, samples, seconds, guards, the job).
"""

import json
import os
import random
import re
import shutil
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from distill import atomic

FORMAT = 1  # raised when a folder's meaning changes; older numbers stay readable

_FOLDER = re.compile(r"step-(\d{9})")


@dataclass(frozen=True, kw_only=True)
class State:
    """A run between two updates.

    Attributes:
        step: updates done.
        samples: drawn so far, over all processes.
        seconds: of work so far.
        job: its description (`job.describe`), to be compared on resume.
        model: the objective's weights that are trained or exported.
        average: the moving average's weights, if there is one.
        optimizer: its `state_dict`.
        random: each process's generators (`random_state`).
        guards: what they remember (`limits.Limits`), none of it in the first checkpoints.
    """

    step: int
    samples: int
    seconds: float
    job: Any
    model: dict[str, Tensor]
    average: dict[str, Tensor] | None
    optimizer: dict[str, Any]
    random: list[dict[str, Any]]
    guards: dict[str, Any] = field(default_factory=dict)


def save(folder: Path, state: State, *, keep: int) -> Path:
    """Write `state` below `folder`, complete or not at all; keep the last `keep` checkpoints."""
    path = folder / f"step-{state.step:09d}"
    with atomic.replacing_folder(path) as temporary:
        save_file(_plain(state.model), temporary / "model.safetensors")
        if state.average is not None:
            save_file(_plain(state.average), temporary / "average.safetensors")
        torch.save(state.optimizer, temporary / "optimizer.pt")
        torch.save(state.random, temporary / "random.pt")
        numbers = {"step": state.step, "samples": state.samples, "seconds": state.seconds}
        more = {"guards": state.guards, "job": state.job}
        text = json.dumps({"format": FORMAT, **numbers, **more}, indent=2)
        (temporary / "state.json").write_text(text + "\n")
    for old in _folders(folder)[:-keep]:
        # renamed first: a folder that is half removed must not look like a checkpoint
        doomed = old.with_name(f".{old.name}.tmp-{os.getpid()}")
        old.rename(doomed)
        shutil.rmtree(doomed)
    return path


def latest(folder: Path) -> Path | None:
    """The checkpoint with the most steps, None where there is none."""
    return folders[-1] if (folders := _folders(folder)) else None


def load(path: Path) -> State:
    """Read the checkpoint at `path`. Nothing in it is executed.

    Raises:
        ValueError: it was written by a later version.
    """
    numbers = json.loads((path / "state.json").read_text())
    if numbers["format"] > FORMAT:
        raise ValueError(
            f"{path}: format {numbers['format']}, this version reads up to {FORMAT}; update distill"
        )
    average = path / "average.safetensors"
    return State(
        step=numbers["step"],
        samples=numbers["samples"],
        seconds=numbers["seconds"],
        job=numbers["job"],
        model=load_file(path / "model.safetensors"),
        average=load_file(average) if average.is_file() else None,
        optimizer=torch.load(path / "optimizer.pt", map_location="cpu", weights_only=True),
        random=torch.load(path / "random.pt", map_location="cpu", weights_only=True),
        guards=numbers.get("guards", {}),
    )


def check_same_job(saved: Any, now: Any, *, free: Collection[str]) -> None:
    """Refuse to go on with a job that would have trained differently.

    Args:
        saved: description in the checkpoint.
        now: description of the job that resumes.
        free: fields that change no weight.

    Raises:
        ValueError: naming every field that differs, with both values.
    """
    wrong = [
        f"  {name}: {_short(old)} -> {_short(new)}"
        for name, old, new in _differences(_plain_json(saved), _plain_json(now), "")
        if name.split(".")[0] not in free
    ]
    if wrong:
        raise ValueError(
            "the checkpoint belongs to another job; restore these or choose another --out:\n"
            + "\n".join(wrong)
        )


def random_state() -> dict[str, Any]:
    """The state of every global generator of this process."""
    name, words, *rest = np.random.get_state()  # noqa: NPY002 - the global state is what is saved
    return {
        "python": random.getstate(),
        "numpy": [name, torch.from_numpy(np.asarray(words).astype(np.int64)), *rest],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
    }


def set_random_state(state: dict[str, Any]) -> None:
    """Put every global generator back to a `random_state`."""
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))  # noqa: NPY002
    torch.set_rng_state(state["torch"])
    if state["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])


def _folders(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if _FOLDER.fullmatch(path.name))


def _plain(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """As safetensors wants them: on the host, each with memory of its own."""
    return {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}


def _plain_json(value: Any) -> Any:
    """After a round trip through JSON, without the addresses of objects."""
    return json.loads(re.sub(r" at 0x[0-9a-f]+", "", json.dumps(value)))


def _differences(old: Any, new: Any, name: str) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in {**old, **new}:
            below = f"{name}.{key}" if name else key
            yield from _differences(old.get(key), new.get(key), below)
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for i, (left, right) in enumerate(zip(old, new, strict=True)):
            yield from _differences(left, right, f"{name}.{i}")
    elif old != new:
        yield name, old, new


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else text[:77] + "..."
