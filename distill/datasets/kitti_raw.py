"""KITTI raw (Geiger et al. 2013): stereo video with lidar and GPS, for learning without labels."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float

from distill.datasets import depth_maps, images
from distill.datasets.kitti_calibration import Calibration, project_velodyne, read_velodyne
from distill.datasets.kitti_lists import SOURCE, Frame, Images, read_list
from distill.types import Sample, View

_log = logging.getLogger(__name__)


class KittiRaw:
    """`2011_09_26/2011_09_26_drive_0001_sync/image_02/data/0000000005.png` (or `.jpg`), by a list.

    Keys end in the path of the image. Listed frames with a neighbour beyond the ends of their drive
    are left out and counted in the log; a frame that is missing within a drive is an error.
    CC BY-NC-SA 3.0.

    Args:
        root: the folder that holds the dates.
        split: a list by name or path, `kitti_lists.read_list`.
        part: `train`, `val` or `test`.
        offsets: neighbours in time, as `views`: (-1, 1) are the frames before and after.
        stereo: the other camera at the same time as the last of the `views`, with its pose.
        poses: of the neighbours, by GPS; without, their `view_from_sample` is None.
        lidar: the sweep at the frame's time as `target`, depth along the optical axis.
        name: of the data set.

    Raises:
        FileNotFoundError: the list, a drive or a frame is missing.
        ValueError: the list is damaged, a folder mixes PNG and JPEG, no frame has its neighbours,
            or an offset is 0 or there twice.
    """

    def __init__(
        self,
        root: Path,
        *,
        split: str | Path,
        part: str = "train",
        offsets: Sequence[int] = (-1, 1),
        stereo: bool = False,
        poses: bool = False,
        lidar: bool = False,
        name: str = "kitti_raw",
    ) -> None:
        if not root.is_dir():
            raise FileNotFoundError(f"{name}: no such folder: {root}; {SOURCE}")
        if 0 in offsets or len(set(offsets)) < len(offsets):
            raise ValueError(f"{name}: offsets {tuple(offsets)}; each once, and 0 is the sample")
        self.root, self.name = root, name
        self._offsets, self._stereo, self._poses, self._lidar = offsets, stereo, poses, lidar
        self._calibrations: dict[str, Calibration] = {}
        self._images, listed = Images(root), read_list(root, split, part)
        self._frames = [one for one in listed if self._images.has(one, self._others(one))]
        if not self._frames:
            raise ValueError(
                f"{name}: none of {len(listed)} frames of {split} has neighbours {tuple(offsets)}"
            )
        if beyond := len(listed) - len(self._frames):
            _log.info(
                "%s: %d of %d frames left out: at an end of their drive", name, beyond, len(listed)
            )

    def __len__(self) -> int:
        return len(self._frames)

    def key(self, index: int) -> str:
        """The key of sample `index`, without reading it."""
        return f"{self.name}/{self._images.path(self._frames[index])}"

    def __getitem__(self, index: int) -> Sample:
        """Read one frame and its views.

        Raises:
            ValueError: a file is damaged.
            FileNotFoundError: a file is missing.
        """
        frame = self._frames[index]
        seen = self._view(frame, frame)
        views = tuple(self._view(other, frame) for other in self._others(frame))
        if not self._lidar:
            return Sample(key=seen.key, image=seen.image, K=seen.K, views=views)
        depth = self.lidar(frame, (seen.image.shape[1], seen.image.shape[2]))
        sample = depth_maps.depth_sample(seen.key, seen.image, depth, depth > 0, K=seen.K)
        return replace(sample, views=views)

    def frame(self, index: int) -> Frame:
        """Which image sample `index` is."""
        return self._frames[index]

    def calibration(self, frame: Frame) -> Calibration:
        """Of its date."""
        if frame.date not in self._calibrations:
            self._calibrations[frame.date] = Calibration(self.root / frame.date)
        return self._calibrations[frame.date]

    def lidar(
        self, frame: Frame, size: tuple[int, int], value: Literal["depth", "forward"] = "depth"
    ) -> Float[np.ndarray, "h w"]:
        """The sweep at its time, `kitti_calibration.project_velodyne`.

        Raises:
            ValueError: a file is damaged.
            FileNotFoundError: a file is missing.
        """
        sweep = read_velodyne(self.root / frame.file("velodyne_points", ".bin"))
        calibration = self.calibration(frame)
        return project_velodyne(sweep, calibration, frame.camera, size=size, value=value)

    def _others(self, frame: Frame) -> list[Frame]:
        """In the order of the views."""
        others = [frame._replace(number=frame.number + offset) for offset in self._offsets]
        return [*others, frame._replace(camera=5 - frame.camera)] if self._stereo else others

    def _view(self, frame: Frame, sample: Frame) -> View:
        path, pose = self._images.path(frame), self._view_from_sample(frame, sample)
        return View(
            key=f"{self.name}/{path}",
            image=images.read_image(self.root / path),
            offset=frame.number - sample.number,
            K=self.calibration(frame).K(frame.camera),
            view_from_sample=None if pose is None else torch.from_numpy(pose).float(),
        )

    def _view_from_sample(self, view: Frame, sample: Frame) -> Float[np.ndarray, "4 4"] | None:
        calibration = self.calibration(sample)
        if view.number == sample.number:
            return calibration.cam_from_cam(view.camera, sample.camera)
        if not self._poses:
            return None
        a, b = (self.root / frame.file("oxts", ".txt") for frame in (view, sample))
        return calibration.moved_by_gps(view.camera, a, b)
