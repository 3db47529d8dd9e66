"""Timed figures: each against a baseline that runs there and then, as a ratio within one run.

    make bench                     # all
    make bench ONLY=label_decode   # one

Prints a table and writes `benchmarks/results/<machine>.json`. Network weights are random: they cost
what trained ones cost.
"""

import json
import os
import platform
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.data_figures import image_to_tensor, label_bytes, label_decode, label_encode
from benchmarks.inputs import Figure, photos
from benchmarks.label_figures import (
    label_peak,
    label_prepare,
    label_storing,
    label_throughput,
)
from benchmarks.list_million import list_million
from benchmarks.origin import origin
from benchmarks.train_figures import (
    apart,
    loss_share,
    student_job,
    student_step,
    teacher_step,
    train,
)
from distill.datasets.image_folder import ImageFolder
from distill.loading import Mixture, batches
from distill.transforms import resize_and_crop
from distill.worlds.job import RenderJob

RESULTS = Path(__file__).parent / "results"


def loader(folder: Path) -> Figure:
    """Images/s that two workers decode and crop to 518, and that the student step eats."""
    folder_ = ImageFolder(photos(folder, count=32, size=(1024, 768)))
    crop = partial(resize_and_crop, size=518)
    drawn = batches(
        Mixture([(folder_, None)]),
        batch_size=8,
        transform=crop,
        seed=0,
        workers=os.cpu_count() or 1,
    )
    for _ in range(4):  # until every worker has started
        next(drawn)
    start = time.perf_counter()
    for _ in range(24):
        next(drawn)
    ours = 24 * 8 / (time.perf_counter() - start)
    drawn.close()
    job = partial(student_job, "vits", folder / "encoder")
    return ours, 2 / apart(partial(train, job), folder / "run"), "images/s"


def render(folder: Path) -> Figure:
    """Frames/s of the render job on all cores, and on one."""
    job = partial(
        RenderJob, indoor_scenes=4, street_scenes=2, street_frames=2, photos=12, evaluation=4
    )
    frames = sum(unit.frames for unit in job().parameters.units())
    times = []
    for workers in (os.cpu_count() or 1, 1):
        start = time.perf_counter()
        job(workers=workers).run(folder / str(workers))
        times.append(time.perf_counter() - start)
    return frames / times[0], frames / times[1], "frames/s"


FIGURES = (
    *(label_throughput, label_peak, label_storing, label_prepare),
    *(student_step, teacher_step, loss_share, loader, render),
    *(image_to_tensor, label_bytes, label_encode, label_decode, list_million),
)


def main() -> None:
    """Measure what was asked for, print the table, merge into the machine's results."""
    wanted = sys.argv[1:] or [figure.__name__ for figure in FIGURES]
    machine = f"{platform.machine()}-{os.cpu_count()}-cores"
    path = RESULTS / f"{machine}.json"
    entries = {entry["name"]: entry for entry in _read(path)}
    for figure in FIGURES:
        if figure.__name__ not in wanted:
            continue
        with tempfile.TemporaryDirectory() as folder:
            ours, baseline, unit = figure(Path(folder))
        entry = {"name": figure.__name__, "ours": round(ours, 3), "baseline": round(baseline, 3)}
        entry |= {"ratio": round(ours / baseline, 3), "unit": unit}
        entry |= {"command": f"make bench ONLY={figure.__name__}", **origin()}
        entries[figure.__name__] = entry
        print(f"{entry['name']:<18}{ours:>12.2f}{baseline:>12.2f}{entry['ratio']:>8.2f}x  {unit}")
        RESULTS.mkdir(exist_ok=True)
        path.write_text(json.dumps(list(entries.values()), indent=2) + "\n")


def _read(path: Path) -> list[dict[str, Any]]:
    return json.loads(path.read_text()) if path.is_file() else []


if __name__ == "__main__":
    main()
