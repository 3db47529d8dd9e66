"""A run of each checkpoint format, kept so that later versions prove that they can go on with it.

`python tests/checkpoint_formats.py` writes the folder of the current format, once: a folder that
a released version has written is never written again.
"""

import json
import random
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from runs import rows
from training import job

from distill import checkpoint
from distill.train import TrainJob

FOLDER = Path(__file__).parent / "fixtures" / "checkpoints"
STEP, STEPS = 5, 8


def run() -> TrainJob:
    """The run: no dropout, whose masks are other numbers on other processors."""
    return job(student={"dropout": 0.0}, steps=STEPS, checkpoint_every=STEP, threads=1)


def draws(generators: dict[str, Any]) -> list[float]:
    """What every generator gives next; those of now stay as they are."""
    now = checkpoint.random_state()
    checkpoint.set_random_state(generators)
    old = np.random.normal(size=3)  # noqa: NPY002 - the global state is what is saved
    drawn = [random.random(), random.gauss(0, 1), *old, *torch.rand(3).tolist()]
    checkpoint.set_random_state(now)
    return drawn


def outcome(out: Path, saved: Path) -> dict[str, Any]:
    """What must come out of a run that goes on from the checkpoint `saved`."""
    last = checkpoint.latest(out / "checkpoints")
    assert last is not None
    average = checkpoint.load(last).average
    assert average is not None
    return {
        "rows": [row for row in rows(out) if row["step"] > STEP],
        "average": {name: float(value.double().sum()) for name, value in average.items()},
        "draws": draws(checkpoint.load(saved).random[0]),
    }


def write() -> Path:
    """The folder of the current format."""
    folder = FOLDER / f"format-{checkpoint.FORMAT}"
    folder.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as temporary:
        out = Path(temporary)
        run().run(out)
        saved = folder / f"step-{STEP:09d}"
        shutil.copytree(out / "checkpoints" / saved.name, saved)
        (folder / "expected.json").write_text(json.dumps(outcome(out, saved), indent=2) + "\n")
    return folder


if __name__ == "__main__":
    sys.stdout.write(f"{write()}\n")
