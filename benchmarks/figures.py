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

import torch

from benchmarks.data_figures import image_to_tensor, label_bytes, label_decode, label_encode
from benchmarks.inputs import Figure, photos, seconds
from benchmarks.label_figures import (
    label_peak,
    label_prepare,
    label_storing,
    label_throughput,
)
from benchmarks.list_million import list_million
from benchmarks.origin import origin
from distill.datasets.image_folder import ImageFolder
from distill.loading import Mixture, batches
from distill.losses.affine_invariant import affine_invariant
from distill.losses.feature_alignment import feature_alignment
from distill.losses.gradient_matching import gradient_matching
from distill.models.depth_anything import depth_anything
from distill.models.dinov2 import FrozenDinov2
from distill.objectives.distillation import Distillation
from distill.objectives.terms import Term
from distill.optim import adamw
from distill.perturb import cutmix
from distill.transforms import resize_and_crop
from distill.types import Batch, Space
from distill.worlds.job import RenderJob

RESULTS = Path(__file__).parent / "results"


def student_step(_: Path) -> Figure:
    """Steps/s of ViT-S at 518, batch 2, all losses and the frozen encoder: bf16 and plain fp32."""
    return 1 / _step(bf16=True), 1 / _step(bf16=False), "steps/s"


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
    return ours, 2 / _step(bf16=True), "images/s"


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
    *(student_step, loader, render),
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


def _step(*, bf16: bool) -> float:
    """Seconds of one update of the V2 student objective at 518, batch 2."""
    with tempfile.TemporaryDirectory() as folder:
        depth_anything("vits").network.backbone.save_pretrained(folder)
        objective = Distillation(
            partial(depth_anything, "vits"),
            [Term("affine", 1, partial(affine_invariant, trim=0.1)),
             Term("gradient", 2, gradient_matching)],
            perturb=cutmix,
            feature=Term("feature", 1, partial(feature_alignment, tolerance=0.15)),
            frozen=partial(FrozenDinov2, folder),
        )  # fmt: skip
    optimizer = adamw(objective.parameter_groups())
    generator = torch.Generator().manual_seed(0)
    batch: Batch = {
        "key": ["a", "b"],
        "image": torch.rand(2, 3, 518, 518, generator=generator),
        "space": [Space.AFFINE_DISPARITY] * 2,
        "target": torch.rand(2, 518, 518, generator=generator),
        "valid": torch.ones(2, 518, 518, dtype=torch.bool),
        "seed": 0,
    }

    def update() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            terms = objective(batch)
        terms["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()

    return seconds(update, repeats=2)


if __name__ == "__main__":
    main()
