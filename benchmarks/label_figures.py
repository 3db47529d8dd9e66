"""Figures of the label job: ViT-S at 518 pixels, in bfloat16, compiled, labels stored.

The teacher is loaded and compiled before the clock starts: half a minute, in a job of days. The
pictures of a figure are as many as a job needs to get into its stride.
"""

import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from benchmarks.data_figures import one_thread
from benchmarks.inputs import Figure, paired, photos
from benchmarks.official_loop import infer_image, official_network
from distill.datasets.image_folder import ImageFolder
from distill.labels.shards import write_shard
from distill.models.depth_anything import depth_anything
from distill.models.foreign import DepthPredictor, load_predictor
from distill.plan.counting import cost
from pseudo_labels.generate import LabelJob
from pseudo_labels.worker import Worker

_IMAGES = 24


def label_throughput(folder: Path) -> Figure:
    """Images/s of the label job, stored, and of the official loop on the same images."""
    label, pictures = _job(folder)
    network = official_network(folder / "teacher")

    def official() -> None:
        for path in sorted(pictures.iterdir())[: _IMAGES // 4]:
            infer_image(network, path)

    ours, theirs = paired(label, official, repeats=3)
    return _IMAGES / ours, _IMAGES // 4 / theirs, "images/s"


def label_peak(folder: Path) -> Figure:
    """GFLOP/s of the label job, stored, and of the fastest of large bf16 matrix products."""
    label, _ = _job(folder)
    rates: list[float] = []
    seconds, _ = paired(label, lambda: rates.append(peak(torch.device("cpu"))), repeats=3)
    work = forward_flops(folder / "teacher") * _IMAGES
    return work / seconds / 1e9, sorted(rates)[len(rates) // 2] / 1e9, "GFLOP/s"


def label_storing(folder: Path) -> Figure:
    """Images/s of the label job, and of one that neither encodes nor writes its maps."""
    label, _ = _job(folder)

    def nothing(_: Any, __: Any, asked: Callable[[], Any], ___: int) -> str:
        asked()
        return "not stored"

    def commit(self: Worker, _: Any, number: int, *__: Any) -> None:
        write_shard(self.out, number, [])

    def forget() -> None:
        with mock.patch.multiple(Worker, _encode=nothing, _commit=commit):
            label()

    ours, bare = paired(label, forget, repeats=7)
    return _IMAGES / ours, _IMAGES / bare, "images/s"


def label_prepare(folder: Path) -> Figure:
    """Milliseconds from a 2048 x 1365 JPEG to the network's input: reduced, and decoded whole."""
    pictures = photos(folder / "photos", count=4, size=(2048, 1365))
    data = [path.read_bytes() for path in sorted(pictures.iterdir())]
    depth_anything("vits").save_pretrained(folder / "teacher")
    reduced, whole = (load_predictor(folder / "teacher", reduced=flag) for flag in (True, False))

    def prepare(predictor: DepthPredictor) -> None:
        for entry in data:
            predictor.prepare_encoded(entry)

    with one_thread():
        ours, theirs = paired(partial(prepare, reduced), partial(prepare, whole), repeats=15)
    return ours / len(data) * 1e3, theirs / len(data) * 1e3, "ms"


def peak(device: torch.device, sides: tuple[int, ...] = (2048, 4096)) -> float:
    """FLOP/s of square bf16 matrix products, the fastest side's median."""
    rates = []
    for side in sides:
        left, right = (torch.randn(side, side, device=device).bfloat16() for _ in range(2))
        times = [_seconds(partial(torch.matmul, left, right), device) for _ in range(12)][2:]
        rates.append(2 * side**3 / sorted(times)[len(times) // 2])
    return max(rates)


def forward_flops(teacher: Path, side: int = 518) -> float:
    """FLOPs of a square image in the network as published, a multiply-add as two."""
    network = load_predictor(teacher)
    return cost(lambda: network.predict_network(torch.zeros(1, 3, side, side))).flops


def _seconds(work: Callable[[], Tensor], device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def _job(folder: Path) -> tuple[Callable[[], None], Path]:
    """Something that labels `_IMAGES` photos into a new store, and the folder of photos."""
    pictures = photos(folder / "photos", count=_IMAGES, size=(518, 518))
    depth_anything("vits").save_pretrained(folder / "teacher")
    teacher: list[DepthPredictor] = []

    def load(model: Path, **settings: Any) -> DepthPredictor:
        if not teacher:
            teacher.append(load_predictor(model, **settings))
        return teacher[0]

    job = LabelJob(
        images=partial(ImageFolder, pictures),
        teacher=folder / "teacher",
        batch_size=8,
        shard_size=_IMAGES,
        dtype="bfloat16",
        compiled=True,
        threads=os.cpu_count() or 1,
        load=load,  # pyright: ignore[reportArgumentType] - takes a cached_property for a method
    )
    stores = iter(folder / f"store{i}" for i in range(1000))
    return lambda: job.run(next(stores)), pictures
