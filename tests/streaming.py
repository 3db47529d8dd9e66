"""Labelled photographs in tar shards, and the batches of a student that learns from them."""

import io
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from label_stores import meta
from PIL import Image

from distill.datasets.photographs import open_photographs
from distill.datasets.pseudo_labelled import PseudoLabelled
from distill.labels.codec import JpegXl
from distill.labels.encoded import encode_label
from distill.labels.shards import write_shard
from distill.loading import Batches, Mixture, batches
from distill.transforms import resize_and_crop
from distill.types import Prediction, Sample, Space

SIZE, LABEL = (48, 64), (16, 24)  # height, width; of an image and of its label


def write_shards(root: Path, count: int = 24) -> list[str]:
    """Two shards of JPEGs; returns the keys that their reader gives them."""
    keys = []
    for shard in range(2):
        with tarfile.open(root / f"x-{shard:06d}.tar", "w") as archive:
            for number in range(shard, count, 2):
                rng = np.random.default_rng(number)
                small = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
                data = io.BytesIO()
                small.resize((SIZE[1], SIZE[0]), Image.Resampling.BICUBIC).save(data, "JPEG")
                info = tarfile.TarInfo(f"{number:04d}.jpg")
                info.size = data.tell()
                archive.addfile(info, io.BytesIO(data.getvalue()))
                keys.append(f"photos/x-{shard:06d}.tar/{info.name}")
    return keys


def write_labels(root: Path, keys: list[str]) -> Path:
    """A ramp for each, of its own slope."""
    meta(keys, shard_size=100).write(root)
    y, x = torch.meshgrid(*(torch.linspace(0, 1, n) for n in LABEL), indexing="ij")
    labels = [
        encode_label(
            key,
            Prediction(values=x * (n % 5 + 1) + y, space=Space.AFFINE_DISPARITY),
            codec=JpegXl(),
            image_size=SIZE,
        )
        for n, key in enumerate(sorted(keys))
    ]
    write_shard(root, 0, labels)
    return root


def cropped(sample: Sample, rng: np.random.Generator) -> Sample:
    return resize_and_crop(sample, rng, size=16, multiple=4)


def student_batches(images: str, labels: Path, **where: Any) -> Batches:
    """As `recipes.student` draws them, at sixteen pixels."""
    labelled = PseudoLabelled(open_photographs(images), labels)
    return batches(Mixture([(labelled, None)]), transform=cropped, **where)
