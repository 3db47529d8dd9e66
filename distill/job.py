"""What `distill run` runs, its seed, the record it leaves and the ways it can end."""

import contextlib
import dataclasses
import fcntl
import json
import multiprocessing
import os
import platform
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from accelerate import PartialState

from distill import atomic

_RECORDED = (
    "torch",
    "transformers",
    "accelerate",
    "timm",
    "albumentations",
    "numpy",
    "imagecodecs",
)


@runtime_checkable
class Job(Protocol):
    """A frozen dataclass with everything a run needs; `run` does it."""

    def run(self, out: Path, *, resume: bool = False) -> None:
        """Do the work into `out`.

        Raises:
            GuardStop: a guard stopped the run; what was finished is kept.
            Interrupted: SIGTERM came; a checkpoint is written.
            PartialFailure: the work is done except for inputs that failed.
        """
        ...


class GuardStop(RuntimeError):
    """A guard stopped the run before harm was done. Exit code 3."""


class Interrupted(RuntimeError):
    """SIGTERM came and the state was saved. Exit code 143."""


class PartialFailure(RuntimeError):
    """Everything else is done, these inputs failed. Exit code 1."""

    def __init__(self, failures: dict[str, str]) -> None:
        self.failures = failures
        lines = "\n".join(f"  {name}: {reason}" for name, reason in failures.items())
        super().__init__(f"{len(failures)} input(s) failed:\n{lines}")


def die_with_parent() -> None:
    """For a worker process: end when its parent has ended, be it by SIGKILL.

    A worker that a fork server started has that server for its system parent and would stay.
    """
    threading.Thread(target=_follow_parent, daemon=True).start()


def _follow_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


@contextlib.contextmanager
def threads(count: int | None) -> Iterator[None]:
    """Torch computes with this many CPU threads while the block runs; None leaves its choice."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def terminated() -> Iterator[threading.Event]:
    """An event that SIGTERM sets while the block runs, so that the process does not die of it.

    Only the main thread hears signals; off it the event is never set.
    """
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return
    before = signal.signal(signal.SIGTERM, lambda *_: event.set())
    try:
        yield event
    finally:
        signal.signal(signal.SIGTERM, before)


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and torch once, at the start of a job; nothing else may."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - for libraries that still draw from the global state
    torch.manual_seed(seed)  # noqa: TID251 - the one place


def is_main_process() -> bool:
    """Whether this process is the first of its launch, as torchrun and Accelerate number them."""
    return int(os.environ.get("RANK", "0")) == 0


def processes() -> PartialState:
    """This launch's processes; without a GPU they meet over gloo.

    Accelerate's own default leaves processes on the CPU each believing they are alone, unless told.

    Raises:
        ValueError: the launcher started more processes than have met.
    """
    state = PartialState(cpu=not torch.cuda.is_available())
    started = int(os.environ.get("WORLD_SIZE", "1"))
    if state.num_processes != started:
        raise ValueError(
            f"{started} processes were launched but {state.num_processes} met; start them with "
            "torchrun or a launch file of recipes/clusters"
        )
    return state


@contextlib.contextmanager
def exclusive(out: Path) -> Iterator[None]:
    """Hold `out` for this process; a second job on the same folder is refused.

    Raises:
        ValueError: another process holds `out`.
    """
    out.mkdir(parents=True, exist_ok=True)
    with (out / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ValueError(
                f"another process is already writing to {out}; wait for it or choose another --out"
            ) from error
        yield


def write_run_json(out: Path, job: Job, *, recipe: str, inputs: dict[str, Any]) -> None:
    """Record what runs: recipe, its inputs, the resolved job, git commit, versions, machine.

    The entries of earlier starts on the same folder are kept: a resumed run lists each start.
    """
    path = out / "run.json"
    starts = json.loads(path.read_text())["starts"] if path.is_file() else []
    starts.append(
        {
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "recipe": recipe,
            "inputs": describe(inputs),
            "job": describe(job),
            "command": sys.argv,
            "commit": _commit(),
            "versions": {name: metadata.version(name) for name in _RECORDED},
            "python": platform.python_version(),
            "machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
        }
    )
    atomic.write_text(path, json.dumps({"starts": starts}, indent=2) + "\n")


def describe(value: Any) -> Any:
    """`value` as plain JSON: dataclasses and partials by their parts, functions by their name."""
    match value:
        case str() | int() | float() | bool() | None:
            return value
        case partial():
            call = {"call": describe(value.func), "args": describe(value.args)}
            plain = call | describe(value.keywords)
        case dict():
            plain = {str(key): describe(entry) for key, entry in value.items()}
        case list() | tuple():
            plain = [describe(entry) for entry in value]
        case _ if dataclasses.is_dataclass(value) and not isinstance(value, type):
            fields = {f.name: describe(getattr(value, f.name)) for f in dataclasses.fields(value)}
            plain = {"type": type(value).__name__, **fields}
        case _ if callable(value) and hasattr(value, "__qualname__"):
            plain = f"{value.__module__}:{value.__qualname__}"
        case _:
            plain = str(value)
    return plain


def _commit() -> str | None:
    """The git commit of the source tree, `+` behind it when changed; None outside git."""
    try:
        git = partial(subprocess.run, cwd=Path(__file__).parent, capture_output=True, text=True)
        head = git(["git", "rev-parse", "HEAD"])
        dirty = git(["git", "status", "--porcelain", "--untracked-files=no"])
    except FileNotFoundError:
        return None
    if head.returncode != 0:
        return None
    return head.stdout.strip() + ("+" if dirty.stdout.strip() else "")
