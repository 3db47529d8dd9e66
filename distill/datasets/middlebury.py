"""Middlebury 2014 (Scharstein et al. 2014): rooms, and disparity by structured light.

33 scenes (vision.middlebury.edu/stereo/data/scenes2014), 23 of them with truth, about 2900 x 2000.
MiddEval3 trains on 15 images, most of them from here. For research; no other licence is named.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float

from distill.datasets import depth_maps, images
from distill.types import Sample

_TRUTHS = ("disp0GT.pfm", "disp0.pfm")  # as MiddEval3 and as the scenes' own page name it
_PERFECT, _IMPERFECT = "-perfect", "-imperfect"
_MILLIMETRES = 1000.0
_SOURCE = (
    "get <scene>-perfect.zip from https://vision.middlebury.edu/stereo/data/scenes2014, or "
    "MiddEval3-data-F.zip and MiddEval3-GT0-F.zip from "
    "https://vision.middlebury.edu/stereo/submit3, and unpack them in one folder"
)


class Middlebury:
    """`<scene>-perfect/{im0.png,disp0.pfm,calib.txt}`, or MiddEval3's `<scene>/disp0GT.pfm`.

    Depth is that of the left camera, `baseline * f / (disparity + doffs)`; infinite disparity is
    unknown. `K` is `cam0` as it stands. What the right camera does not see (`mask0nocc.png`) has
    depth in the left image all the same and stays `valid`. A scene's `-imperfect` folder, the same
    view rectified less well, is read only where its `-perfect` one is missing.

    Args:
        root: the folder that holds the scenes' folders, for MiddEval3 its `trainingF`, `trainingH`
            or `trainingQ`.
        name: of the data set. Keys: `"<name>/<folder>/im0.png"`.

    Raises:
        FileNotFoundError: `root` holds no scene, or a scene has no disparity.
    """

    def __init__(self, root: Path, *, name: str = "middlebury") -> None:
        self.root, self.name = root, name
        found = {path.parent.name for path in root.glob("*/im0.png")}
        better = {folder.replace(_PERFECT, _IMPERFECT) for folder in found if _PERFECT in folder}
        self._items = [(folder, _truth(root / folder)) for folder in sorted(found - better)]
        if not self._items:
            raise FileNotFoundError(
                f"{name}: no <scene>/im0.png in {root}; {_SOURCE}, or give as --data the folder "
                "that holds the scenes' folders"
            )

    def __len__(self) -> int:
        return len(self._items)

    def key(self, index: int) -> str:
        """The key of sample `index`, without reading it."""
        return f"{self.name}/{self._items[index][0]}/im0.png"

    def __getitem__(self, index: int) -> Sample:
        """Read one left image; `valid` where its disparity is known.

        Raises:
            ValueError: a file is damaged, or the image has not the size of its calibration.
            FileNotFoundError: a file is missing.
        """
        folder, truth = self._items[index]
        path = self.root / folder
        image = images.read_image(path / "im0.png")
        camera = _read_calibration(path / "calib.txt")
        if (image.shape[2], image.shape[1]) != camera.size:
            raise ValueError(
                f"{path / 'im0.png'}: {image.shape[2]} x {image.shape[1]} pixels, but calib.txt is "
                f"of {camera.size[0]} x {camera.size[1]}; {_SOURCE} again"
            )
        disparity = depth_maps.read_pfm(path / truth)
        if disparity.ndim != 2:
            raise ValueError(f"{path / truth}: a picture in colour, no disparity; {_SOURCE} again")
        shifted = disparity.astype(np.float64) + camera.offset
        valid = np.isfinite(disparity) & (shifted > 0)
        millimetres = camera.baseline * camera.K[0, 0] / np.where(valid, shifted, 1)
        depth = (millimetres / _MILLIMETRES).astype(np.float32)
        return depth_maps.depth_sample(
            self.key(index), image, depth, valid, K=torch.from_numpy(camera.K)
        )


class _Calibration(NamedTuple):
    K: Float[np.ndarray, "3 3"]
    offset: float  # pixels between the principal points: right minus left
    baseline: float  # millimetres
    size: tuple[int, int]  # width, height


def _truth(folder: Path) -> str:
    for name in _TRUTHS:
        if (folder / name).is_file():
            return name
    raise FileNotFoundError(
        f"{folder}: neither {' nor '.join(_TRUTHS)} (test scenes have none, take them out); "
        f"{_SOURCE}"
    )


def _read_calibration(path: Path) -> _Calibration:
    entries = dict(
        line.split("=", 1) for line in path.read_text(errors="replace").splitlines() if "=" in line
    )
    try:
        rows = entries["cam0"].strip().strip("[]").split(";")
        K = np.array([[float(number) for number in row.split()] for row in rows])
        offset, baseline = float(entries["doffs"]), float(entries["baseline"])
        size = int(entries["width"]), int(entries["height"])
        pinhole = K.shape == (3, 3) and K[0, 0] > 0 and K[1, 1] > 0 and K[2].tolist() == [0, 0, 1]
        if not (pinhole and baseline > 0 and np.isfinite(offset)):
            raise ValueError(f"cam0 {K.tolist()}, doffs {offset}, baseline {baseline}")
    except (KeyError, ValueError) as error:
        raise ValueError(f"{path}: no calibration of Middlebury's: {error}; {_SOURCE}") from error
    return _Calibration(K, offset, baseline, size)
