"""How fast a GPU labels: ViT-L and ViT-G at 518 pixels, bfloat16, compiled, stored.

    .venv/bin/python -m benchmarks.gpu_labels vitl vitg

For each size: images/s of the label job, and its FLOP/s as a share of the fastest large bf16 matrix
product, measured in between. JPEGs of 1024 x 1024 pixels are decoded by all cores. Weights are
random. The first job, in which the network is compiled, is not counted. The result goes to
`benchmarks/results/gpu_labels.json`.
"""

import argparse
import json
import os
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.inputs import photos
from benchmarks.label_figures import forward_flops, peak
from benchmarks.origin import origin
from distill.atomic import write_text
from distill.datasets.image_folder import ImageFolder
from distill.models.depth_anything import depth_anything
from distill.models.dinov2 import ENCODERS
from distill.models.foreign import DepthPredictor, load_predictor
from pseudo_labels.generate import LabelJob

RESULTS = Path(__file__).parent / "results" / "gpu_labels.json"


def measure(size: str, folder: Path, *, images: int, batch: int) -> dict[str, Any]:
    """A row of the result."""
    pictures = photos(folder / "photos", count=images, size=(1024, 1024))
    depth_anything(size).save_pretrained(folder / "teacher")
    device, loaded = torch.device("cuda", 0), list[DepthPredictor]()

    def load(model: Path, **settings: Any) -> DepthPredictor:
        if not loaded:
            loaded.append(load_predictor(model, **settings))
        return loaded[0]

    job = LabelJob(
        images=partial(ImageFolder, pictures),
        teacher=folder / "teacher",
        batch_size=batch,
        shard_size=images,
        workers=os.cpu_count(),
        dtype="bfloat16",
        compiled=True,
        reduced=True,
        load=load,  # pyright: ignore[reportArgumentType] - takes a cached_property for a method
    )
    times, peaks = [], []
    for number in range(4):
        start = time.perf_counter()
        job.run(folder / f"store{number}")
        times.append(time.perf_counter() - start)
        peaks.append(peak(device, (4096, 8192, 16384)))
    rate = images / sorted(times[1:])[1]
    work = forward_flops(folder / "teacher")
    fastest = sorted(peaks)[len(peaks) // 2]
    return {
        "size": size,
        "images_per_second": round(rate, 1),
        "tflop_per_image": round(work / 1e12, 3),
        "peak_tflop_per_second": round(fastest / 1e12, 1),
        "share_of_peak": round(rate * work / fastest, 3),
        "first_job_seconds": round(times[0], 1),
        "images": images,
        "batch": batch,
    }


def main() -> None:
    """Measure the sizes that are named, print and write the result."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("sizes", nargs="+", choices=ENCODERS)
    parser.add_argument("--images", type=int, default=2048)
    parser.add_argument("--batch", type=int, default=32)
    given = parser.parse_args()
    rows = []
    for size in given.sizes:
        with tempfile.TemporaryDirectory() as folder:
            rows.append(measure(size, Path(folder), images=given.images, batch=given.batch))
        print(rows[-1], flush=True)
    command = f"python -m benchmarks.gpu_labels {' '.join(given.sizes)}"
    device = torch.cuda.get_device_name()
    result = {"command": command, **origin(), "device": device, "rows": rows}
    write_text(RESULTS, json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
