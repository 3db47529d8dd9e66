"""Small label stores for tests: closed-form maps under given keys."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from distill.labels.codec import JpegXl
from distill.labels.encoded import encode_label
from distill.labels.meta import StoreMeta, TeacherMeta, hash_keys
from distill.labels.shards import write_shard
from distill.types import Prediction, Space

KEYS = tuple(f"photos/day.{day}/IMG_{number:04d}.jpg" for day in (1, 2) for number in range(4))


def teacher(name="tiny", sha256="0" * 64, **fields) -> TeacherMeta:
    defaults = {
        "licence": "apache-2.0",
        "space": "AFFINE_DISPARITY",
        "preprocessing": {"size": 14},
    }
    return TeacherMeta(name=name, sha256=sha256, **defaults | fields)


def meta(keys: Sequence[str] = KEYS, *, shard_size: int = 3, **fields) -> StoreMeta:
    defaults = {
        "teachers": (teacher(),),
        "image_limits": {"min_side": 14},
        "space": Space.AFFINE_DISPARITY,
        "strategy": "plain",
        "codec": {"type": "JpegXl"},
        "error_bound": JpegXl().error_bound,
        "inference": {"batch_size": 2},
        "dataset": "photos",
        "keys": len(keys),
        "keys_sha256": hash_keys(sorted(keys)),
        "shard_size": shard_size,
        "versions": {"torch": "1"},
    }
    return StoreMeta(**defaults | fields)


def ramp(number: int, height: int = 14, width: int = 28) -> torch.Tensor:
    """Starts at 0, ends at `number` + 1."""
    ramp = np.linspace(0, number + 1, height * width, dtype=np.float32)
    return torch.from_numpy(ramp.reshape(height, width))


def write_store(root: Path, keys: Sequence[str] = KEYS, *, shard_size: int = 3) -> Path:
    """Label n, in the order of the keys, is `ramp(n)` of an image of 20x40, confidence n / len."""
    ordered = sorted(keys)
    meta(ordered, shard_size=shard_size).write(root)
    labels = [
        encode_label(
            key,
            Prediction(values=ramp(n), space=Space.AFFINE_DISPARITY, confidence=n / len(ordered)),
            codec=JpegXl(),
            image_size=(20, 40),
        )
        for n, key in enumerate(ordered)
    ]
    for number, start in enumerate(range(0, len(labels), shard_size)):
        write_shard(root, number, labels[start : start + shard_size])
    return root
