"""What a label says of its pixels beside their values: confidence, sky, classes, each a picture.

Each plane is an 8-bit lossless JPEG XL. Confidence is a judgement and no measurement: it is kept at
half the size, in 16 steps, which takes a fifth of the bytes of the values it judges.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import imagecodecs
import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor
from torch.nn import functional

NAMES = ("confidence", "far", "classes")
_STEPS = 15


@dataclass(frozen=True, kw_only=True)
class Planes:
    """The planes of a label, each as large as its map, each None where nobody looked.

    Attributes:
        confidence: in [0, 1], larger is surer.
        far: sky, at infinity.
        classes: 0 for none, else 1 + the place among the store's class names.
    """

    confidence: Float[Tensor, "h w"] | None = None
    far: Bool[Tensor, "h w"] | None = None
    classes: UInt8[Tensor, "h w"] | None = None


def encode_planes(planes: Planes) -> dict[str, bytes]:
    """The planes that are there, by name, in the order of `NAMES`.

    Raises:
        ValueError: a confidence outside [0, 1] or not a number.
    """
    found: dict[str, bytes] = {}
    if planes.confidence is not None:
        found["confidence"] = _compressed(_halved(planes.confidence), effort=2)
    if planes.far is not None:
        found["far"] = _compressed(planes.far.to(torch.uint8), effort=1)
    if planes.classes is not None:
        found["classes"] = _compressed(planes.classes, effort=1)
    return found


def decode_planes(stored: Mapping[str, bytes], height: int, width: int) -> Planes:
    """What `encode_planes` encoded, for a map of `height` x `width`.

    The confidence of a pixel is that of its block of two by two, to the nearest 1/15.
    """
    found = {name: torch.as_tensor(_decompressed(data)) for name, data in stored.items()}
    if "confidence" in found:
        halved = found["confidence"].float() / _STEPS
        whole = halved.repeat_interleave(2, 0).repeat_interleave(2, 1)
        found["confidence"] = whole[:height, :width].contiguous()
    if "far" in found:
        found["far"] = found["far"] > 0
    return Planes(**found)


def _halved(confidence: Float[Tensor, "h w"]) -> UInt8[Tensor, "_ _"]:
    values = confidence.detach().float().cpu()
    low, high = float(values.min()), float(values.max())
    if not (low >= 0 and high <= 1):
        raise ValueError(f"confidence from {low:.3g} to {high:.3g} lies outside [0, 1]")
    mean = functional.avg_pool2d(values[None, None], 2, ceil_mode=True)
    return (mean[0, 0] * _STEPS).round().to(torch.uint8)


def _compressed(plane: UInt8[Tensor, "h w"], *, effort: int) -> bytes:
    encode: Any = imagecodecs.jpegxl_encode  # untyped
    array = np.ascontiguousarray(plane.cpu().numpy())
    data: bytes = encode(array, lossless=True, effort=effort, numthreads=1)
    if not np.array_equal(_decompressed(data), array):
        raise RuntimeError("JPEG XL returned another plane than it was given")
    return data


def _decompressed(data: bytes) -> UInt8[np.ndarray, "h w"]:
    decode: Any = imagecodecs.jpegxl_decode  # untyped
    return cast(np.ndarray, decode(data, numthreads=1))
