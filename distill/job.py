"""What `distill run` runs, its seed, the record it leaves and the ways it can end."""

import atexit
import contextlib
import dataclasses
import fcntl
import hashlib
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
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from importlib import metadata
from pathlib import Path
from types import MethodType
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from accelerate import PartialState

from distill import atomic
from distill.launch import meet_over_gloo, patience

_RECORDED = (
    "torch",
    "transformers",
    "accelerate",
    "timm",
    "albumentations",
    "numpy",
    "imagecodecs",
)
_TEXT = {".json", ".jsonl", ".csv"}


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


class Occupied(ValueError):
    """Another process holds the folder. Exit code 2."""


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


def cores() -> int:
    """This process' share of the cores that it may use, at least one; torchrun tells of others."""
    return max(1, len(os.sched_getaffinity(0)) // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


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
    if not torch.cuda.is_available():
        meet_over_gloo()
    state = PartialState(cpu=not torch.cuda.is_available(), timeout=patience())
    started = int(os.environ.get("WORLD_SIZE", "1"))
    if state.num_processes != started:
        raise ValueError(
            f"{started} processes were launched but {state.num_processes} met; start them with "
            "torchrun or a launch file of recipes/clusters"
        )
    return state


def _leave_processes() -> None:
    """Close gloo before the interpreter goes: its threads would now and then abort the process.

    Of 25 launches of two that had finished, 4 ended with SIGABRT.
    """
    if torch.distributed.is_initialized() and torch.distributed.get_backend() == "gloo":
        torch.distributed.destroy_process_group()


atexit.register(_leave_processes)


@contextlib.contextmanager
def exclusive(out: Path) -> Iterator[None]:
    """Hold `out` for this process; a second job on the same folder is refused.

    Raises:
        Occupied: another process holds `out`.
    """
    out.mkdir(parents=True, exist_ok=True)
    with (out / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Occupied(
                f"another process is already writing to {out}; wait for it or choose another --out"
            ) from error
        yield


@contextlib.contextmanager
def recorded(
    out: Path, job: Job, *, recipe: str | None = None, inputs: Mapping[str, Any] | None = None
) -> Iterator[None]:
    """Record in `out/run.json` what runs in the block, before it does; on the first process.

    An entry holds recipe, its inputs, the resolved job, git commit, versions and machine. Those of
    earlier starts are kept: a resumed run lists each of them. A start that leaves `out` as it was,
    refused or with nothing left to do, is taken back: what lies there is not its work.
    """
    if not is_main_process():
        yield
        return
    out.mkdir(parents=True, exist_ok=True)
    before, start = _contents(out), _start(job, recipe, inputs or {})
    _write_starts(out, [*_starts(out), start])
    occupied = False
    try:
        yield
    except Occupied:  # what has changed, the other process did
        occupied = True
        raise
    finally:
        if occupied or _contents(out) == before:
            _take_back(out, start)


def describe(value: Any) -> Any:
    """`value` as plain JSON: dataclasses and partials by their parts, functions by their name."""
    match value:
        case str() | int() | float() | bool() | None:
            return value
        case partial():
            call = {"call": describe(value.func), "args": describe(value.args)}
            plain = call | describe(value.keywords)
        case MethodType():
            plain = {"call": describe(value.__func__), "of": describe(value.__self__)}
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


def _contents(out: Path) -> dict[Path, Any]:
    """What a run has left in `out`: text by what it says, as it may be written again unchanged."""
    found: dict[Path, Any] = {}
    for path in out.rglob("*"):
        name = path.relative_to(out)
        if name == Path("run.json") or any(part.startswith(".") for part in name.parts):
            continue
        with contextlib.suppress(FileNotFoundError):  # another process works here
            if path.is_file() and path.suffix in _TEXT:
                found[name] = hashlib.sha256(path.read_bytes()).digest()
            elif path.is_file():
                found[name] = path.stat().st_size, path.stat().st_mtime_ns
    return found


def _start(job: Job, recipe: str | None, inputs: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "recipe": recipe,
        "inputs": describe(dict(inputs)),
        "job": describe(job),
        "command": sys.argv,
        "commit": _commit(),
        "versions": {name: metadata.version(name) for name in _RECORDED},
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
    }


def _starts(out: Path) -> list[dict[str, Any]]:
    path = out / "run.json"
    return json.loads(path.read_text())["starts"] if path.is_file() else []


def _write_starts(out: Path, starts: Sequence[Mapping[str, Any]]) -> None:
    atomic.write_text(out / "run.json", json.dumps({"starts": starts}, indent=2) + "\n")


def _take_back(out: Path, start: Mapping[str, Any]) -> None:
    """Remove `start`, which need not be the last: another process may have begun meanwhile."""
    starts = _starts(out)
    del starts[[json.dumps(entry) for entry in starts].index(json.dumps(start))]
    if starts:
        _write_starts(out, starts)
    else:
        (out / "run.json").unlink()


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
