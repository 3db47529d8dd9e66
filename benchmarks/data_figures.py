"""Figures of the data side: from files to what a network takes, on one thread."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import imagecodecs
import numpy as np
import torch

from benchmarks.inputs import Figure, disparity, label_store, paired, photos, png16
from distill.datasets.image_folder import ImageFolder
from distill.datasets.pseudo_labelled import PseudoLabelled
from distill.labels.codec import JpegXl, decode
from distill.transforms import network_size, resize_and_crop

_SIZE = (1365, 2048)
_MEAN, _DEVIATION = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


def image_to_tensor(folder: Path) -> Figure:
    """Images/s of a 2048 x 1365 JPEG with its label to a 518 crop; upstream's path, no label."""
    pictures = photos(folder / "photos", count=8, size=(_SIZE[1], _SIZE[0]))
    images = ImageFolder(pictures)
    keys = [images.key(i) for i in range(len(images))]
    size = network_size(*_SIZE, short_side=518, multiple=14)
    store = label_store(folder / "labels", keys, image=_SIZE, size=size)
    labelled = PseudoLabelled(images, store)

    def ours() -> None:
        for i in range(len(labelled)):
            resize_and_crop(labelled[i], np.random.default_rng(i), size=518)

    def upstream() -> None:
        for path in sorted(pictures.iterdir()):
            _upstream(path, size)

    with one_thread():
        mine, theirs = paired(ours, upstream, repeats=9)
    return len(keys) / mine, len(keys) / theirs, "images/s"


def label_bytes(_: Path) -> Figure:
    """Bytes of a 690 x 518 label, and of the same map as 16-bit PNG (level 6)."""
    values = disparity()
    blob = JpegXl().encode(values, None)
    return len(blob), len(png16(values)), "bytes"


def label_encode(_: Path) -> Figure:
    """Milliseconds to encode a 690 x 518 label and verify its bytes; to 16-bit PNG, unverified."""
    values = disparity()
    with one_thread():
        mine, png = paired(lambda: JpegXl().encode(values), lambda: png16(values), repeats=30)
    return mine * 1e3, png * 1e3, "ms"


def label_decode(_: Path) -> Figure:
    """Milliseconds to decode a 690 x 518 label and cut a crop; the same map from 16-bit PNG."""
    values = disparity()
    blob, stored = JpegXl().encode(values, None), png16(values)

    def ours() -> None:
        for plane in decode(blob):
            np.ascontiguousarray(plane[:, 50:568])

    def theirs() -> None:
        np.ascontiguousarray(imagecodecs.png_decode(stored)[:, 50:568])

    with one_thread():
        mine, png = paired(ours, theirs, repeats=100)
    return mine * 1e3, png * 1e3, "ms"


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """OpenCV and torch on one thread each, as in a reading process."""
    before = cv2.getNumThreads(), torch.get_num_threads()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before[0])
        torch.set_num_threads(before[1])


def _upstream(path: Path, size: tuple[int, int]) -> torch.Tensor:
    """Depth Anything V2's preprocessing: float64 RGB, bicubic to `lower_bound`, normalised."""
    read = cv2.imread(str(path))
    assert read is not None
    rgb: Any = cv2.cvtColor(read, cv2.COLOR_BGR2RGB) / 255.0
    resized = cv2.resize(rgb, (size[1], size[0]), interpolation=cv2.INTER_CUBIC)
    normal = (resized - _MEAN) / _DEVIATION
    return torch.from_numpy(np.ascontiguousarray(normal.transpose(2, 0, 1), np.float32))
