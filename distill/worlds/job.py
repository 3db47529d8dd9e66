"""`RenderJob`: the worlds into one folder, on every core, resumable at any moment."""

import json
import multiprocessing
import os
import signal
from collections.abc import Sequence
from concurrent import futures
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from tqdm import tqdm

from distill import atomic
from distill.job import Interrupted, die_with_parent, exclusive, terminated
from distill.worlds.units import Parameters, finish_indoor

WORLDS = ("indoor", "street", "photos")
_CARD = """---
license: apache-2.0
---

Rendered by distill from scenes it makes up, under distill's own licence.
"""


@runtime_checkable
class Work(Protocol):
    """A scene that is rendered whole or not at all, in a process of its own."""

    @property
    def frames(self) -> int:
        """How many pictures it makes."""
        ...

    def run(self, out: Path) -> None:
        """Render and write."""
        ...


@dataclass(frozen=True, kw_only=True)
class RenderJob:
    """Render `indoor` (Hypersim's layout), `street` (Virtual KITTI 2's) and `photos`.

    Attributes:
        size: short side of every picture, pixels.
        samples: paths per pixel, whose noise is then smoothed; depth is exact at any number.
        street_variations: weathers rendered of each street, of Virtual KITTI 2's ten; a street
            makes `2 * street_frames * street_variations` pictures, for it has two cameras.
        photos: unlabelled photographs.
        evaluation: held-out photographs with depth, of other places.
        worlds: which of them this run renders; another run adds the others to the same folder.
        workers: processes; None is one a core. The files depend neither on it nor on `worlds`.
    """

    seed: int = 0
    size: int = 112
    samples: int = 4
    indoor_scenes: int = 260
    indoor_frames: int = 3
    street_scenes: int = 90
    street_frames: int = 2
    street_variations: int = 1
    photos: int = 400
    photos_per_scene: int = 2
    evaluation: int = 120
    evaluation_per_scene: int = 2
    worlds: tuple[str, ...] = WORLDS
    workers: int | None = None

    def __post_init__(self) -> None:
        least = {"seed": 0, "size": 16, "samples": 1, "workers": 1, "indoor_frames": 1}
        least |= {"street_frames": 1, "photos_per_scene": 1, "evaluation_per_scene": 1}
        for field in fields(self):
            value, bound = getattr(self, field.name), least.get(field.name, 0)
            if isinstance(value, int) and value < bound:
                raise ValueError(f"RenderJob: {field.name} is {value}; it must be >= {bound}")
        if not 0 < self.street_variations <= 10:
            raise ValueError(
                f"RenderJob: street_variations is {self.street_variations}; Virtual KITTI 2 has 1 "
                "to 10"
            )
        unknown = [name for name in self.worlds if name not in WORLDS]
        if unknown or not self.worlds:
            raise ValueError(f"RenderJob: worlds is {self.worlds}; choose among {WORLDS}")

    @property
    def parameters(self) -> Parameters:
        """What the files depend on."""
        values = asdict(self)
        del values["workers"], values["worlds"]
        return Parameters(**values)

    def run(self, out: Path, *, resume: bool = False) -> None:
        """Render what `out` lacks. What is there is kept, with or without `resume`.

        Raises:
            ValueError: `out` holds worlds of other parameters, or another process writes to it.
            Interrupted: SIGTERM came; finished scenes are kept.
            ImportError: Mitsuba is not installed.
        """
        del resume
        with exclusive(out):
            claim(out, asdict(self.parameters))
            for folder in ("indoor", "street", "photos/unlabelled"):
                (out / folder).mkdir(parents=True, exist_ok=True)
                atomic.sweep(out / folder)
                card = out / folder / "README.md"
                if folder.split("/")[0] in self.worlds and not card.is_file():
                    atomic.write_text(card, _CARD)
            for folder in ("rgb", "depth"):
                atomic.sweep(out / "photos" / "evaluation" / folder)
            units = [u for u in self.parameters.units() if u.part in self.worlds]
            todo = [u for u in units if not all(path.exists() for path in u.paths(out))]
            done = sum(u.frames for u in units) - sum(u.frames for u in todo)
            workers = self.workers or os.cpu_count() or 1
            render_all(todo, out, done=done, workers=workers, name=", ".join(self.worlds))
            if "indoor" in self.worlds:
                finish_indoor(self.parameters, out)


def claim(out: Path, wanted: dict[str, Any]) -> None:
    """Record the parameters `wanted` in `out`, or compare with those recorded.

    Raises:
        ValueError: they differ.
    """
    path = out / "world.json"
    if not path.is_file():
        atomic.write_text(path, json.dumps(wanted, indent=2) + "\n")
        return
    found = json.loads(path.read_text())
    names = [name for name in wanted | found if wanted.get(name) != found.get(name)]
    if names:
        differences = ", ".join(f"{n} {found.get(n)} -> {wanted.get(n)}" for n in names)
        raise ValueError(
            f"{out} holds worlds rendered with other parameters ({differences}); choose another "
            "--out, or remove that folder"
        )


def render_all(todo: Sequence[Work], out: Path, *, done: int, workers: int, name: str) -> None:
    """Give the units to worker processes; stop at SIGTERM once those begun are finished."""
    total = done + sum(unit.frames for unit in todo)
    if not todo:
        return
    spawn = multiprocessing.get_context("spawn")
    pool = futures.ProcessPoolExecutor(
        min(workers, len(todo)), mp_context=spawn, initializer=_start_worker
    )
    bar = tqdm(total=total, initial=done, desc=name, unit="frame", smoothing=0.05)
    with pool, bar, terminated() as stop:
        pending = {pool.submit(unit.run, out): unit for unit in todo}
        while pending:
            ready, _ = futures.wait(pending, timeout=0.2, return_when=futures.FIRST_COMPLETED)
            for future in ready:
                unit = pending.pop(future)
                error = future.exception()
                if error is not None:
                    pool.shutdown(cancel_futures=True)
                    raise error
                bar.update(unit.frames)
            if stop.is_set():
                pool.shutdown(cancel_futures=True)
                raise Interrupted(f"{out}: stopped by SIGTERM; finished scenes are kept, run again")


def _start_worker() -> None:
    """Leave Ctrl-C to the parent, and die with it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    die_with_parent()
