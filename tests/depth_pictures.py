"""Streets and rooms as depth maps, and folders of them, for tests that look at data of any form."""

from collections.abc import Callable
from pathlib import Path

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from PIL import Image

Depth = NDArray[np.float64]


def street(h: int = 96, w: int = 300, seed: int = 0) -> Depth:
    """Metres: a road below the horizon, houses to both sides, infinity above."""
    rng = np.random.default_rng(seed)
    rows = np.arange(h)[:, None] - 0.35 * h
    road = np.where(rows > 0.5, 1.6 * h / np.maximum(rows, 0.5), np.inf)
    columns = np.abs(np.arange(w)[None] - w / 2) + 1
    houses = np.where(rows > -0.2 * h, 0.6 * w * 8 / columns, np.inf)
    depth = np.minimum(road, houses) * rng.uniform(0.999, 1.001, (h, w))
    return np.where(depth < 85, depth, np.inf)


def room(h: int = 96, w: int = 128, seed: int = 0) -> Depth:
    """Metres: a floor before a wall, no hole."""
    rng = np.random.default_rng(seed)
    floor = 1.2 * h / np.maximum(np.arange(h)[:, None] - 0.4 * h, 1e-3)
    wall = 3.5 + np.linspace(0, 1.5, w)[None]
    return np.minimum(np.broadcast_to(floor, (h, w)), wall) * rng.uniform(0.999, 1.001, (h, w))


def lidar(depth: Depth, seed: int = 0) -> Depth:
    """A fifth of the points, none in the upper third; 0 elsewhere."""
    seen = np.random.default_rng(seed).random(depth.shape) < 0.3
    seen[: depth.shape[0] // 3] = False
    return np.where(seen & np.isfinite(depth), depth, 0)


def picture(h: int, w: int) -> NDArray[np.uint8]:
    shades = np.linspace(0, 255, h)[:, None, None] * np.linspace(0.5, 1, w)[None, :, None]
    return (shades * [1, 0.8, 0.6]).astype(np.uint8)


def stored(depth: Depth, units: float, *, sky: int = 0) -> NDArray[np.uint16]:
    """In whole numbers; what is infinite becomes `sky`."""
    return np.where(np.isfinite(depth), np.round(depth * units), sky).astype(np.uint16)


def write_png(path: Path, values: NDArray[np.generic]) -> None:
    path.write_bytes(bytes(imagecodecs.png_encode(np.ascontiguousarray(values))))


def write_npy(path: Path, values: NDArray[np.generic]) -> None:
    np.save(path, values)


def write_pairs(
    root: Path,
    maps: list[NDArray],
    *,
    rgb: str = "rgb/{n:04d}.jpg",
    depth: str = "depth/{n:04d}.png",
    write: Callable[[Path, NDArray], None] = write_png,
) -> Path:
    """An image and a depth file for each map; the folder."""
    for n, values in enumerate(maps):
        image, truth = (root / place.format(n=n, scene="ab"[n % 2]) for place in (rgb, depth))
        for path in (image, truth):
            path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture(*values.shape[:2])).save(image)
        write(truth, values)
    return root
