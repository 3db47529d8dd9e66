"""iBims-1 (Koch et al. 2018): rooms by a laser scanner, made to judge edges and planes, 640 x 480.

100 images (mediatum.ub.tum.de/1455541), all to test. Terms of its own, for research.
"""

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy.typing import NDArray
from torch import Tensor

from distill.datasets import depth_maps, images, matlab
from distill.types import Sample

_METRES = 50 / 65535  # of one step of a depth PNG
_MASKS = ("mask_invalid", "mask_transp")
_RAW, _MAT, _LIST = "ibims1_core_raw", "ibims1_core_mat", "imagelist.txt"
_SOURCE = (
    f"get {_RAW}.zip (or {_MAT}.zip) and {_LIST} from https://mediatum.ub.tum.de/1455541 and "
    "unpack them in one folder"
)
_FROM_1 = np.array([[1.0, 0, -1], [0, 1, -1], [0, 0, 1]])  # MATLAB's pixels to ours


class Ibims:
    """`ibims1_core_raw/{rgb,depth,mask_invalid,mask_transp,calib}/<name>`, or `ibims1_core_mat`.

    The masks are 1 where depth may be used, whatever their names say: `mask_invalid` is 0 where the
    scanner failed, `mask_transp` where glass stands. Both forms give the same samples. The files'
    calibration counts pixels from 1, as the authors' evaluation does; `K` counts from 0.

    Args:
        root: holds one of the two folders (the first is preferred), or is one of them. Where
            `imagelist.txt` is in it or beside the folder, exactly its images are read.
        name: of the data set. Keys: `"<name>/corridor_01"` in both forms.

    Raises:
        FileNotFoundError: `root` holds no image, or not all of `imagelist.txt`.
    """

    def __init__(self, root: Path, *, name: str = "ibims") -> None:
        self.name = name
        for self.folder in (root / _RAW, root / _MAT, root):
            raw = {path.stem for path in self.folder.glob("rgb/*.png")}
            found = raw or {path.stem for path in self.folder.glob("*.mat")}
            if found:
                break
        else:
            raise FileNotFoundError(
                f"{name}: neither {_RAW}/rgb/*.png nor {_MAT}/*.mat in {root}; {_SOURCE}, or give "
                "as --data the folder that holds one of the two"
            )
        self._is_raw = bool(raw)
        lists = (folder / _LIST for folder in (root, self.folder, self.folder.parent))
        listed = next((_listed(path) for path in lists if path.is_file()), found)
        if missing := sorted(listed - found):
            raise FileNotFoundError(
                f"{name}: {len(missing)} of {len(listed)} images of {_LIST} are not in "
                f"{self.folder}, first {missing[0]}; {_SOURCE} again"
            )
        self._items = sorted(listed)

    def __len__(self) -> int:
        return len(self._items)

    def key(self, index: int) -> str:
        """The key of sample `index`, without reading it."""
        return f"{self.name}/{self._items[index]}"

    def __getitem__(self, index: int) -> Sample:
        """Read one image; `valid` where there is depth and both masks are 1.

        Raises:
            ValueError: a file is damaged, or image, depth and masks differ in size.
            FileNotFoundError: a file is missing.
        """
        item = self._items[index]
        room = _read_raw(self.folder, item) if self._is_raw else _read_mat(self.folder, item)
        sizes = {mask.shape for mask in room.masks}
        if sizes != {room.depth.shape}:
            raise ValueError(
                f"{self.key(index)}: depth {room.depth.shape} but masks {sizes}; {_SOURCE} again"
            )
        valid = room.masks[0] & room.masks[1] & (room.depth > 0)
        K = torch.from_numpy(_FROM_1 @ room.K)
        return depth_maps.depth_sample(self.key(index), room.image, room.depth, valid, K=K)


class _Room(NamedTuple):
    image: Float[Tensor, "3 h w"]
    depth: NDArray[np.float32]  # metres; 0 or NaN where unknown
    masks: tuple[Bool[np.ndarray, "h w"], ...]
    K: Float[np.ndarray, "3 3"]


def _listed(path: Path) -> set[str]:
    return {Path(name).stem for name in path.read_text().split()}


def _read_raw(folder: Path, item: str) -> _Room:
    depth = depth_maps.read_png16(folder / f"depth/{item}.png") * _METRES
    masks = (images.read_image(folder / f"{mask}/{item}.png")[0].numpy() > 0 for mask in _MASKS)
    path = folder / f"calib/{item}.txt"
    text = path.read_text(errors="replace")
    try:
        fx, fy, cx, cy = (float(number) for number in re.split(r"[,;\s]+", text.strip()))
    except ValueError as error:
        raise ValueError(
            f"{path}: not the four numbers fx,fy,cx,cy: {text[:80]!r}; {_SOURCE} again"
        ) from error
    K = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
    image = images.read_image(folder / f"rgb/{item}.png")
    return _Room(image, depth.astype(np.float32), tuple(masks), K)


def _read_mat(folder: Path, item: str) -> _Room:
    """`calib` is transposed, as MATLAB's own `cameraParameters` are."""
    path = folder / f"{item}.mat"
    data = matlab.read_variable(path, "data", remedy=f"{_SOURCE} again")
    try:
        pixels, depth, K = (np.asarray(data[name]) for name in ("rgb", "depth", "calib"))
        masks = tuple(np.asarray(data[name]) > 0 for name in _MASKS)
        K = np.array(K.T, np.float64)
        if pixels.dtype != np.uint8 or pixels.shape != (*depth.shape, 3):
            raise ValueError(f"`rgb` {pixels.dtype} {pixels.shape}, `depth` {depth.shape}")
        if K.shape != (3, 3) or K[2].tolist() != [0, 0, 1]:
            raise ValueError(f"`calib` is no pinhole's: {K.T.tolist()}")
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: another file: {error}; {_SOURCE} again") from error
    return _Room(images.planes(pixels), depth.astype(np.float32), masks, K)
