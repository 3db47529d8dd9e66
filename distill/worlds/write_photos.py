"""Frames -> the `photos` world: JPEGs, and for the evaluation split 16-bit PNG depth beside them.

Depth is planar, metres times 256, 0 where nothing was measured (the sky, or beyond 255.9 m).
"""

from pathlib import Path

import imagecodecs
import numpy as np
from jaxtyping import UInt8, UInt16

from distill import atomic
from distill.worlds.render import Frame

_UNITS_PER_METRE = 256.0


def jpeg(picture: UInt8[np.ndarray, "h w 3"], *, quality: int) -> bytes:
    """A JPEG; the colour subsampling of everyday photographs."""
    return bytes(imagecodecs.jpeg_encode(picture, level=quality, subsampling="420"))


def measured(frame: Frame) -> UInt16[np.ndarray, "h w"]:
    """Depth as stored; 0 where there is none to store."""
    values = np.round(frame.depth.astype(np.float64) * _UNITS_PER_METRE)
    return np.where(frame.hit & (values < 65536), values, 0).astype(np.uint16)


def write_evaluation(folder: Path, name: str, photo: bytes, frame: Frame) -> None:
    """`rgb/NAME.jpg`, and last `depth/NAME.png`: whose presence means that both are complete."""
    atomic.write_bytes(folder / "rgb" / f"{name}.jpg", photo)
    atomic.write_bytes(
        folder / "depth" / f"{name}.png", bytes(imagecodecs.png_encode(measured(frame)))
    )
