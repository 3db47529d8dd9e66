"""KITTI as an evaluation set: the test images of Eigen et al. 2014 and their lidar truth.

CC BY-NC-SA 3.0. Truth of 652 images: `data_depth_annotated` (Uhrig et al. 2017), several sweeps
brought together and cleaned by stereo. Of all 697: the raw sweep, as self-supervised work uses it.
"""

from pathlib import Path

import numpy as np

from distill.datasets import depth_maps
from distill.datasets.kitti_lists import SHIPPED
from distill.datasets.kitti_raw import KittiRaw
from distill.types import Sample

_UNITS_PER_METRE = 256.0
_SPLITS, _TRUTHS = ("eigen_benchmark", "eigen"), ("annotated", "velodyne")
_SOURCE = (
    "get data_depth_annotated.zip from https://www.cvlibs.net/datasets/kitti/eval_depth_all.php "
    "and unpack it in `data_depth_annotated`"
)


class Kitti:
    """Colour images of KITTI raw with depth in metres. Keys end in the path of the image.

    Args:
        root: holds `data_depth_annotated/{train,val}/<drive>/proj_depth/groundtruth/image_0X/`, and
            the dates of KITTI raw themselves or in `raw/`.
        split: `eigen_benchmark`, the 652 images with annotated truth; `eigen`, all 697, which need
            `truth="velodyne"`; or the path of a list (`kitti_lists.read_list`).
        truth: `annotated`; or `velodyne`, one raw sweep as published numbers have it: the lidar's
            x, a pixel off (`kitti_calibration.project_velodyne`), not for metric work.
        name: of the data set.

    Raises:
        FileNotFoundError: images or truth of a drive are missing.
        ValueError: no such split or truth, or `eigen` with annotated truth.
    """

    def __init__(
        self,
        root: Path,
        *,
        split: str | Path = "eigen_benchmark",
        truth: str = "annotated",
        name: str = "kitti",
    ) -> None:
        if truth not in _TRUTHS:
            raise ValueError(f"{name}: truth is one of {_TRUTHS}, got {truth!r}")
        if isinstance(split, str) and split not in _SPLITS:
            raise ValueError(f"{name}: split is one of {_SPLITS} or a Path, got {split!r}")
        if (split, truth) == ("eigen", "annotated"):
            raise ValueError(
                f"{name}: 45 of the 697 images of `eigen` have no annotated truth; take "
                "`eigen_benchmark`, or the raw lidar with truth `velodyne`"
            )
        self.root, self.name, self._truth = root, name, truth
        raw = root / "raw" if (root / "raw").is_dir() else root
        path = split if isinstance(split, Path) else SHIPPED / f"{split}.txt"
        self._raw = KittiRaw(raw, split=path, part="test", offsets=(), name=name)
        self._annotated: dict[str, Path] = {}
        if truth == "annotated":
            drives = {self._raw.frame(i).drive for i in range(len(self))}
            self._annotated = {drive: _annotated(root, drive, name) for drive in sorted(drives)}

    def __len__(self) -> int:
        return len(self._raw)

    def key(self, index: int) -> str:
        """The key of sample `index`, without reading it."""
        return self._raw.key(index)

    def __getitem__(self, index: int) -> Sample:
        """Read one image; `valid` where the lidar measured.

        Raises:
            ValueError: a file is damaged, or image and truth differ in size.
            FileNotFoundError: a file is missing.
        """
        sample, frame = self._raw[index], self._raw.frame(index)
        if self._truth == "velodyne":
            size = sample.image.shape[1], sample.image.shape[2]
            depth = self._raw.lidar(frame, size, "forward")
        else:
            place = f"proj_depth/groundtruth/image_{frame.camera:02d}/{frame.number:010d}.png"
            stored = depth_maps.read_png16(self._annotated[frame.drive] / place)
            depth = (stored / _UNITS_PER_METRE).astype(np.float32)
        return depth_maps.depth_sample(sample.key, sample.image, depth, depth > 0, K=sample.K)


def _annotated(root: Path, drive: str, name: str) -> Path:
    """A drive's truth lies in `train` or in `val`, whatever it is used for here."""
    for part in ("val", "train"):
        folder = root / "data_depth_annotated" / part / drive.split("/")[1]
        if folder.is_dir():
            return folder
    raise FileNotFoundError(
        f"{name}: no truth of {drive} in {root}/data_depth_annotated/{{train,val}}; {_SOURCE}"
    )
