"""Where KITTI's cameras, lidar and GPS are (Geiger et al. 2013), and lidar sweeps as depth maps.

Calibration files belong to a date. Axes: cameras x right, y down, z forward; lidar and IMU x
forward, y left, z up. Camera 2 is the left colour camera, 3 the right one, 0 the frame of
reference. Pixels have integer centres, counted from 0: the authors' MATLAB code adds 1 to draw.
"""

import math
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

Matrix = NDArray[np.float64]

_EARTH = 6378137.0  # metres; the sphere of the development kit
_REMEDY = "unpack the date's <date>_calib.zip of KITTI raw there"


class Calibration:
    """The calibration of a date; a file is read when it is first needed.

    Args:
        folder: of the date, which holds `calib_cam_to_cam.txt` and, where lidar or GPS are used,
            `calib_velo_to_cam.txt` and `calib_imu_to_velo.txt`.

    Raises:
        FileNotFoundError: the file is missing (from any of the attributes).
        ValueError: it lacks a key or numbers (likewise).
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._files: dict[str, dict[str, str]] = {}

    def projection(self, camera: int) -> Float[np.ndarray, "3 4"]:
        """`P_rect`: a point of `rect` (below) to homogeneous pixels of the rectified image."""
        return self._read("cam_to_cam", f"P_rect_{camera:02d}", (3, 4))

    def K(self, camera: int) -> Float[Tensor, "3 3"]:  # noqa: N802 K is its name
        """Of the rectified image."""
        return torch.from_numpy(self.projection(camera)[:, :3]).float()

    def cam_from_rect(self, camera: int) -> Float[np.ndarray, "4 4"]:
        """From the frame of reference, camera 0 rectified, to another rectified camera: a move."""
        P = self.projection(camera)
        return _rigid(np.eye(3), np.linalg.solve(P[:, :3], P[:, 3]))

    def cam_from_cam(self, a: int, b: int) -> Float[np.ndarray, "4 4"]:
        """From rectified camera `b` to `a`: of a stereo pair the baseline, 0.54 m along x."""
        return self.cam_from_rect(a) @ np.linalg.inv(self.cam_from_rect(b))

    @cached_property
    def rect_from_velo(self) -> Float[np.ndarray, "4 4"]:
        """From the lidar to the frame of reference."""
        rectified = _rigid(self._read("cam_to_cam", "R_rect_00", (3, 3)), np.zeros(3))
        return rectified @ self._rigid("velo_to_cam")

    def cam_from_imu(self, camera: int) -> Float[np.ndarray, "4 4"]:
        """From the GPS/IMU to a rectified camera."""
        return self.cam_from_rect(camera) @ self.rect_from_velo @ self._rigid("imu_to_velo")

    def moved_by_gps(self, camera: int, a: Path, b: Path) -> Float[np.ndarray, "4 4"]:
        """From a rectified camera at the time of the file `b` to itself at `a`, `imu_from_imu`."""
        cam_from_imu = self.cam_from_imu(camera)
        return cam_from_imu @ imu_from_imu(a, b) @ np.linalg.inv(cam_from_imu)

    def _rigid(self, name: str) -> Matrix:
        return _rigid(self._read(name, "R", (3, 3)), self._read(name, "T", (3,)))

    def _read(self, name: str, key: str, shape: tuple[int, ...]) -> Matrix:
        path = self.folder / f"calib_{name}.txt"
        if name not in self._files:
            self._files[name] = _entries(path)
        entries = self._files[name]
        try:
            return np.array(entries[key].split(), dtype=np.float64).reshape(shape)
        except (KeyError, ValueError) as error:
            size = math.prod(shape)
            got = f"got {entries[key]!r}" if key in entries else f"there are {sorted(entries)}"
            raise ValueError(f"{path}: {key} needs {size} numbers, {got}; {_REMEDY}") from error


def project_velodyne(
    points: Float[np.ndarray, "n _"],
    calibration: Calibration,
    camera: int,
    *,
    size: tuple[int, int],
    value: Literal["depth", "forward"] = "depth",
) -> Float[np.ndarray, "h w"]:
    """A lidar sweep as seen by a camera; of several points in a pixel the nearest, 0 without any.

    With `"depth"`, depth along the optical axis, in the pixel whose centre is nearest: for metric
    work. With `"forward"`, to the number what the 697 images of Eigen et al. are measured with
    (Zhou et al. 2017, Godard et al. 2019): the lidar's x, which lies 0.27 m behind the cameras; one
    pixel up and to the left, as if projections counted from 1; and the last pixel of a row and the
    first of the next taken for one, where the smaller number lands in the one that was hit first,
    and the other keeps the last point of the sweep.

    Args:
        points: x, y, z, and what else is known, in the lidar's axes, metres; those with x < 0 lie
            behind the cameras and are left out.
        calibration: of the date.
        camera: 2 or 3.
        size: height and width of the image.
        value: of a pixel.
    """
    height, width = size
    forward = value == "forward"
    xyz = points[points[:, 0] >= 0, :3].astype(np.float64)
    to_pixels = calibration.projection(camera) @ calibration.rect_from_velo
    p = np.einsum("ij,nj->ni", to_pixels[:, :3], xyz) + to_pixels[:, 3]  # BLAS would start threads
    if not forward:
        xyz, p = xyz[p[:, 2] > 0], p[p[:, 2] > 0]
    pixels = np.round(p[:, :2] / p[:, 2:]) - forward
    inside = ((pixels >= 0) & (pixels < (width, height))).all(1)
    column, row = pixels[inside].astype(np.int64).T
    values = (xyz[:, 0] if forward else p[:, 2])[inside]
    depth = np.zeros(size)
    depth[row, column] = values  # of several the last
    place = row * (width - 1 if forward else width) + column
    smallest, first = np.full(height * width, np.inf), np.zeros(height * width, np.int64)
    np.minimum.at(smallest, place, values)
    first[place[::-1]] = np.arange(len(place))[::-1]
    depth[row[first[place]], column[first[place]]] = smallest[place]
    return depth.astype(np.float32)


def read_velodyne(path: Path) -> Float[np.ndarray, "n 4"]:
    """A sweep: x, y, z in metres, and reflectance.

    Raises:
        ValueError: the file is cut off.
        FileNotFoundError: there is no such file.
    """
    data = path.read_bytes()
    if len(data) % 16 or not data:
        raise ValueError(f"{path}: {len(data)} bytes, not a multiple of 16; get the file again")
    return np.frombuffer(data, "<f4").reshape(-1, 4)


def imu_from_imu(a: Path, b: Path) -> Float[np.ndarray, "4 4"]:
    """The pose of the GPS/IMU at one moment from another, by two files of `oxts/data`.

    By the Mercator projection of the development kit, at the scale of `b`'s latitude. As good as
    GPS: centimetres under an open sky, worse between houses.

    Raises:
        ValueError: a file does not begin with six numbers.
        FileNotFoundError: there is no such file.
    """
    measured = [_read_oxts(path) for path in (a, b)]
    world_from_a, world_from_b = (_world_from_imu(m, latitude=measured[1][0]) for m in measured)
    return np.linalg.inv(world_from_a) @ world_from_b


def _read_oxts(path: Path) -> list[float]:
    """Latitude and longitude in degrees, altitude in metres; roll, pitch and yaw in radians."""
    numbers = path.read_text(errors="replace").split()[:6]
    try:
        _, _, _, _, _, _ = measured = [float(number) for number in numbers]
    except ValueError as error:
        raise ValueError(
            f"{path}: not latitude, longitude, altitude, 3 angles: {numbers}"
        ) from error
    return measured


def _world_from_imu(measured: list[float], *, latitude: float) -> Matrix:
    """With x east, y north, z up."""
    north, east, z, roll, pitch, yaw = measured
    scale = math.cos(math.radians(latitude)) * _EARTH
    y = scale * math.log(math.tan(math.radians(90 + north) / 2))
    turned = _about(2, yaw) @ _about(1, pitch) @ _about(0, roll)
    return _rigid(turned, np.array([scale * math.radians(east), y, z]))


def _about(axis: int, angle: float) -> Matrix:
    """A rotation about x, y or z."""
    a, b = (axis + 1) % 3, (axis + 2) % 3
    R = np.eye(3)
    R[a, a] = R[b, b] = math.cos(angle)
    R[b, a] = math.sin(angle)
    R[a, b] = -R[b, a]
    return R


def _rigid(R: Matrix, t: Matrix) -> Matrix:
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = R, t
    return pose


def _entries(path: Path) -> dict[str, str]:
    """`key: numbers`, a line each."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; {_REMEDY}")
    lines = (line.partition(":") for line in path.read_text(errors="replace").splitlines())
    return {key.strip(): numbers for key, _, numbers in lines if numbers}
