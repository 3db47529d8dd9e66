"""TartanAir (Wang et al. 2020): rendered flights through 18 environments, 640 x 480, in metres.

306 000 stereo pairs. CC BY 4.0.
"""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from distill.datasets import depth_maps, images
from distill.types import Sample

# data_type.md: 90 degrees about 320, 240, the middle of the image counted from its corner; half a
# pixel less from the centre of the first pixel
_K = ((320, 0, 319.5), (0, 320, 239.5), (0, 0, 1))
_SIZE = (480, 640)
_SKY = 1000.0  # metres; the sky sphere is at about 10000
_DOMES = {"amusement": 80.0}  # metres; tartanair_tools issue 46: something unseen hides the sky
_DIFFICULTIES, _CAMERAS = ("Easy", "Hard"), ("left", "right")
_SOURCE = (
    "get image_left.zip, depth_left.zip (or _right) of each environment with "
    "https://github.com/castacks/tartanair_tools and unpack them there"
)


class TartanAir:
    """`<environment>/{Easy,Hard}/P000/{image_left/000000_left.png,depth_left/*_left_depth.npy}`.

    The archives hold `<environment>/<environment>/`; that is read, too. Flights of an environment
    cross each other: split by environment, never by frame. In `amusement` a dome that is not seen
    stands before the sky: from 80 m on nothing is valid there; leave it out to be sure of the rest.
    TartanAir-V2 is another set and refused.

    Args:
        root: the folder that holds the environments.
        environments: which of them, all by default.
        difficulties: how the camera moves, `Easy` or `Hard`; where only one is there, that one.
        cameras: `left`, `right`.
        name: of the data set.

    Raises:
        FileNotFoundError: `root` or a flight's images or depth is missing.
        ValueError: what is asked for is not there, or twice, or V2, or a frame is not whole.
    """

    def __init__(
        self,
        root: Path,
        *,
        environments: Sequence[str] | None = None,
        difficulties: Sequence[str] = _DIFFICULTIES,
        cameras: Sequence[str] = _CAMERAS[:1],
        name: str = "tartanair",
    ) -> None:
        if not root.is_dir():
            raise FileNotFoundError(
                f"{name}: no such folder: {root}; {_SOURCE}, or give what holds it as --data"
            )
        if set(difficulties) - set(_DIFFICULTIES) or set(cameras) - set(_CAMERAS):
            raise ValueError(
                f"{name}: difficulties are of {_DIFFICULTIES} and cameras of {_CAMERAS}, "
                f"got {difficulties!r} and {cameras!r}"
            )
        self.root, self.name = root, name
        self._images: list[str] = []
        for environment in _choose(root, environments):
            for flight in _flights(root, environment, difficulties):
                for camera in sorted(set(cameras)):
                    folder = f"{flight}/image_{camera}"
                    self._images += [f"{folder}/{file}" for file in _paired(root / flight, camera)]
        if not self._images:
            raise ValueError(f"{name}: no <environment>/Easy/P000/image_left in {root}; {_SOURCE}")

    def __len__(self) -> int:
        return len(self._images)

    def key(self, index: int) -> str:
        """The key of sample `index`, without reading it."""
        return f"{self.name}/{self._images[index]}"

    def __getitem__(self, index: int) -> Sample:
        """Read one frame: `far` beyond a kilometre.

        Raises:
            ValueError: a file is damaged, or is not of 480 x 640 numbers.
            FileNotFoundError: a file is missing.
        """
        environment, *_, folder, file = self._images[index].split("/")
        path = self.root / self._images[index]
        depths = path.parents[1] / folder.replace("image", "depth")
        depth = _read(depths / file.replace(".png", "_depth.npy"))
        return depth_maps.depth_sample(
            self.key(index),
            images.read_image(path),
            depth,
            depth <= _DOMES.get(environment, _SKY),
            far=depth > _SKY,
            K=torch.tensor(_K),
        )


def _choose(root: Path, wanted: Sequence[str] | None) -> list[str]:
    there = sorted(entry.name for entry in root.iterdir() if entry.is_dir())
    if missing := sorted(set(wanted or ()) - set(there)):
        raise ValueError(f"{root}: no {', '.join(missing)}; there are {', '.join(there)}")
    chosen = there if wanted is None else sorted(set(wanted))
    for environment in chosen:
        if next((root / environment).glob("Data_*"), None):
            raise ValueError(
                f"{root / environment} is of TartanAir-V2, whose depth is packed in PNG colours; "
                f"only the first TartanAir is read: {_SOURCE}"
            )
    return chosen


def _flights(root: Path, environment: str, difficulties: Sequence[str]) -> Iterator[str]:
    for difficulty in sorted(set(difficulties)):
        places = (f"{environment}/{difficulty}", f"{environment}/{environment}/{difficulty}")
        found = [place for place in places if (root / place).is_dir()]
        if len(found) > 1:
            raise ValueError(f"{root}: both {found[0]} and {found[1]} are there; remove one")
        for place in found:
            yield from sorted(f"{place}/{flight.name}" for flight in (root / place).glob("P*/"))


def _paired(flight: Path, camera: str) -> list[str]:
    names: dict[str, set[str]] = {}
    for kind, suffix in (("image", f"_{camera}.png"), ("depth", f"_{camera}_depth.npy")):
        folder = flight / f"{kind}_{camera}"
        if not folder.is_dir():
            raise FileNotFoundError(f"{folder}: no such folder; {_SOURCE}")
        found = os.listdir(folder)  # noqa: PTH208 40x faster
        names[kind] = {file.removesuffix(suffix) for file in found if file.endswith(suffix)}
    if alone := sorted(names["image"] ^ names["depth"]):
        raise ValueError(
            f"{flight}: {len(names['image'])} images and {len(names['depth'])} depth maps of "
            f"camera {camera}, {len(alone)} without a partner, first {alone[0]}; {_SOURCE}"
        )
    return [f"{number}_{camera}.png" for number in sorted(names["image"])]


def _read(path: Path) -> NDArray[np.float32]:
    array = depth_maps.read_npy(path)
    if array.shape != _SIZE or array.dtype.kind != "f":
        raise ValueError(f"{path}: {array.dtype} {array.shape}, expected floats of {_SIZE}")
    return array.astype(np.float32)
