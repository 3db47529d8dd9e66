"""ScanNet (Dai et al. 2017): rooms scanned by hand, depth 640 x 480 in millimetres.

2.5 million frames of 1513 scans, 312 for validation; Marigold measures on 800 frames of these.
Under the ScanNet terms of use: non-commercial, on request.
"""

import os
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from distill.datasets import depth_maps, images
from distill.types import Sample

_MILLIMETRES = 1000.0
_SOURCE = (
    "ask for ScanNet at http://www.scan-net.org and export each .sens with its SensReader: "
    "color, depth and intrinsic in one folder per scan"
)


class ScanNet:
    """`scene0000_00/{color/0.jpg,depth/0.png,intrinsic/intrinsic_depth.txt}`, as SensReader writes.

    Colour (1296 x 968) is brought to the size of the depth, which is never resized; the authors
    call the two aligned, and all evaluations do so. Their shapes differ by 0.4 %: at the upper and
    lower edge colour is up to a pixel off. `K` is the depth camera's; None for a scan without
    `intrinsic`, as in Marigold's 800 frames. Poses are not read: frames without one count, too.

    Args:
        root: the folder that holds the scans.
        listing: a text file of lines `scene0406_02/color/000300.jpg scene0406_02/depth/000300.png`
            for these frames in this order, such as Marigold's `scannet_val_sampled_list_800_1.txt`.
            None: every frame.
        name: of the data set. Keys: `"<name>/<path of the colour image>"`.

    Raises:
        FileNotFoundError: there is no such folder or list, or a scan has no depth.
        ValueError: no frame, frames without a partner, or a line that is no pair.
    """

    def __init__(self, root: Path, *, listing: Path | None = None, name: str = "scannet") -> None:
        if not root.is_dir():
            raise FileNotFoundError(f"{name}: no such folder: {root}; {_SOURCE}")
        self.root, self.name = root, name
        self._cameras: dict[str, Float[Tensor, "3 3"] | None] = {}
        self._pairs = _found(root) if listing is None else _listed(listing)
        if not self._pairs:
            place = f"scene*/color/*.jpg in {root}" if listing is None else f"line in {listing}"
            raise ValueError(f"{name}: no {place}; {_SOURCE}")

    def __len__(self) -> int:
        return len(self._pairs)

    def key(self, index: int) -> str:
        """The key of sample `index`, without reading it."""
        return f"{self.name}/{self._pairs[index][0]}"

    def __getitem__(self, index: int) -> Sample:
        """Read one frame; `valid` where the sensor saw something (not 0).

        Raises:
            ValueError: a file is damaged, or colour and depth are not of one picture.
            FileNotFoundError: a file is missing.
        """
        color, png = self._pairs[index]
        stored = depth_maps.read_png16(self.root / png)
        return depth_maps.depth_sample(
            self.key(index),
            _resized(images.read_image(self.root / color), *stored.shape),
            (stored / _MILLIMETRES).astype(np.float32),
            stored > 0,
            K=self._K(png.split("/")[0]),
        )

    def _K(self, scan: str) -> Float[Tensor, "3 3"] | None:  # noqa: N802 K
        """Of the depth camera; its centre of 319.5, 239.5 counts from the first pixel's centre."""
        if scan not in self._cameras:
            folder = self.root / scan / "intrinsic"
            path = folder / "intrinsic_depth.txt"
            self._cameras[scan] = _read_camera(path) if folder.is_dir() else None
        return self._cameras[scan]


def _found(root: Path) -> list[tuple[str, str]]:
    pairs: list[tuple[str, str]] = []
    for scan in sorted(path.parent for path in root.glob("scene*/color")):
        colors, depths = _numbers(scan / "color", ".jpg"), _numbers(scan / "depth", ".png")
        if alone := sorted(colors ^ depths):
            raise ValueError(
                f"{scan}: {len(colors)} images in color and {len(depths)} in depth, {len(alone)} "
                f"without a partner, first {alone[0]}; export both with one frame_skip"
            )
        numbers = sorted(colors, key=lambda number: (len(number), number))  # 9 before 10
        pairs += [(f"{scan.name}/color/{n}.jpg", f"{scan.name}/depth/{n}.png") for n in numbers]
    return pairs


def _numbers(folder: Path, suffix: str) -> set[str]:
    names = os.listdir(folder)  # noqa: PTH208 for 2.5 million names, 40x faster
    return {name.removesuffix(suffix) for name in names if name.endswith(suffix)}


def _listed(listing: Path) -> list[tuple[str, str]]:
    pairs: list[tuple[str, str]] = []
    for line in filter(str.strip, listing.read_text().splitlines()):
        if len(paths := line.split()) != 2:
            raise ValueError(f"{listing}: not a colour and a depth path: {line!r}")
        pairs.append((paths[0], paths[1]))
    if len({color for color, _ in pairs}) < len(pairs):
        raise ValueError(f"{listing}: a colour image is listed twice; remove its second line")
    return pairs


def _resized(image: Float[Tensor, "3 a b"], h: int, w: int) -> Float[Tensor, "3 c d"]:
    """`image` at (h, w) if it shows the same view in more pixels, else as it is."""
    a, b = image.shape[1:]
    if a <= h or b <= w or not 0.99 < (a * w) / (b * h) < 1.01:
        return image
    smaller = functional.interpolate(image[None], (h, w), mode="bilinear", antialias=True)
    return smaller[0].clamp(0, 1)


def _read_camera(path: Path) -> Float[Tensor, "3 3"]:
    try:
        numbers = [float(number) for number in path.read_text().split()]
        return torch.tensor(numbers).reshape(4, 4)[:3, :3]
    except (ValueError, RuntimeError) as error:
        raise ValueError(f"{path}: not 4 x 4 numbers: {error}; export it again") from error
