"""A teacher of one convolution, a folder of photographs for it, and recipes for real processes."""

import hashlib
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from distill.datasets.image_folder import ImageFolder
from distill.datasets.images import read_pil
from distill.types import Space
from pseudo_labels.generate import LabelJob
from pseudo_labels.strategies.tta import flip

SIZES = ((40, 40), (40, 60), (60, 40))  # height, width


class TinyTeacher:
    """Depth from a fixed random convolution; `delay` seconds a batch make it worth killing."""

    licence = "apache-2.0"
    space = Space.AFFINE_DISPARITY

    def __init__(
        self,
        teacher="tiny",
        *,
        device="cpu",
        dtype=torch.float32,
        space=None,
        compiled=False,
        reduced=False,
        delay=0.0,
    ):
        self.name, self.space = str(teacher), space or type(self).space
        self.inference = {"network": "one convolution"}
        self.sha256 = hashlib.sha256(self.name.encode()).hexdigest()
        self.preprocessing = {"resize": "nearest multiple of 14", "short_side": 28}
        weight = torch.randn(1, 3, 5, 5, generator=torch.Generator().manual_seed(0))
        self.weight, self.device, self.dtype, self.delay = weight.to(device), device, dtype, delay

    def prepare(self, image):
        ratio = 28 / min(image.size)
        width, height = (round(side * ratio / 14) * 14 for side in image.size)
        pixels = np.array(image.resize((width, height)), dtype=np.float32) / 255
        return torch.from_numpy(pixels).permute(2, 0, 1)

    def prepare_encoded(self, data, *, name=None):
        image = read_pil(data, name=name)
        return self.prepare(image), (image.height, image.width)

    def predict_network(self, pixels):
        time.sleep(self.delay)
        weight = self.weight.to(self.dtype)
        return torch.conv2d(pixels.to(self.dtype), weight, padding=2)[:, 0]


def write_photos(root: Path, count: int = 26) -> Path:
    """Random pictures of three shapes in two folders, names with dots."""
    for number in range(count):
        rng = np.random.default_rng(number)
        height, width = SIZES[number % len(SIZES)]
        path = root / f"trip.{number % 2}" / f"IMG_{number:03d}.v1.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        coarse = Image.fromarray(rng.integers(0, 256, (5, 6, 3), dtype=np.uint8))
        coarse.resize((width, height), Image.Resampling.BICUBIC).save(path)
    return root


def spoiled_photos(root: Path) -> Path:
    """26 photographs: one cut off, one empty, one a strip, one too small."""
    write_photos(root)
    cut, empty, strip, small = (root / "trip.0" / f"IMG_0{n}.v1.png" for n in ("00", 10, 20, 24))
    cut.write_bytes(cut.read_bytes()[:200])
    empty.write_bytes(b"")
    Image.new("RGB", (300, 40)).save(strip)
    Image.new("RGB", (20, 40)).save(small)
    return root


def job(data: Path, *, delay: float = 0.0, **fields) -> LabelJob:
    defaults = {
        "images": partial(ImageFolder, data),
        "teacher": "tiny",
        "strategy": flip,
        "shard_size": 4,
        "batch_size": 3,
        "threads": 1,
        "max_quarantined": 0.5,
        "load": partial(TinyTeacher, delay=delay),
    }
    return LabelJob(**defaults | fields)


def recipe(data: Path, *, delay: float = 0.0) -> LabelJob:
    """For `distill run tests/tiny_teacher.py:recipe`."""
    return job(data, delay=delay)


def contents(store: Path) -> dict[str, bytes]:
    """Every file of a store that is part of it, with its bytes."""
    paths = [path for path in store.rglob("*") if path.is_file()]
    extra = {".lock", ".claims", ".index.arrow", "run.json"}
    return {str(p.relative_to(store)): p.read_bytes() for p in paths if p.name not in extra}
