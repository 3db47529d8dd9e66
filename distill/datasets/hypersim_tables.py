"""Hypersim's two tables: which frames belong to a split, and the camera of each scene."""

import csv
import logging
from collections.abc import Mapping
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

SPLITS = "metadata_images_split_scene_v1.csv"
CAMERAS = "metadata_camera_parameters.csv"
SOURCE = "it is part of github.com/apple/ml-hypersim"
_COLUMNS = {
    *("scene_name", "camera_name", "frame_id"),
    *("included_in_public_release", "split_partition_name"),
}
_FOCAL, _WIDTH = 886.81, 1024  # 60 degrees across; the digits every loader uses
_logger = logging.getLogger(__name__)


def frames(root: Path, split: str) -> list[tuple[str, str, int]]:
    """Scene, camera and number of the released frames of `split` whose scene is on the disk.

    Raises:
        ValueError: no such split or column.
    """
    with (root / SPLITS).open(newline="") as file:
        reader = csv.DictReader(file)
        if missing := _COLUMNS - set(reader.fieldnames or ()):
            raise ValueError(f"{root / SPLITS}: no column {sorted(missing)}")
        released = [row for row in reader if row["included_in_public_release"] == "True"]
    rows = [row for row in released if row["split_partition_name"] == split]
    if not rows:
        splits = sorted({row["split_partition_name"] for row in released})
        raise ValueError(f"{root / SPLITS}: no split {split!r}; there are {splits}")
    scenes = {row["scene_name"] for row in rows}
    here = {scene for scene in scenes if (root / scene).is_dir()}
    if len(here) < len(scenes):
        _logger.warning("%s: %d of %d scenes of %s", root, len(here), len(scenes), split)
    return [
        (row["scene_name"], row["camera_name"], int(row["frame_id"]))
        for row in rows
        if row["scene_name"] in here
    ]


def camera(
    table: Mapping[str, Float[Tensor, "3 3"]] | None, scene: str, h: int, w: int
) -> Float[Tensor, "3 3"]:
    """K of a scene's images of (h, w): exact by `table`, canonical without one.

    Raises:
        ValueError: `table` has no row for `scene`.
    """
    if table is None:
        return canonical(h, w)
    if scene not in table:
        raise ValueError(f"{CAMERAS}: no row for scene {scene}; {SOURCE}")
    return of_scene(table[scene], h, w)


def canonical(h: int, w: int) -> Float[Tensor, "3 3"]:
    """K of an upright camera, 60 degrees across, for an image of (h, w)."""
    f = _FOCAL * w / _WIDTH
    K = [[f, 0, (w - 1) / 2], [0, f, (h - 1) / 2], [0, 0, 1]]
    return torch.tensor(K, dtype=torch.float64)


def of_scene(uv: Float[Tensor, "3 3"], h: int, w: int) -> Float[Tensor, "3 3"]:
    """K of `M_cam_from_uv`, whose camera looks along -z with y up, for an image of (h, w).

    u runs from -1 to 1 to the right, v from 1 down to -1, between the borders of the image. Where
    the third row of `uv` is not (0, 0, -1) the image plane is oblique (tilt-shift), and so is K.
    """
    uv_from_pixel = [[2 / w, 0, 1 / w - 1], [0, -2 / h, 1 - 1 / h], [0, 0, 1]]
    opencv_from_cam = torch.diag(torch.tensor([1.0, -1.0, -1.0], dtype=torch.float64))
    rays = opencv_from_cam @ uv.double() @ torch.tensor(uv_from_pixel, dtype=torch.float64)
    K = torch.inverse(rays)
    return K / K[2, 2]


def read_cameras(root: Path) -> dict[str, Float[Tensor, "3 3"]]:
    """`M_cam_from_uv` of each scene, from `metadata_camera_parameters.csv` in `root`.

    Raises:
        FileNotFoundError: the table is not there.
        ValueError: a column is missing or holds no number.
    """
    path = root / CAMERAS
    if not path.is_file():
        raise FileNotFoundError(f"{path}: projection='per_scene' needs this table; {SOURCE}")
    names = [f"M_cam_from_uv_{i}{j}" for i in range(3) for j in range(3)]
    cameras: dict[str, Tensor] = {}
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            try:
                entries = [float(row[name]) for name in names]
                cameras[row["scene_name"]] = torch.tensor(entries, dtype=torch.float64).view(3, 3)
            except (KeyError, TypeError, ValueError) as error:
                raise ValueError(f"{path}: no usable {names[0]}.. in {row}: {error!r}") from error
    return cameras
