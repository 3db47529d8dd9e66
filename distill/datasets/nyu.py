"""NYU Depth v2 (Silberman et al. 2012): 1449 labelled rooms, a Kinect's depth in its colour images.

795 images to train, 654 to test (`splits.mat`). For research; the page names no other licence.
"""

from pathlib import Path

import h5py
import numpy as np
import torch
from jaxtyping import UInt8
from numpy.typing import NDArray

from distill.datasets import depth_maps, images, matlab
from distill.types import Sample

# camera_params.m of the toolbox. RGBDemo (OpenCV) found it and undistort.m drew the images with it,
# both counting from 0 at the centre of the first pixel, so it holds as it stands. Only the points
# of rgb_plane2rgb_world.m count from 1; they are one pixel off.
_K = ((518.857901, 0, 325.582449), (0, 519.469611, 253.736166), (0, 0, 1))
_SIZE = (480, 640)
_SATURATED = 10.0  # metres; project_depth_map.m writes it for whatever is farther
_MILLIMETRES = 1000.0
_ARRAYS = {"raw": "rawDepths", "filled": "depths"}
_PNGS = {"raw": "depth", "filled": "filled"}
_MAT, _SPLITS = "nyu_depth_v2_labeled.mat", "splits.mat"
_PAGE = "https://cs.nyu.edu/~fergus/datasets/nyu_depth_v2.html"


class Nyu:
    """`nyu_depth_v2_labeled.mat` with `splits.mat`, or the PNGs that Marigold made of them.

    Args:
        root: holds both files, or `test/<scene>/{rgb,depth,filled}_0001.png` (millimetres).
        split: `test` (654 images, Eigen's) or `train` (795).
        truth: `raw` is what the sensor saw, which the published numbers of Depth Anything and
            Marigold are measured on; `filled` is in-painted, no hole left. An error of 0.051 on
            `raw` is 0.062 on `filled`.
        name: of the data set. Keys: `"<name>/0001"`, MATLAB's number, or the path of the RGB PNG.

    Raises:
        FileNotFoundError: `root` holds neither, or no `splits.mat`.
        ValueError: no such split or truth, or `splits.mat` is damaged.
    """

    def __init__(
        self, root: Path, *, split: str = "test", truth: str = "raw", name: str = "nyu"
    ) -> None:
        if split not in ("train", "test") or truth not in _ARRAYS:
            raise ValueError(
                f"{name}: split is train or test and truth raw or filled, got {split!r}, {truth!r}"
            )
        self.root, self.name, self.truth = root, name, truth
        self._in_mat = (root / _MAT).is_file()
        if self._in_mat:
            self._items = [f"{n:04d}" for n in _read_split(root / _SPLITS, f"{split}Ndxs")]
        else:
            found = sorted((root / split).glob("*/rgb_*.png"))
            self._items = [path.relative_to(root).as_posix() for path in found]
        if not self._items:
            raise FileNotFoundError(
                f"{name}: {root} holds neither {_MAT} with {_SPLITS} (both linked on {_PAGE}) nor "
                f"Marigold's {split}/<scene>/rgb_0001.png; put the two files there, or give as "
                "--data the folder that has them"
            )

    def __len__(self) -> int:
        return len(self._items)

    def key(self, index: int) -> str:
        """The key of sample `index`, without reading it."""
        return f"{self.name}/{self._items[index]}"

    def __getitem__(self, index: int) -> Sample:
        """Read one image; `valid` where there is a depth below the sensor's 10 m.

        Raises:
            ValueError: a file is damaged, or is not of 480 x 640 pixels.
            FileNotFoundError: a file is missing.
        """
        item = self._items[index]
        if self._in_mat:
            pixels, depth = _read_mat(self.root / _MAT, int(item), _ARRAYS[self.truth])
            image = torch.from_numpy(pixels.astype(np.float32)).div_(255)
        else:
            image = images.read_image(self.root / item)
            kind = _PNGS[self.truth]
            png = (self.root / item).with_name(Path(item).name.replace("rgb", kind, 1))
            depth = (depth_maps.read_png16(png) / _MILLIMETRES).astype(np.float32)
        if image.shape != (3, *_SIZE):
            raise ValueError(
                f"{self.key(index)}: image {tuple(image.shape[1:])}, not {_SIZE}, the only size "
                "whose camera is known; extract it again, neither cropped nor resized"
            )
        valid = (depth > 0) & (depth < _SATURATED)
        return depth_maps.depth_sample(self.key(index), image, depth, valid, K=torch.tensor(_K))


def _read_mat(
    path: Path, number: int, depths: str
) -> tuple[UInt8[np.ndarray, "3 h w"], NDArray[np.float32]]:
    """Image and depth of one number, the first being 1; nothing else of the 3 GB is read.

    MATLAB stores columns first, so HDF5 shows the axes of each array in reverse.
    """
    try:
        with h5py.File(path, "r", locking=False) as file:  # opened anew: < 1 ms, and safe to fork
            pixels, depth = (_one(file, array, number) for array in ("images", depths))
    except (OSError, RuntimeError, ValueError, TypeError) as error:
        raise ValueError(
            f"{path}: damaged, or another file: {error}; it has 2972037809 bytes, get it from "
            f"{_PAGE}"
        ) from error
    return pixels.transpose(0, 2, 1).copy(), depth.T.astype(np.float32)


def _one(file: h5py.File, array: str, number: int) -> NDArray[np.generic]:
    found = file.get(array)
    if not isinstance(found, h5py.Dataset) or not 1 <= number <= len(found):
        raise ValueError(f"no image {number} in `{array}`")
    return np.asarray(found[number - 1])


def _read_split(path: Path, name: str) -> list[int]:
    """MATLAB's numbers, the first being 1."""
    remedy = f"get it from {_PAGE}, beside {_MAT}"
    numbers = np.asarray(matlab.read_variable(path, name, remedy=remedy))
    if numbers.dtype.kind not in "iuf":
        raise ValueError(f"{path}: `{name}` is {numbers.dtype}, no numbers; {remedy}")
    return [int(number) for number in numbers.ravel()]
