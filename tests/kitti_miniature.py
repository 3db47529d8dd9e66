"""KITTI raw's files of a room driven through: calibration, images, lidar, GPS, annotated truth.

The rotations and the lidar's place are those of 2011_09_26; nothing is the identity.
"""

import math
from functools import cache
from pathlib import Path

import imagecodecs
import numpy as np
import torch
from moving_camera import moved, pose, room_from
from scenes import Scene
from torch import Tensor

H, W = 24, 80
DATE = "2011_09_26"
DRIVE = f"{DATE}/{DATE}_drive_0001_sync"
_R_RECT = (9.999239e-01, 9.837760e-03, -7.445048e-03, -9.869795e-03, 9.999421e-01, -4.278459e-03)
_R_RECT += (7.402527e-03, 4.351614e-03, 9.999631e-01)
_R_VELO = (7.533745e-03, -9.999714e-01, -6.166020e-04, 1.480249e-02, 7.280733e-04, -9.998902e-01)
_R_VELO += (9.998621e-01, 7.523790e-03, 1.480755e-02)
_T_VELO = (-4.069766e-03, -7.631618e-02, -2.717806e-01)
_R_IMU = (9.999976e-01, 7.553071e-04, -2.035826e-03, -7.854027e-04, 9.998898e-01, -1.482298e-02)
_R_IMU += (2.024406e-03, 1.482454e-02, 9.998881e-01)
_T_IMU = (-8.086759e-01, 3.195559e-01, -7.997231e-01)
_PLACE = 49.015, 8.434, 116.4  # latitude, longitude, altitude of the first frame


def matrix(*numbers: float) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float64).reshape(3, -1)


# the right camera has another K than the left one here, so that an exchange shows
CAMERAS = {
    2: matrix(60.0, 0, 38.2, 0, 61.5, 12.4, 0, 0, 1),
    3: matrix(63.0, 0, 40.6, 0, 60.0, 10.9, 0, 0, 1),
}
MOVES = {2: (0.0585, 0.0004, 0.0027), 3: (-0.4731, 0.0029, 0.0051)}  # from camera 0, metres


def rigid(R: tuple[float, ...], t: tuple[float, ...]) -> Tensor:
    rows = torch.cat([matrix(*R), torch.tensor(t).double()[:, None]], 1)
    return torch.cat([rows, torch.tensor([[0, 0, 0, 1.0]])])


RECT_FROM_VELO = rigid(_R_RECT, (0, 0, 0)) @ rigid(_R_VELO, _T_VELO)
RECT_FROM_IMU = RECT_FROM_VELO @ rigid(_R_IMU, _T_IMU)


def cam_from_room(frame: int, camera: int) -> Tensor:
    """Half a metre ahead and a turn to the left with every frame."""
    rect_from_room = pose(turn=1.5 * frame, move=(0.02 * frame, 0, -0.5 * frame))
    return pose(move=MOVES[camera]) @ rect_from_room


@cache
def scene(frame: int, camera: int = 2) -> Scene:
    return room_from(H, W, CAMERAS[camera], cam_from_room(frame, camera))


def write_drive(root: Path, frames: int = 4, *, drive: str = DRIVE, suffix: str = ".png") -> None:
    """Both cameras, lidar and GPS of each frame, and the calibration of the date."""
    write_calibration(root / drive.split("/")[0])
    for part in ("image_02", "image_03", "velodyne_points", "oxts"):
        (root / drive / part / "data").mkdir(parents=True)
    for frame in range(frames):
        for camera in CAMERAS:
            write_image(
                root / drive / f"image_{camera:02d}/data/{frame:010d}{suffix}", frame, camera
            )
        sweep = root / drive / f"velodyne_points/data/{frame:010d}.bin"
        sweep.write_bytes(velodyne(frame).astype("<f4").tobytes())
        (root / drive / f"oxts/data/{frame:010d}.txt").write_text(_oxts(frame))


def write_image(path: Path, frame: int, camera: int) -> None:
    pixels = (scene(frame, camera).image.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
    encode = imagecodecs.png_encode if path.suffix == ".png" else imagecodecs.jpeg_encode
    path.write_bytes(encode(np.ascontiguousarray(pixels)))


def write_truth(root: Path, frame: int, *, drive: str = DRIVE, part: str = "val") -> None:
    folder = root / "data_depth_annotated" / part / drive.split("/")[1] / "proj_depth/groundtruth"
    path = folder / f"image_02/{frame:010d}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    stored = (scene(frame).depth * 256).round().numpy().astype(np.uint16)
    path.write_bytes(imagecodecs.png_encode(stored))


def velodyne(frame: int) -> np.ndarray:
    """One beam on each pixel of the left camera; others end behind these, or behind the car."""
    points = scene(frame).points.reshape(3, -1)
    cam_from_velo = pose(move=MOVES[2]) @ RECT_FROM_VELO
    seen = moved(torch.linalg.inv(cam_from_velo), points)
    hidden = moved(torch.linalg.inv(cam_from_velo), 1.2 * points)
    behind = seen * torch.tensor([-1.0, 1, 1])[:, None]
    xyz = torch.cat([hidden[:, ::3], seen, behind, hidden[:, 1::3]], 1)
    return torch.cat([xyz, torch.full_like(xyz[:1], 0.3)]).T.numpy()


def write_calibration(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["calib_time: 09-Jan-2012 13:57:47", "corner_dist: 9.950000e-02"]
    lines += [f"S_rect_02: {W:e} {H:e}", f"R_rect_00: {_text(_R_RECT)}"]
    lines += [f"R_rect_02: {_text(_R_IMU)}", "T_02: 5.956621e-02 2.900141e-04 2.577209e-03"]
    for camera, K in CAMERAS.items():
        column = K @ torch.tensor(MOVES[camera]).double()
        P = torch.cat([K, column[:, None]], 1).flatten().tolist()
        lines += [f"K_{camera:02d}: {_text(_R_VELO)}", f"P_rect_{camera:02d}: {_text(P)}"]
    (folder / "calib_cam_to_cam.txt").write_text("\n".join(lines) + "\n")
    for name, R, t in (("velo_to_cam", _R_VELO, _T_VELO), ("imu_to_velo", _R_IMU, _T_IMU)):
        text = f"{lines[0]}\nR: {_text(R)}\nT: {_text(t)}\n"
        (folder / f"calib_{name}.txt").write_text(text)


def _oxts(frame: int) -> str:
    """The world's axes are those of the IMU at frame 0, turned by 40 degrees about its z."""
    imu_from_room = torch.linalg.inv(RECT_FROM_IMU) @ pose(move=MOVES[2]).inverse()
    imu_from_room = [imu_from_room @ cam_from_room(n, 2) for n in (0, frame)]
    x, y = math.cos(math.radians(40)), math.sin(math.radians(40))
    turn = rigid((x, -y, 0, y, x, 0, 0, 0, 1), (0, 0, 0))
    world_from_imu = turn @ imu_from_room[0] @ torch.linalg.inv(imu_from_room[1])
    R, (east, north, up) = world_from_imu[:3, :3].numpy(), world_from_imu[:3, 3].tolist()
    yaw, roll = math.atan2(R[1, 0], R[0, 0]), math.atan2(R[2, 1], R[2, 2])
    latitude, longitude, altitude = _PLACE
    radius = 6378137.0 * math.cos(math.radians(latitude))
    mercator = math.log(math.tan(math.radians(90 + latitude) / 2)) + north / radius
    latitude = math.degrees(2 * math.atan(math.exp(mercator))) - 90
    place = [latitude, longitude + math.degrees(east / radius), altitude + up]
    numbers = [*place, roll, math.asin(-R[2, 0]), yaw, *[0.0] * 19]
    return " ".join(f"{n:.15g}" for n in numbers) + " 4 10 4 4 0\n"


def _text(values: list[float] | tuple[float, ...]) -> str:
    return " ".join(f"{v:.6e}" for v in values)
