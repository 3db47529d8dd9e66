"""DIODE (Vasiljevic et al. 2019): a laser scanner's depth, in and out of doors, 1024 x 768.

Images (diode-dataset.org): validation 325 indoors and 446 outdoor, training 8574 and 16884. MIT.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from distill.datasets import depth_maps, images
from distill.types import Sample

# intrinsics.txt of the devkit: 60 x 45 degrees about the middle of the image, 512, 384 from its
# corner, so half a pixel less from the centre of the first pixel
_K = ((886.81, 0, 511.5), (0, 927.06, 383.5), (0, 0, 1))
_SIZE = (768, 1024)
_SPLITS, _SCENES = ("train", "val"), ("indoors", "outdoor")


class Diode:
    """`<split>/{indoors,outdoor}/scene_00019/scan_00183/00019_00183_indoors_000_010.png`.

    Beside each image its `_depth.npy` (metres) and `_depth_mask.npy`. The authors do not say what
    the depth is; walls are flat when it is read along the optical axis, bent when along the ray,
    and all evaluations read it so. Their camera is in doubt (devkit issue 20: right angles come
    out right at 42 x 32 degrees): lean on `K` for nothing that must be exact. The mask lets flying
    pixels at edges pass, outdoors most of all.

    Args:
        root: the folder that holds `val` or `train`.
        split: one of these.
        scenes: `indoors`, `outdoor`, or both.
        name: of the data set.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: no such split or scenes, or no image.
    """

    def __init__(
        self,
        root: Path,
        *,
        split: str = "val",
        scenes: Sequence[str] = _SCENES,
        name: str = "diode",
    ) -> None:
        if split not in _SPLITS or not scenes or set(scenes) - set(_SCENES):
            raise ValueError(
                f"{name}: split is one of {_SPLITS} and scenes of {_SCENES}, "
                f"got {split!r} and {scenes!r}"
            )
        self.root, self.name = root, name
        self._images: list[str] = []
        for scene in sorted(set(scenes)):
            folder = root / split / scene
            if not folder.is_dir():
                raise FileNotFoundError(
                    f"{name}: no such folder: {folder}; get {split}.tar.gz from "
                    f"https://diode-dataset.org and unpack it in {root}, or give as --data the "
                    f"folder that holds `{split}/`"
                )
            found = folder.glob("scene_*/scan_*/*.png")
            self._images += sorted(path.relative_to(root).as_posix() for path in found)
        if not self._images:
            raise ValueError(
                f"{name}: no {split}/<indoors|outdoor>/scene_*/scan_*/*.png in {root}; unpack "
                f"{split}.tar.gz there again"
            )

    def __len__(self) -> int:
        return len(self._images)

    def key(self, index: int) -> str:
        """The key of sample `index`, without reading it."""
        return f"{self.name}/{self._images[index]}"

    def __getitem__(self, index: int) -> Sample:
        """Read one image; `valid` where the mask is 1.

        Raises:
            ValueError: a file is damaged, or is not of 768 x 1024 pixels.
            FileNotFoundError: a file is missing.
        """
        path = self.root / self._images[index]
        depth = _read(path.with_name(f"{path.stem}_depth.npy")).astype(np.float32)
        mask = _read(path.with_name(f"{path.stem}_depth_mask.npy"))
        return depth_maps.depth_sample(
            self.key(index), images.read_image(path), depth, mask == 1, K=torch.tensor(_K)
        )


def _read(path: Path) -> NDArray[np.generic]:
    array = depth_maps.read_npy(path)
    if array.shape not in (_SIZE, (*_SIZE, 1)) or array.dtype.kind not in "fbu":
        raise ValueError(
            f"{path}: {array.dtype} {array.shape}, expected numbers of {_SIZE}; unpack it again"
        )
    return array.reshape(_SIZE)
