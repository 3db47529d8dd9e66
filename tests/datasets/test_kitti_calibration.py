"""KITTI's calibration, stereo geometry, GPS poses and lidar maps, on a room with a closed form."""

import math
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from kitti_miniature import (
    CAMERAS,
    DATE,
    DRIVE,
    MOVES,
    H,
    W,
    cam_from_room,
    scene,
    velodyne,
    write_calibration,
    write_drive,
)
from moving_camera import moved, pose

from distill.datasets import kitti_calibration
from distill.datasets.kitti_calibration import Calibration, imu_from_imu, project_velodyne

REAL = """calib_time: 09-Jan-2012 13:57:47
corner_dist: 9.950000e-02
R_rect_00: 9.999239e-01 9.837760e-03 -7.445048e-03 -9.869795e-03 9.999421e-01 -4.278459e-03 \
7.402527e-03 4.351614e-03 9.999631e-01
P_rect_02: 7.215377e+02 0.000000e+00 6.095593e+02 4.485728e+01 0.000000e+00 7.215377e+02 \
1.728540e+02 2.163791e-01 0.000000e+00 0.000000e+00 1.000000e+00 2.745884e-03
P_rect_03: 7.215377e+02 0.000000e+00 6.095593e+02 -3.395242e+02 0.000000e+00 7.215377e+02 \
1.728540e+02 2.199936e+00 0.000000e+00 0.000000e+00 1.000000e+00 2.729905e-03
"""


@pytest.fixture
def calibration(tmp_path) -> Calibration:
    write_calibration(tmp_path)
    return Calibration(tmp_path)


def test_cameras_of_the_26th_of_september(tmp_path):
    (tmp_path / "calib_cam_to_cam.txt").write_text(REAL)
    calibration = Calibration(tmp_path)
    expected = [[721.5377, 0, 609.5593], [0, 721.5377, 172.854], [0, 0, 1]]
    torch.testing.assert_close(calibration.K(2), torch.tensor(expected))
    right_from_left = calibration.cam_from_cam(3, 2)
    assert right_from_left[0, 3] == pytest.approx(-0.5327, abs=1e-4)
    assert np.abs(right_from_left[1:3, 3]).max() < 0.003
    np.testing.assert_array_equal(right_from_left[:3, :3], np.eye(3))


def test_both_cameras_see_one_room(calibration):
    for camera, K in CAMERAS.items():
        torch.testing.assert_close(calibration.K(camera), K.float())
    for a, b in ((2, 3), (3, 2)):
        ours = calibration.cam_from_cam(a, b)
        theirs = cam_from_room(1, a) @ torch.linalg.inv(cam_from_room(1, b))
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


@pytest.mark.parametrize(("a", "b"), [(0, 1), (1, 0), (0, 3), (2, 3)])
def test_the_gps_moves_the_camera_as_it_was_moved(a, b, tmp_path):
    write_drive(tmp_path)
    calibration = Calibration(tmp_path / DATE)
    folder = tmp_path / DRIVE / "oxts/data"
    imu = imu_from_imu(folder / f"{a:010d}.txt", folder / f"{b:010d}.txt")
    for camera in CAMERAS:
        cam_from_imu = calibration.cam_from_imu(camera)
        ours = cam_from_imu @ imu @ np.linalg.inv(cam_from_imu)
        theirs = cam_from_room(a, camera) @ torch.linalg.inv(cam_from_room(b, camera))
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_lidar_depth_is_the_room_in_the_pixels_it_was_aimed_at(calibration):
    depth = project_velodyne(velodyne(1), calibration, 2, size=(H, W))
    assert depth.dtype == np.float32
    np.testing.assert_allclose(depth, scene(1).depth, rtol=1e-5)
    # the other camera looks past edges: nearly everywhere the room, and never nothing in front
    right, truth = project_velodyne(velodyne(1), calibration, 3, size=(H, W)), scene(1, 3).depth
    error = np.abs(right / truth.numpy() - 1)[right > 0]
    assert (right > 0).mean() > 0.5
    assert (error < 0.05).mean() > 0.9


def test_what_the_eigen_images_are_measured_with(calibration):
    """The lidar's x, one pixel up and to the left; the first row and column are lost."""
    points = scene(1).points
    velo_from_cam = torch.linalg.inv(
        pose(move=MOVES[2]) @ torch.from_numpy(calibration.rect_from_velo)
    )
    x = moved(velo_from_cam, points)[0]
    forward = project_velodyne(velodyne(1), calibration, 2, size=(H, W), value="forward")
    inner = forward[:-1, 1:-2]  # beyond lie the pixels that are taken for one another
    np.testing.assert_allclose(inner, x[1:, 2:-1], rtol=1e-5)
    assert (forward[-1] == 0).all()
    assert (forward[:, -1] == 0).all()
    depth = project_velodyne(velodyne(1), calibration, 2, size=(H, W))
    assert 0.2 < np.median(inner - depth[1:, 2:-1]) < 0.4  # the lidar stands behind the cameras


def published(points: np.ndarray, folder: Path, camera: int, size: tuple[int, int]) -> np.ndarray:
    """The description of the published maps, a point at a time."""
    files = {}
    for name in ("cam_to_cam", "velo_to_cam"):
        for line in (folder / f"calib_{name}.txt").read_text().splitlines():
            key, numbers = line.split(": ")
            if key != "calib_time":
                files[key] = np.array([float(n) for n in numbers.split()])
    velo_to_cam, rectify = np.eye(4), np.eye(4)
    velo_to_cam[:3, :3], velo_to_cam[:3, 3] = files["R"].reshape(3, 3), files["T"]
    rectify[:3, :3] = files["R_rect_00"].reshape(3, 3)
    P = files[f"P_rect_{camera:02d}"].reshape(3, 4) @ rectify @ velo_to_cam
    height, width = size
    depth, groups = np.zeros(size), defaultdict(list)
    for x, y, z, _ in points.astype(float):
        if x < 0:
            continue
        p = P @ [x, y, z, 1]
        u, v = round(p[0] / p[2]) - 1, round(p[1] / p[2]) - 1
        if 0 <= u < width and 0 <= v < height:
            depth[v, u] = x
            groups[v * (width - 1) + u - 1].append((v, u, x))
    for hits in groups.values():
        if len(hits) > 1:
            depth[hits[0][:2]] = min(x for _, _, x in hits)
    return depth


@pytest.mark.parametrize(("camera", "size"), [(2, (H, W)), (3, (H, W)), (2, (17, 31))])
def test_published_maps_to_the_number(camera, size, tmp_path, calibration):
    rng = np.random.default_rng(0)
    sweep = rng.uniform([-5, -20, -3, 0], [60, 20, 3, 1], size=(6000, 4)).astype(np.float32)
    ours = project_velodyne(sweep, calibration, camera, size=size, value="forward")
    theirs = published(sweep, tmp_path, camera, size)
    assert (theirs > 0).sum() > 200
    np.testing.assert_array_equal(ours, theirs.astype(np.float32))


def test_pixels_that_are_taken_for_one(tmp_path, calibration):
    """The last pixel of a row and the first of the next: only `forward` confuses them."""
    P = calibration.projection(2) @ calibration.rect_from_velo

    def beam(column: int, row: int, depth: float) -> Any:
        homogeneous = np.array([column, row, 1.0]) * depth
        return np.linalg.solve(P[:, :3], homogeneous - P[:, 3])

    far_then_near = np.array([beam(W, 5, 9.0), beam(1, 6, 4.0), beam(0, 6, 4.0)])
    forward = project_velodyne(far_then_near, calibration, 2, size=(H, W), value="forward")
    assert forward[4, W - 1] == pytest.approx(far_then_near[1, 0])  # not its own 9 metres
    assert forward[5, 0] == pytest.approx(far_then_near[1, 0])
    at_home = np.array([beam(W - 1, 5, 9.0), beam(0, 6, 4.0)])
    depth = project_velodyne(at_home, calibration, 2, size=(H, W))
    assert depth[5, W - 1] == pytest.approx(9.0)
    assert depth[6, 0] == pytest.approx(4.0)


def test_nothing_that_is_not_in_front_of_the_camera(calibration):
    """The cameras stand 0.27 m in front of the lidar: x >= 0 is not enough for depth."""
    between = np.array([[0.1, 0.0, -0.08], [-4.0, 0.5, 0.0]])
    assert not project_velodyne(between, calibration, 2, size=(H, W)).any()
    assert not project_velodyne(np.zeros((0, 4)), calibration, 2, size=(H, W)).any()


def test_a_sweep_of_a_file(tmp_path):
    path = tmp_path / "0000000001.bin"
    sweep = np.arange(12, dtype="<f4").reshape(3, 4)
    path.write_bytes(sweep.tobytes())
    np.testing.assert_array_equal(kitti_calibration.read_velodyne(path), sweep)
    path.write_bytes(sweep.tobytes()[:-1])
    with pytest.raises(ValueError, match=r"0000000001\.bin: 47 bytes, not a multiple of 16"):
        kitti_calibration.read_velodyne(path)
    with pytest.raises(FileNotFoundError, match=r"none\.bin"):
        kitti_calibration.read_velodyne(tmp_path / "none.bin")


@pytest.mark.parametrize("text", ["", "49.0 8.4 116 0.1 0.2", "49.0 8.4 116 0.1 0.2 x"])
def test_bad_gps_is_named(text, tmp_path):
    (tmp_path / "0.txt").write_text(text)
    with pytest.raises(ValueError, match=r"0\.txt: not latitude, longitude, altitude, 3 angles"):
        imu_from_imu(tmp_path / "0.txt", tmp_path / "0.txt")


def test_bad_calibration_is_named(tmp_path, calibration):
    path = tmp_path / "calib_cam_to_cam.txt"
    text = path.read_text()
    for broken, words in (
        (text.replace("P_rect_03", "P_03"), r"P_rect_03 needs 12 numbers, there are \['D?"),
        (re.sub("(?m)^P_rect_03: .*", "P_rect_03: 1 2", text), "12 numbers, got ' 1 2'; unpack"),
        (re.sub("(?m)^P_rect_03: .*", "P_rect_03: " + "x " * 12, text), "12 numbers, got ' x x"),
    ):
        path.write_text(broken)
        with pytest.raises(ValueError, match=rf"calib_cam_to_cam\.txt: .*{words}"):
            Calibration(tmp_path).K(3)
    (tmp_path / "calib_velo_to_cam.txt").unlink()
    Calibration(tmp_path).K(2)  # cameras need no lidar
    with pytest.raises(FileNotFoundError, match=r"calib_velo_to_cam\.txt: no such file; unpack"):
        _ = Calibration(tmp_path).rect_from_velo
    assert math.isclose(calibration.K(2)[0, 0].item(), 60)
