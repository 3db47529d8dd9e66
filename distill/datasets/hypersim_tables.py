"""Hypersim's tables: which frames belong to a split or list, and the camera of each scene."""

import csv
import logging
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

SPLITS = "metadata_images_split_scene_v1.csv"
CAMERAS = "metadata_camera_parameters.csv"
SOURCE = "it is part of github.com/apple/ml-hypersim"
BROKEN = ("ai_004_009/cam_01", "ai_038_007/cam_00")  # ml-hypersim issue 22: no light, no texture
_COLUMNS = {
    *("scene_name", "camera_name", "frame_id"),
    *("included_in_public_release", "split_partition_name"),
}
_FOCAL, _WIDTH = 886.81, 1024  # 60 degrees across; the digits every loader uses
_LISTED = re.compile(r"(ai_\d{3}_\d{3})/rgb_(cam_\d\d)_fr(\d{4})\.png(\s|$)")
_CAMERA = re.compile(r"ai_\d{3}_\d{3}/cam_\d\d")
Frame = tuple[str, str, int]  # scene, camera, number
_logger = logging.getLogger(__name__)


def frames(root: Path, split: str) -> list[Frame]:
    """The released frames of `split` whose scene is on the disk.

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
    found = [(row["scene_name"], row["camera_name"], int(row["frame_id"])) for row in rows]
    return _on_disk(root, found, split)


def listed(root: Path, listing: Path) -> list[Frame]:
    """The frames of a text file of lines `ai_001_001/rgb_cam_00_fr0000.png ...`, likewise.

    Raises:
        ValueError: a line names no frame, or one that another line has named.
    """
    found: dict[Frame, None] = {}
    for line in filter(str.strip, listing.read_text().splitlines()):
        match = _LISTED.match(line)
        if match is None:
            raise ValueError(f"{listing}: no ai_VVV_NNN/rgb_cam_XX_frIIII.png begins {line!r}")
        frame = match[1], match[2], int(match[3])
        if frame in found:
            raise ValueError(f"{listing}: named twice, remove one: {line!r}")
        found[frame] = None
    return _on_disk(root, list(found), listing.name)


def without(frames: Sequence[Frame], skip: Collection[str]) -> list[Frame]:
    """The frames that no camera of `skip` has seen.

    Raises:
        ValueError: an entry of `skip` is no camera.
    """
    if odd := [camera for camera in skip if not _CAMERA.fullmatch(camera)]:
        raise ValueError(f"hypersim: skip takes cameras like {BROKEN[0]!r}, got {odd}")
    return [(s, camera, n) for s, camera, n in frames if f"{s}/{camera}" not in skip]


def _on_disk(root: Path, frames: Sequence[Frame], what: str) -> list[Frame]:
    scenes = {scene for scene, _, _ in frames}
    here = {scene for scene in scenes if (root / scene).is_dir()}
    if len(here) < len(scenes):
        _logger.warning("%s: %d of %d scenes of %s", root, len(here), len(scenes), what)
    return [frame for frame in frames if frame[0] in here]


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
