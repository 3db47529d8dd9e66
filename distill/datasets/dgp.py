"""Scenes as TRI's Dataset Governance Policy (DGP) writes them; DDAD is one such set.

Protocol buffers as JSON (github.com/TRI-ML/dgp, dgp/proto): a number that is 0 may be left out. A
set lists scenes; a scene lists `samples`, each the keys of its `data` and of its calibration.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from distill.datasets import depth_maps

_PINHOLE = {"fx", "fy", "cx", "cy", "skew", "fov"}  # whatever else is not 0 bends the image
_DAMAGE = (KeyError, TypeError, ValueError, AttributeError, IndexError)


class Frame(NamedTuple):
    """One image and the sweep of the lidar that belongs to it; paths start at the set's folder."""

    camera: str
    image: str
    cloud: str
    calibration: str
    camera_from_lidar: Float[np.ndarray, "4 4"]


def list_scenes(listing: Path, split: int) -> list[str]:
    """The scene files of a split (0 train, 1 val, 2 test), relative to the folder of `listing`.

    Raises:
        ValueError: it is no JSON, or has no such split.
        FileNotFoundError: there is no such file.
    """
    found = _read(listing)
    try:
        return [str(Path(name)) for name in found["scene_splits"][str(split)]["filenames"]]
    except _DAMAGE as error:
        raise ValueError(f"{listing}: no `scene_splits` {split}: {error!r}") from error


def frames(root: Path, scene: str, cameras: Sequence[str], lidar: str) -> Iterator[Frame]:
    """Every image of `cameras` in the scene file `scene`, sample by sample.

    A datum has the pose of its sensor in the world at its own moment; so what the car moved between
    sweep and exposure is in `camera_from_lidar`.

    Args:
        root: the set's folder.
        scene: the file, relative to it.
        cameras: names, in small letters.
        lidar: its name, in small letters.

    Raises:
        ValueError: it is no scene, or a sample lacks a sensor.
        FileNotFoundError: there is no such file.
    """
    path, folder = root / scene, Path(scene).parent.as_posix()
    found = _read(path)
    try:
        data = {datum["key"]: datum for datum in found["data"]}
        for sample in found["samples"]:
            datums = [data[key] for key in sample["datum_keys"]]
            sensors = {datum["id"]["name"].lower(): datum["datum"] for datum in datums}
            cloud = sensors[lidar]["point_cloud"]
            for camera in cameras:
                image = sensors[camera]["image"]
                world_from_camera = pose_matrix(image["pose"])
                yield Frame(
                    camera=camera,
                    image=f"{folder}/{image['filename']}",
                    cloud=f"{folder}/{cloud['filename']}",
                    calibration=f"{folder}/calibration/{sample['calibration_key']}.json",
                    camera_from_lidar=np.linalg.solve(
                        world_from_camera, pose_matrix(cloud["pose"])
                    ),
                )
    except _DAMAGE as error:
        raise ValueError(f"{path}: no scene as DGP writes it: {error!r}") from error


def pose_matrix(pose: Mapping[str, Any]) -> Float[np.ndarray, "4 4"]:
    """`reference_from_sensor` of a `Pose`: a unit quaternion and a translation, metres.

    Raises:
        ValueError: the quaternion is not of length 1.
    """
    quaternion, moved = pose.get("rotation", {}), pose.get("translation", {})
    w, x, y, z = (float(quaternion.get(f"q{axis}", 0)) for axis in "wxyz")
    if not abs(w * w + x * x + y * y + z * z - 1) < 2e-3:
        raise ValueError(f"the quaternion {w, x, y, z} is not of length 1")
    matrix = np.eye(4)
    matrix[:3, :3] = (
        (1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        (2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        (2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    )
    matrix[:3, 3] = [float(moved.get(axis, 0)) for axis in "xyz"]
    return matrix


def read_K(path: Path, camera: str) -> Float[np.ndarray, "3 3"]:  # noqa: N802 K
    """Intrinsics of a camera, by its name in small letters, from a calibration file.

    Pixels count from 0 at their centres: dgp.utils.camera resizes K as `c' = (c + 0.5) s - 0.5`.

    Raises:
        ValueError: it is no calibration, has no such camera, or one that is no pinhole.
        FileNotFoundError: there is no such file.
    """
    found = _read(path)
    try:
        names = [name.lower() for name in found["names"]]
        numbers = {k: float(v) for k, v in found["intrinsics"][names.index(camera)].items()}
    except _DAMAGE as error:
        raise ValueError(f"{path}: no calibration of {camera}: {error!r}") from error
    fx, fy, cx, cy, skew = (numbers.get(k, 0.0) for k in ("fx", "fy", "cx", "cy", "skew"))
    bent = sorted(name for name in numbers.keys() - _PINHOLE if numbers[name])
    if bent or not min(fx, fy) > 0:
        raise ValueError(f"{path}: {camera} is no pinhole: {bent or (fx, fy)}; undistort it first")
    return np.array([[fx, skew, cx], [0, fy, cy], [0, 0, 1]])


def read_cloud(path: Path) -> Float[np.ndarray, "n 3"]:
    """Points of a sweep, metres, in the lidar's own axes; more columns (intensity) are left out.

    Raises:
        ValueError: it is no `.npz` file with points in `data`.
        FileNotFoundError: there is no such file.
    """
    arrays = depth_maps.read_npz(path)
    try:
        data = arrays["data"]
        if data.dtype.names:
            data = np.stack([data[axis] for axis in "XYZ"], axis=1)
        return data[:, [0, 1, 2]].astype(np.float64)
    except _DAMAGE as error:
        raise ValueError(f"{path}: no points in `data`: {error!r}") from error


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path}: damaged or no JSON: {error}") from error
