"""Frames -> KITTI raw's files (Geiger et al. 2013): stereo pairs, lidar, poses, calibration.

A date is one drive with a calibration of its own. The cameras are rectified, so that `R_rect_00` is
the identity; Camera 2 is the left colour camera, 3 the right one, and 0, which takes no pictures
here, lies between them. The lidar sees what is in front of the cameras. The IMU is the lidar.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import imagecodecs
import numpy as np
from jaxtyping import Float, UInt8

from distill.worlds.render import Frame, points
from distill.worlds.scene import Camera, Pose
from distill.worlds.street import BASELINE

LEFT_OF_0 = 0.06  # metres from camera 0 to camera 2, as in the real set
LIDAR = (0.0, -0.08, -0.27)  # where the lidar stands, in the axes of camera 0
HERTZ = 10
_CAM_FROM_VELO = np.array([[0.0, -1, 0], [0, 0, -1], [1, 0, 0]])  # x ahead, y left, z up
_EARTH = 6378137.0  # metres; the sphere of the real set's development kit
_LATITUDE = 49.0  # where the first frame stands
_QUALITY = 92


@dataclass(frozen=True, kw_only=True, eq=False)
class Moment:
    """What the car sees at one time.

    Attributes:
        left, right: of cameras 2 and 3.
        pictures: of both, 8-bit.
        lidar: the scene from the lidar's place.
    """

    left: Frame
    right: Frame
    pictures: tuple[UInt8[np.ndarray, "h w 3"], UInt8[np.ndarray, "h w 3"]]
    lidar: Frame


def lidar_camera(left: Camera, *, width: int, height: int) -> Camera:
    """A camera where the lidar of this left camera stands; its pixels' centres are the beams."""
    pose = left.world_from_cam.copy()
    pose[:3, 3] += pose[:3, :3] @ (np.array(LIDAR) + np.array([LEFT_OF_0, 0.0, 0.0]))
    return Camera(width=width, height=height, fov_x=90.0, world_from_cam=pose)


def write_drive(folder: Path, date: str, moments: Sequence[Moment]) -> None:
    """The `folder` of a date: its calibration, and the drive `<date>_drive_0001_sync`."""
    _write_calibration(folder, moments[0].left.camera)
    drive = folder / f"{date}_drive_0001_sync"
    for part in ("image_02", "image_03", "velodyne_points", "oxts"):
        (drive / part / "data").mkdir(parents=True)
        start = np.datetime64(f"{date.replace('_', '-')}T12:00", "ns")
        times = [start + np.timedelta64(round(n * 1e9 / HERTZ), "ns") for n in range(len(moments))]
        stamps = [str(time).replace("T", " ") + "\n" for time in times]
        (drive / part / "timestamps.txt").write_text("".join(stamps))
    for number, moment in enumerate(moments):
        name = f"{number:010d}"
        for camera, picture in zip((2, 3), moment.pictures, strict=True):
            data = imagecodecs.jpeg_encode(picture, level=_QUALITY)
            (drive / f"image_{camera:02d}/data/{name}.jpg").write_bytes(data)
        beams = lidar_points(moment.lidar)
        (drive / f"velodyne_points/data/{name}.bin").write_bytes(beams.tobytes())
        pose = world_from_velo(moment.left.camera)
        (drive / f"oxts/data/{name}.txt").write_text(_oxts(pose))


def write_truth(folder: Path, moments: Sequence[Moment]) -> None:
    """The `folder` of a drive in `data_depth_annotated`: uint16 PNG of 1/256 m, 0 without truth.

    Dense, where the real set has what several sweeps of the lidar hit.
    """
    folder = folder / "proj_depth" / "groundtruth"
    for camera in (2, 3):
        (folder / f"image_{camera:02d}").mkdir(parents=True)
        for number, moment in enumerate(moments):
            frame = moment.left if camera == 2 else moment.right
            stored = np.where(frame.hit, np.round(frame.depth.astype(np.float64) * 256), 0)
            stored = np.where(stored <= 65535, stored, 0).astype(np.uint16)
            path = folder / f"image_{camera:02d}" / f"{number:010d}.png"
            path.write_bytes(imagecodecs.png_encode(stored))


def lidar_points(frame: Frame) -> Float[np.ndarray, "n 4"]:
    """What the beams hit, in the lidar's axes and metres; no reflectance is simulated."""
    seen = points(frame.camera, frame.depth)[frame.hit] @ _CAM_FROM_VELO
    return np.concatenate([seen, np.zeros((len(seen), 1))], axis=1).astype("<f4")


def world_from_velo(left: Camera) -> Pose:
    """The lidar's pose, of a car with this left camera."""
    pose = lidar_camera(left, width=1, height=1).world_from_cam.copy()
    pose[:3, :3] = pose[:3, :3] @ _CAM_FROM_VELO
    return pose


def _write_calibration(folder: Path, camera: Camera) -> None:
    f, cx, cy = camera.focal, (camera.width - 1) / 2, (camera.height - 1) / 2
    lines = ["calib_time: 01-Jan-2000 12:00:00", "corner_dist: 9.950000e-02"]
    size, eye = f"{camera.width:e} {camera.height:e}", _text(np.eye(3))
    shifts = {0: 0.0, 1: LEFT_OF_0 - BASELINE, 2: LEFT_OF_0, 3: LEFT_OF_0 - BASELINE}
    K = np.array([[f, 0, cx], [0, f, cy], [0, 0, 1]])
    for number, shift in shifts.items():
        projection = np.concatenate([K, [[f * shift], [0], [0]]], axis=1)
        lines += [
            f"S_{number:02d}: {size}",
            f"K_{number:02d}: {_text(K)}",
            f"D_{number:02d}: {_text(np.zeros(5))}",
            f"R_{number:02d}: {eye}",
            f"T_{number:02d}: {_text(np.array([shift, 0, 0]))}",
            f"S_rect_{number:02d}: {size}",
            f"R_rect_{number:02d}: {eye}",
            f"P_rect_{number:02d}: {_text(projection)}",
        ]
    (folder / "calib_cam_to_cam.txt").write_text("\n".join(lines) + "\n")
    moves = {"velo_to_cam": (_CAM_FROM_VELO, LIDAR), "imu_to_velo": (np.eye(3), np.zeros(3))}
    for name, (rotation, move) in moves.items():
        text = f"{lines[0]}\nR: {_text(rotation)}\nT: {_text(np.asarray(move))}\n"
        (folder / f"calib_{name}.txt").write_text(text)


def _oxts(pose: Pose) -> str:
    """A line of the GPS/IMU: place on the sphere, roll, pitch and yaw; nothing else was measured.

    The development kit's Mercator projection about the first frame gives the pose back.
    """
    scale = math.cos(math.radians(_LATITUDE))
    north = _EARTH * scale * math.log(math.tan(math.radians(90 + _LATITUDE) / 2))
    x, y, z = pose[:3, 3]
    latitude = 2 * math.degrees(math.atan(math.exp((y + north) / (_EARTH * scale)))) - 90
    longitude = math.degrees(x / (_EARTH * scale))
    R = pose[:3, :3]
    yaw, roll = math.atan2(R[1, 0], R[0, 0]), math.atan2(R[2, 1], R[2, 2])
    pitch = math.asin(min(1.0, max(-1.0, -R[2, 0])))
    known = [latitude, longitude, z, roll, pitch, yaw]
    return " ".join(f"{v:.14g}" for v in [*known, *[0.0] * 19]) + " 4 10 4 4 0\n"


def _text(values: np.ndarray) -> str:
    return " ".join(f"{v:.12e}" for v in np.ravel(values))
