"""What the figures measure on: pictures and maps that cost what real ones cost, and the clock."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import torch
from PIL import Image

from distill.labels.codec import JpegXl
from distill.labels.encoded import encode_label
from distill.labels.meta import StoreMeta, hash_keys
from distill.labels.shards import write_shard
from distill.types import Prediction, Space

Figure = tuple[float, float, str]  # ours, baseline, unit


def seconds(work: Callable[[], Any], *, repeats: int = 3) -> float:
    """Median time of `work` after one call that is not counted."""
    work()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def paired(
    ours: Callable[[], Any], baseline: Callable[[], Any], *, repeats: int
) -> tuple[float, float]:
    """Median times of two works that take turns, so that both meet the same machine."""
    times: list[tuple[float, float]] = []
    for _ in range(repeats + 1):  # the first is not counted
        start = time.perf_counter()
        ours()
        between = time.perf_counter()
        baseline()
        times.append((between - start, time.perf_counter() - between))
    first, second = np.median(times[1:], axis=0)
    return float(first), float(second)


def photos(folder: Path, *, count: int, size: tuple[int, int]) -> Path:
    """JPEGs with the detail of photographs: noise at every scale."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for number in range(count):
        picture = np.zeros((size[1], size[0], 3))
        for scale in (4, 16, 64):
            small = rng.uniform(0, 255, (size[1] // scale + 1, size[0] // scale + 1, 3))
            grown = Image.fromarray(small.astype(np.uint8)).resize(size, Image.Resampling.BICUBIC)
            picture += np.asarray(grown) / 3
        Image.fromarray(picture.astype(np.uint8)).save(folder / f"{number:03d}.jpg", quality=90)
    return folder


def disparity(height: int = 518, width: int = 690) -> np.ndarray:
    """A disparity map: slanted planes with edges, and the ripple of a network's output."""
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    planes = 2 * y + 0.5 * np.floor(4 * x + 2 * np.sin(3 * y)) + 0.2 * np.cos(9 * x)
    ripple = np.random.default_rng(0).normal(size=(65, 87)).astype(np.float32)
    grown = Image.fromarray(ripple).resize((width, height), Image.Resampling.BICUBIC)
    return (planes + 0.01 * np.asarray(grown)).astype(np.float32)


def png16(values: np.ndarray) -> bytes:
    """The map stretched over 16 bits, as a PNG of level 6."""
    span = values.max() - values.min()
    levels = np.round((values - values.min()) / span * 65535).astype(np.uint16)
    return bytes(imagecodecs.png_encode(levels, level=6))


def label_store(
    root: Path, keys: list[str], *, image: tuple[int, int], size: tuple[int, int]
) -> Path:
    """A store with the same label of `size` (height, width) for every image of size `image`."""
    codec, values = JpegXl(), torch.from_numpy(disparity(*size))
    StoreMeta(
        teachers=(),
        image_limits={},
        space=Space.AFFINE_DISPARITY,
        strategy="plain",
        codec={"type": "JpegXl"},
        error_bound=codec.error_bound,
        inference={},
        dataset=keys[0].split("/")[0],
        keys=len(keys),
        keys_sha256=hash_keys(sorted(keys)),
        shard_size=len(keys),
        versions={},
    ).write(root)
    prediction = Prediction(values=values, space=Space.AFFINE_DISPARITY)
    write_shard(
        root,
        0,
        [encode_label(key, prediction, codec=codec, image_size=image) for key in sorted(keys)],
    )
    return root
