"""DDAD (Guizilini et al. 2020): city drives, six cameras, a lidar that sees 250 m.

Samples (github.com/TRI-ML/DDAD): 12650 in 150 scenes to train, 3950 in 50 scenes to validate, six
images of 1936 x 1216 each. CC BY-NC-SA 4.0.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray

from distill.datasets import depth_maps, dgp, images
from distill.types import Sample

_SPLITS = {"train": 0, "val": 1}  # DGP's numbers; the test split comes without lidar
_CAMERAS = tuple(f"camera_{number:02d}" for number in (1, 5, 6, 7, 8, 9))
_LIDAR = "lidar"


class Ddad:
    """`ddad.json`, and what it lists: `<scene>/scene_<hash>.json` with images and lidar sweeps.

    Truth is the sweep as the camera sees it: each point falls on the pixel whose centre is nearest,
    and the nearest point of a pixel stays. (DGP's own maps, which others publish with, round down
    and keep the point that comes last.) Nothing else is occluded: a point behind a pole or behind
    the car's own body, which hides much from all cameras but `camera_01`, still falls on it.

    Args:
        root: the folder that holds `ddad.json`, or `ddad_train_val/ddad.json`.
        split: `val` or `train`.
        cameras: of `camera_01` (front), `camera_05`, ..., `camera_09`.
        name: of the data set. Keys: `"<name>/<scene>/rgb/CAMERA_01/<time>.png"`.

    Raises:
        FileNotFoundError: `root` holds no `ddad.json`, or a scene is missing.
        ValueError: no such split or camera, or a list is damaged.
    """

    def __init__(
        self,
        root: Path,
        *,
        split: str = "val",
        cameras: Sequence[str] = ("camera_01",),
        name: str = "ddad",
    ) -> None:
        if split not in _SPLITS or not cameras or set(cameras) - set(_CAMERAS):
            raise ValueError(
                f"{name}: split is one of {(*_SPLITS,)} and cameras of {_CAMERAS}, "
                f"got {split!r} and {cameras!r}"
            )
        found = [folder for folder in (root, root / "ddad_train_val") if _listing(folder).is_file()]
        if not found:
            raise FileNotFoundError(
                f"{name}: no ddad.json in {root}; get DDAD.tar (257 GB) from "
                "https://github.com/TRI-ML/DDAD and unpack it there, or give as --data the folder "
                "that holds `ddad.json`"
            )
        self.root, self.name = found[0], name
        scenes = dgp.list_scenes(_listing(self.root), _SPLITS[split])
        each = (dgp.frames(self.root, scene, sorted(set(cameras)), _LIDAR) for scene in scenes)
        self._frames = [frame for of_scene in each for frame in of_scene]

    def __len__(self) -> int:
        return len(self._frames)

    def key(self, index: int) -> str:
        """The key of sample `index`, without reading it."""
        return f"{self.name}/{self._frames[index].image}"

    def __getitem__(self, index: int) -> Sample:
        """Read one image; `valid` where a point of the lidar falls.

        Raises:
            ValueError: a file is damaged, or the camera is no pinhole.
            FileNotFoundError: a file is missing.
        """
        frame = self._frames[index]
        image = images.read_image(self.root / frame.image)
        K = dgp.read_K(self.root / frame.calibration, frame.camera)
        points = dgp.read_cloud(self.root / frame.cloud)
        points = points @ frame.camera_from_lidar[:3, :3].T + frame.camera_from_lidar[:3, 3]
        depth = _nearest_points(points, K, *image.shape[1:])
        return depth_maps.depth_sample(
            self.key(index), image, depth, np.isfinite(depth), K=torch.from_numpy(K)
        )


def _listing(folder: Path) -> Path:
    return folder / "ddad.json"


def _nearest_points(
    points: Float[np.ndarray, "n 3"], K: Float[np.ndarray, "3 3"], height: int, width: int
) -> NDArray[np.float32]:
    """Depth (h, w) of the nearest point on each pixel; infinite where there is none."""
    points = points[points[:, 2] > 0]
    columns, rows = np.rint((points @ K.T)[:, :2] / points[:, 2:]).T
    seen = (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)
    pixels = (rows[seen] * width + columns[seen]).astype(np.intp)
    depth = np.full(height * width, np.inf, np.float32)
    np.minimum.at(depth, pixels, points[seen, 2].astype(np.float32))
    return depth.reshape(height, width)
