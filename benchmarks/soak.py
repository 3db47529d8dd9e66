"""SIGKILL each stage at random times, resume, and compare every byte with an uninterrupted run.

    make soak                                  # 20 kills each of render, train and label
    .venv/bin/python -m benchmarks.soak --only label --kills 5

The killer is this process; the stages know nothing of it. A run that ends before its kill is
compared, wiped and started again, so that every counted kill hit a living process. The result goes
to `benchmarks/results/soak.json`.
"""

import argparse
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.origin import origin

RESULTS = Path(__file__).parent / "results" / "soak.json"
VOLATILE = {".lock", "run.json", "summary.json", "tensorboard", ".claims"}


@dataclass(frozen=True)
class Stage:
    """One `distill run`, and where among its outputs the content lies."""

    name: str
    recipe: str
    settings: tuple[str, ...]
    data: Path | None = None

    def command(self, out: Path) -> list[str]:
        """The command line that runs this stage into `out`."""
        data = ["--data", str(self.data)] if self.data else []
        return [
            *(sys.executable, "-m", "distill", "run", self.recipe, *data),
            *("--out", str(out), "--resume", "--set", *self.settings),
        ]


def content(out: Path) -> dict[str, str]:
    """sha256 of every file whose bytes the inputs decide, by relative path."""
    files = [path for path in sorted(out.rglob("*")) if path.is_file()]
    return {
        str(path.relative_to(out)): hashlib.sha256(_decided(path)).hexdigest()
        for path in files
        if not VOLATILE & set(path.relative_to(out).parts)
    }


def _decided(path: Path) -> bytes:
    """The file's bytes; without the seconds it took where they are told."""
    if path.name == "metrics.jsonl":
        timed = {"seconds", "images_per_s", "wait_s"}
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        told = [{name: row[name] for name in row if name not in timed} for row in rows]
        return json.dumps(told).encode()
    if path.name != "state.json":
        return path.read_bytes()
    state = json.loads(path.read_text())
    del state["seconds"]
    return json.dumps(state).encode()


def run(stage: Stage, out: Path) -> float:
    """Run to the end; seconds it took."""
    start = time.monotonic()
    subprocess.run(stage.command(out), check=True, capture_output=True)
    return time.monotonic() - start


def soak(stage: Stage, folder: Path, kills: int, rng: np.random.Generator) -> dict:
    """Kill `stage` `kills` times at random moments and resume it to the end.

    Raises:
        RuntimeError: a resumed run failed, or ended with other bytes than the uninterrupted one.
    """
    reference, victim = folder / f"{stage.name}-reference", folder / f"{stage.name}-victim"
    seconds = run(stage, reference)
    expected = content(reference)
    done = runs = 0
    while done < kills:
        with subprocess.Popen(
            stage.command(victim),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        ) as process:
            try:
                _, errors = process.communicate(timeout=rng.uniform(0, seconds))
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.communicate()
                done += 1
                continue
        if process.returncode:
            raise RuntimeError(f"{stage.name}: a resumed run failed:\n{errors.decode()}")
        compare(stage, expected, content(victim))
        runs += 1
        shutil.rmtree(victim)
    run(stage, victim)
    compare(stage, expected, content(victim))
    settings = tuple(given.replace(str(folder), "FOLDER") for given in stage.settings)
    shown = replace(stage, data=stage.data and Path("DATA"), settings=settings)
    return {
        "kills": done,
        "runs_compared": runs + 1,
        "files": len(expected),
        "seconds_uninterrupted": round(seconds, 1),
        "command": " ".join(["python", *shown.command(Path("OUT"))[1:]]),
        **origin(),
    }


def compare(stage: Stage, expected: dict[str, str], found: dict[str, str]) -> None:
    """Every file there, none doubled, all bytes equal.

    Raises:
        RuntimeError: naming the first files that differ.
    """
    if found != expected:
        differing = sorted(
            name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name)
        )
        raise RuntimeError(f"{stage.name}: {len(differing)} files differ: {differing[:5]}")


def stages(folder: Path) -> list[Stage]:
    """Render, train and label at the demo's image size; the later ones use the rendered world."""
    world, model = folder / "render-reference", folder / "train-reference" / "model"
    return [
        Stage(
            "render",
            "recipes.demo:worlds",
            (
                *("indoor_scenes=19", "indoor_frames=1", "street_scenes=1"),  # the last is held out
                *("photos=24", "evaluation=4"),
            ),
        ),
        Stage(
            "train",
            "recipes.demo:teacher",
            ("steps=30", "checkpoint_every=3", "validate_every=1000"),
            world,
        ),
        Stage(
            "label",
            "recipes.demo:labels",
            (f"teacher={model}", "shard_size=2"),
            world,
        ),
    ]


def main() -> None:
    """Soak the chosen stages and write the results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=["render", "train", "label"])
    args = parser.parse_args()
    results = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number, stage in enumerate(stages(folder)):
            if args.only in {None, stage.name}:
                rng = np.random.default_rng((args.seed, number))
                results[stage.name] = soak(stage, folder, args.kills, rng)
                print(stage.name, results[stage.name])
            else:
                run(stage, folder / f"{stage.name}-reference")
            RESULTS.parent.mkdir(exist_ok=True)
            RESULTS.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
