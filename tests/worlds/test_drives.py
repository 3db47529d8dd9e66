"""Drives in KITTI raw's layout: what cameras, lidar and GPS say of each other is one geometry."""

import hashlib
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import imagecodecs
import numpy as np
import pytest

from distill.datasets.kitti import Kitti
from distill.datasets.kitti_raw import KittiRaw
from distill.worlds.drives import Drive, DriveJob
from distill.worlds.write_kitti_raw import world_from_velo

JOB = DriveJob(seed=2, height=24, width=80, samples=1, drives=2, frames=3, workers=1)
DATE = "2000_01_01"
DRIVE = f"{DATE}/{DATE}_drive_0001_sync"


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("drives")
    JOB.run(out)
    return out


def digests(out: Path) -> dict[str, str]:
    return {
        str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(out.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


def calibration(out: Path, name: str) -> dict[str, np.ndarray]:
    lines = (out / DATE / f"calib_{name}.txt").read_text().splitlines()
    pairs = [line.split(": ", 1) for line in lines if not line.startswith("calib_time")]
    return {key: np.array([float(v) for v in text.split()]) for key, text in pairs}


def truth(out: Path, camera: int, frame: int, part: str = "train") -> np.ndarray:
    drive = out / "data_depth_annotated" / part / DRIVE.split("/")[1]
    path = drive / f"proj_depth/groundtruth/image_{camera:02d}/{frame:010d}.png"
    return imagecodecs.png_decode(path.read_bytes()) / 256


def odometry(out: Path) -> list[np.ndarray]:
    """Poses of the IMU as KITTI's development kit computes them (`convertOxtsToPose`)."""
    files = sorted((out / DRIVE / "oxts/data").iterdir())
    rows = [[float(v) for v in path.read_text().split()] for path in files]
    assert {len(row) for row in rows} == {30}
    scale, radius = np.cos(rows[0][0] * np.pi / 180), 6378137.0
    poses = []
    for lat, lon, alt, roll, pitch, yaw, *_ in rows:
        move = [
            scale * lon * np.pi * radius / 180,
            scale * radius * np.log(np.tan((90 + lat) * np.pi / 360)),
            alt,
        ]
        (cx, sx), (cy, sy), (cz, sz) = [(np.cos(a), np.sin(a)) for a in (roll, pitch, yaw)]
        x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
        y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
        z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
        pose = np.eye(4)
        pose[:3, :3], pose[:3, 3] = z @ y @ x, move
        poses.append(pose)
    return [np.linalg.inv(poses[0]) @ pose for pose in poses]


def agreement(points: np.ndarray, P: np.ndarray, depth: np.ndarray) -> float:
    """The share of points that lie on what the camera sees, of those that project into it."""
    p = np.concatenate([points, np.ones((len(points), 1))], 1) @ P.T
    p = p[p[:, 2] > 0.5]
    x, y = np.round(p[:, 0] / p[:, 2]).astype(int), np.round(p[:, 1] / p[:, 2]).astype(int)
    inside = (x >= 0) & (x < depth.shape[1]) & (y >= 0) & (y < depth.shape[0])
    there = depth[y[inside], x[inside]]
    known = there > 0
    return float((np.abs(there / p[inside, 2] - 1)[known] < 0.1).mean())


def seen(depth: np.ndarray, P: np.ndarray) -> np.ndarray:
    """The points of a depth map, in the axes of the rectified camera 0."""
    y, x = np.nonzero((depth > 0) & (depth < 40))
    z = depth[y, x]
    pixels = np.stack([x * z, y * z, z]) - P[:, 3:]
    return np.linalg.solve(P[:, :3], pixels).T


def test_the_lidar_lies_on_what_both_cameras_see(rendered: Path):
    cameras, lidar = calibration(rendered, "cam_to_cam"), calibration(rendered, "velo_to_cam")
    raw = np.fromfile(rendered / DRIVE / "velodyne_points/data/0000000001.bin", "<f4")
    beams = raw.reshape(-1, 4)
    assert len(beams) > 5000
    assert (beams[:, 0] > 0).all(), "x is ahead"
    in_camera_0 = beams[:, :3] @ lidar["R"].reshape(3, 3).T + lidar["T"]
    in_camera_0 = in_camera_0 @ cameras["R_rect_00"].reshape(3, 3).T
    for camera in (2, 3):
        P, swapped = (cameras[f"P_rect_{c:02d}"].reshape(3, 4) for c in (camera, 5 - camera))
        right, wrong = (agreement(in_camera_0, p, truth(rendered, camera, 1)) for p in (P, swapped))
        assert right > 0.9
        assert wrong < right - 0.05


def test_a_stereo_pair_is_rectified(rendered: Path):
    cameras = calibration(rendered, "cam_to_cam")
    left, right = (cameras[f"P_rect_{camera:02d}"].reshape(3, 4) for camera in (2, 3))
    np.testing.assert_allclose((left[0, 3] - right[0, 3]) / left[0, 0], 0.532725, rtol=1e-6)
    points = seen(truth(rendered, 2, 0), left)
    assert agreement(points, right, truth(rendered, 3, 0)) > 0.85


def test_the_gps_moves_one_frame_onto_the_next(rendered: Path):
    cameras = calibration(rendered, "cam_to_cam")
    lidar = calibration(rendered, "velo_to_cam")
    cam_from_velo = np.eye(4)
    cam_from_velo[:3, :3], cam_from_velo[:3, 3] = lidar["R"].reshape(3, 3), lidar["T"]
    P = cameras["P_rect_02"].reshape(3, 4)
    first, _, last = odometry(rendered)
    velo_from_velo = np.linalg.inv(last) @ first
    moved = cam_from_velo @ velo_from_velo @ np.linalg.inv(cam_from_velo)
    points = seen(truth(rendered, 2, 0), P)
    points = np.concatenate([points, np.ones((len(points), 1))], 1) @ moved.T
    assert agreement(points[:, :3], P, truth(rendered, 2, 2)) > 0.8
    assert np.linalg.norm(last[:3, 3]) == pytest.approx(2 * JOB.step, rel=0.02)


def test_the_gps_has_the_rendered_poses(rendered: Path):
    drive = Drive(JOB.parameters, 0)
    moments = drive._drive()
    poses = [world_from_velo(moment.left.camera) for moment in moments]
    for ours, theirs in zip(poses, odometry(rendered), strict=True):
        np.testing.assert_allclose(np.linalg.inv(poses[0]) @ ours, theirs, atol=1e-5)


def test_files_and_splits(rendered: Path):
    for camera in ("image_02", "image_03"):
        files = sorted((rendered / DRIVE / camera / "data").iterdir())
        assert [path.name for path in files] == [f"{n:010d}.jpg" for n in range(3)]
        assert imagecodecs.jpeg_decode(files[0].read_bytes()).shape == (24, 80, 3)
    stamps = (rendered / DRIVE / "image_02" / "timestamps.txt").read_text().splitlines()
    assert stamps[1] == "2000-01-01 12:00:00.100000000"
    lines = (rendered / "splits/drives/train_files.txt").read_text().splitlines()
    assert lines == [
        *(f"{DRIVE} 1 l", f"{DRIVE} 1 r"),
        *(f"2000_01_02/2000_01_02_drive_0001_sync 1 {side}" for side in "lr"),
    ]
    assert (rendered / "splits/drives/val_files.txt").read_text() == ""
    assert [Drive(JOB.parameters, n).part for n in range(5)] == ["train"] * 4 + ["val"]


def test_the_light_is_the_same_in_every_frame(rendered: Path):
    """The same wall must not change its brightness: that is what such learning lives on."""
    files = sorted((rendered / DRIVE / "image_02" / "data").iterdir())
    means = [imagecodecs.jpeg_decode(path.read_bytes()).mean() for path in files]
    assert max(means) / min(means) < 1.1


def test_killed_and_resumed_it_is_the_same(rendered: Path, tmp_path: Path):
    fields = ", ".join(f"{k}={v!r}" for k, v in vars(JOB).items())
    code = (
        "from pathlib import Path; from distill.worlds.drives import DriveJob\n"
        f"DriveJob({fields}).run(Path({str(tmp_path)!r}))"
    )
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([sys.executable, "-c", code], env=environment)
    while process.poll() is None and not list(tmp_path.rglob("*.bin")):
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    JOB.run(tmp_path, resume=True)
    assert digests(tmp_path) == digests(rendered)


def test_other_parameters_are_refused(rendered: Path):
    with pytest.raises(ValueError, match=r"other parameters \(seed 2 -> 3\)"):
        replace(JOB, seed=3).run(rendered)


@pytest.mark.parametrize(
    ("field", "value"),
    [("height", 8), ("samples", 0), ("workers", 0), ("frames", 2), ("step", 0.0), ("step", 21.0)],
)
def test_senseless_fields_are_named(field: str, value: float):
    with pytest.raises(ValueError, match=f"{field} is {value}"):
        replace(JOB, **{field: value})


def test_kitti_raw_reads_them(rendered: Path):
    """Both cameras of the frame in the middle: pictures, K, poses by GPS and by calibration."""
    dataset = KittiRaw(rendered, split="drives", stereo=True, poses=True, lidar=True)
    assert [dataset.key(i)[-28:] for i in range(len(dataset))] == [
        f"image_{camera:02d}/data/0000000001.jpg" for camera in (2, 3)
    ] * JOB.drives
    moments = Drive(JOB.parameters, 0)._drive()
    for index, camera in enumerate((2, 3)):
        sample = dataset[index]
        frames = [(moment.left, moment.right) for moment in moments]
        here = frames[1][camera - 2]
        looks = [frames[0][camera - 2], frames[2][camera - 2], frames[1][3 - camera]]
        assert [view.offset for view in sample.views] == [-1, 1, 0]
        for view, there in zip(sample.views, looks, strict=True):
            truth = np.linalg.inv(there.camera.world_from_cam) @ here.camera.world_from_cam
            assert view.view_from_sample is not None
            np.testing.assert_allclose(view.view_from_sample.numpy(), truth, atol=1e-4)
            assert view.K is not None
            assert view.K[0, 0].item() == pytest.approx(there.camera.focal)
        assert sample.target is not None
        assert sample.valid is not None
        seen = sample.valid.numpy() & here.hit
        assert seen.sum() > 500
        errors = [
            np.median(
                np.abs(sample.target.numpy()[seen & frame.hit] / frame.depth[seen & frame.hit] - 1)
            )
            for frame in (here, frames[1][3 - camera])
        ]
        assert errors[0] < 0.015 < 0.025 < errors[1]


def test_kitti_reads_their_truth(rendered: Path):
    dataset = Kitti(rendered, split=rendered / "splits/drives/train_files.txt")
    moments = Drive(JOB.parameters, 0)._drive()
    for index, frame in enumerate((moments[1].left, moments[1].right)):
        sample = dataset[index]
        assert sample.target is not None
        assert sample.valid is not None
        valid = sample.valid.numpy()
        assert (valid == (frame.hit & (frame.depth < 255.99))).all()
        np.testing.assert_allclose(sample.target.numpy()[valid], frame.depth[valid], atol=0.002)
        assert sample.K is not None
        assert sample.K[0, 0].item() == pytest.approx(frame.camera.focal)
