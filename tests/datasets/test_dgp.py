"""DGP's JSON: poses against scipy, cameras, sweeps, and what is wrong with each by name."""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from distill.datasets import dgp

CAMERA = {"fx": 60.0, "fy": 58.0, "cx": 19.5, "cy": 11.5, "skew": 0.0}
TURNED = Rotation.from_euler("xyz", [20, -35, 130], degrees=True)


def as_pose(rotation: Rotation, translation: tuple[float, float, float]) -> dict:
    x, y, z, w = rotation.as_quat().tolist()
    return {
        "rotation": {"qw": w, "qx": x, "qy": y, "qz": z},
        "translation": dict(zip("xyz", translation, strict=True)),
    }


def test_a_pose_is_the_one_of_scipy():
    matrix = dgp.pose_matrix(as_pose(TURNED, (1.0, -2.0, 3.0)))
    np.testing.assert_allclose(matrix[:3, :3], TURNED.as_matrix(), atol=1e-12)
    assert matrix[:, 3].tolist() == [1, -2, 3, 1]
    assert matrix[3].tolist() == [0, 0, 0, 1]


def test_zeros_of_a_pose_may_be_left_out():
    matrix = dgp.pose_matrix({"rotation": {"qw": 1.0}, "translation": {"y": 2.0}})
    assert matrix.tolist() == [[1, 0, 0, 0], [0, 1, 0, 2], [0, 0, 1, 0], [0, 0, 0, 1]]
    assert dgp.pose_matrix({"rotation": {"qz": 1.0}})[:3, 3].tolist() == [0, 0, 0]


@pytest.mark.parametrize("rotation", [{}, {"qw": 0.99}, {"qw": float("nan")}])
def test_a_quaternion_of_another_length_is_refused(rotation):
    with pytest.raises(ValueError, match=r"quaternion .* is not of length 1"):
        dgp.pose_matrix({"rotation": rotation})


def write_calibration(path: Path, **camera: float) -> Path:
    lidar = dict.fromkeys(CAMERA, 0.0)
    path.write_text(
        json.dumps({"names": ["LIDAR", "CAMERA_01"], "intrinsics": [lidar, {**CAMERA, **camera}]})
    )
    return path


def test_a_camera(tmp_path):
    path = write_calibration(tmp_path / "c.json", skew=0.5, fov=60.0, k1=0.0)
    expected = [[60, 0.5, 19.5], [0, 58, 11.5], [0, 0, 1]]
    assert dgp.read_K(path, "camera_01").tolist() == expected


@pytest.mark.parametrize("bent", [{"k1": 0.1}, {"fisheye": 1}, {"xi": 0.1, "p2": -0.1}])
def test_a_bent_image_is_refused(bent, tmp_path):
    path = write_calibration(tmp_path / "c.json", **bent)
    with pytest.raises(ValueError, match=rf"camera_01 is no pinhole: \['{sorted(bent)[0]}'"):
        dgp.read_K(path, "camera_01")


def test_a_camera_that_is_not_there_is_named(tmp_path):
    path = write_calibration(tmp_path / "c.json")
    with pytest.raises(ValueError, match=r"c\.json: no calibration of camera_09: ValueError"):
        dgp.read_K(path, "camera_09")
    with pytest.raises(ValueError, match=r"c\.json: lidar is no pinhole: \(0\.0, 0\.0\)"):
        dgp.read_K(path, "lidar")
    path.write_text('{"names": 3}')
    with pytest.raises(ValueError, match=r"c\.json: no calibration of camera_01: TypeError"):
        dgp.read_K(path, "camera_01")
    path.write_text('{"names"')
    with pytest.raises(ValueError, match=r"c\.json: damaged or no JSON"):
        dgp.read_K(path, "camera_01")
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"c\.json"):
        dgp.read_K(path, "camera_01")


@pytest.mark.parametrize("kind", ["columns", "fields"])
def test_a_sweep(kind, tmp_path):
    points = np.arange(8.0).reshape(2, 4)
    if kind == "fields":
        names = [(name, "f4") for name in ("INTENSITY", "X", "Y", "Z")]
        points = np.array([tuple(row) for row in points[:, [3, 0, 1, 2]]], names)
    np.savez_compressed(tmp_path / "1.npz", data=points)
    assert dgp.read_cloud(tmp_path / "1.npz").tolist() == [[0, 1, 2], [4, 5, 6]]


def test_a_bad_sweep_is_named(tmp_path):
    path = tmp_path / "1.npz"
    with pytest.raises(FileNotFoundError, match=r"1\.npz"):
        dgp.read_cloud(path)
    np.savez(path, points=np.zeros((2, 3)))
    with pytest.raises(ValueError, match=r"1\.npz: no points in `data`.*KeyError"):
        dgp.read_cloud(path)
    for wrong in (np.zeros(3), np.zeros((4, 2)), np.array(["three"])):
        np.savez(path, data=wrong)
        with pytest.raises(ValueError, match=r"1\.npz: no points in `data`"):
            dgp.read_cloud(path)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"1\.npz: damaged or no \.npz file"):
        dgp.read_cloud(path)


def test_a_list_without_the_split_is_named(tmp_path):
    path = tmp_path / "set.json"
    path.write_text('{"scene_splits": {"1": {"filenames": ["a/scene_1.json"]}}}')
    assert dgp.list_scenes(path, 1) == ["a/scene_1.json"]
    with pytest.raises(ValueError, match=r"set\.json: no `scene_splits` 0: KeyError\('0'\)"):
        dgp.list_scenes(path, 0)
    path.write_text("[]")
    with pytest.raises(ValueError, match=r"set\.json: no `scene_splits` 0: TypeError"):
        dgp.list_scenes(path, 0)
