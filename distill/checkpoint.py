"""Everything a run needs to go on as if it had never stopped, one complete folder a checkpoint.

Every process writes its own part (`distill.parts`), so a folder holds `model-*.safetensors`,
`average-*.safetensors` (with a moving average), `optimizer-*.safetensors` (`<parameter>.<moment>`),
`random-*.pt` (generators) and `state.json` (step, samples, seconds, guards, the optimizer's groups,
the job). Any number of processes goes on from it, with FSDP or without.
"""

import contextlib
import json
import os
import random
import re
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from distill import atomic, launch, parts
from distill.parts import Stored

FORMAT = 2  # raised when a folder's meaning changes; older numbers stay readable

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
        optimizer: its moments, each by `<parameter>.<moment>`; in format 1 a number may stand for
            the parameter, its place in the groups.
        groups: the optimizer's parameter groups without their parameters.
        random: generators (`random_state`), when saved those of this process, else of each.
        guards: what they remember (`limits.Limits`), none of it in the first checkpoints.
    """

    step: int
    samples: int
    seconds: float
    job: Any
    model: Mapping[str, Tensor]
    average: Mapping[str, Tensor] | None
    optimizer: Mapping[str, Tensor]
    groups: Sequence[Mapping[str, Any]]
    random: list[dict[str, Any]]
    guards: dict[str, Any] = field(default_factory=dict)


def save(folder: Path, state: State, *, keep: int) -> Path:
    """Write `state` below `folder`, complete or not at all; keep the last `keep` checkpoints.

    Every process calls this with what it holds, and finds the checkpoint there when it returns.

    Raises:
        OSError: one of them could not write.
    """
    path = folder / f"step-{state.step:09d}"
    with _filled_by_all(path) as temporary:
        _write(temporary, state)
    if launch.place()[0] == 0:
        for old in _folders(folder)[:-keep]:
            # renamed first: a folder that is half removed must not look like a checkpoint
            doomed = old.with_name(f".{old.name}.tmp-{os.getpid()}")
            old.rename(doomed)
            shutil.rmtree(doomed)
    launch.told(None)
    return path


@contextlib.contextmanager
def _filled_by_all(path: Path) -> Iterator[Path]:
    """Yield a temporary folder to every process; it becomes `path` once each has written."""
    with contextlib.ExitStack() as stack:
        first = launch.place()[0] == 0
        made = stack.enter_context(atomic.replacing_folder(path)) if first else None
        failure = None
        try:
            yield launch.told(made)[0]
        except Exception as error:  # noqa: BLE001 - the others wait to hear of it
            failure = error
        said = launch.told(failure and f"{type(failure).__name__}: {failure}")
        if failure:
            raise failure
        for number, text in enumerate(said):
            if text:
                raise OSError(f"{path}: process {number} could not write its part: {text}")


def _write(folder: Path, state: State) -> None:
    number, count = launch.place()
    of_all = {"model": state.model, "average": state.average, "optimizer": state.optimizer}
    for kind, tensors in of_all.items():
        if tensors is not None:
            parts.write(folder, kind, tensors, part=number, of=count)
    generators = folder / parts.file_name("random", number, count, "pt")
    torch.save(state.random, generators)
    atomic.fsync(generators)
    if number == 0:
        numbers = {"step": state.step, "samples": state.samples, "seconds": state.seconds}
        rest = {"guards": state.guards, "groups": state.groups, "job": state.job}
        text = json.dumps({"format": FORMAT, **numbers, **rest}, indent=2)
        (folder / "state.json").write_text(text + "\n")


def latest(folder: Path) -> Path | None:
    """The checkpoint with the most steps, None where there is none."""
    return folders[-1] if (folders := _folders(folder)) else None


def load(path: Path) -> State:
    """Open the checkpoint at `path`; tensors are read when they are used. Nothing is executed.

    Raises:
        ValueError: it was written by a later version, or a part is missing.
    """
    numbers = json.loads((path / "state.json").read_text())
    if numbers["format"] > FORMAT:
        raise ValueError(
            f"{path}: format {numbers['format']}, this version reads up to {FORMAT}; update distill"
        )
    files = {kind: sorted(path.glob(f"{kind}*.safetensors")) for kind in ("model", "average")}
    if numbers["format"] == 1:
        optimizer, groups = _first_format(path / "optimizer.pt")
    else:
        optimizer = Stored(sorted(path.glob("optimizer-*.safetensors")))
        groups = [{k: _tuple(v) for k, v in group.items()} for group in numbers["groups"]]
    return State(
        step=numbers["step"],
        samples=numbers["samples"],
        seconds=numbers["seconds"],
        job=numbers["job"],
        model=Stored(files["model"]),
        average=Stored(files["average"]) if files["average"] else None,
        optimizer=optimizer,
        groups=groups,
        random=[s for file in sorted(path.glob("random*.pt")) for s in _unpickled(file)],
        guards=numbers.get("guards", {}),
    )


def _first_format(path: Path) -> tuple[dict[str, Tensor], list[dict[str, Any]]]:
    """Moments and groups of what an optimizer's `state_dict` was saved as."""
    saved = _unpickled(path)
    moments = {
        f"{owner}.{name}": tensor
        for owner, entry in saved["state"].items()
        for name, tensor in entry.items()
    }
    groups = [{k: v for k, v in g.items() if k != "params"} for g in saved["param_groups"]]
    return moments, groups


def _unpickled(path: Path) -> Any:
    return torch.load(path, map_location="cpu", weights_only=True)


def _tuple(value: Any) -> Any:
    """JSON knows lists alone, optimizers take tuples."""
    return tuple(value) if isinstance(value, list) else value


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
