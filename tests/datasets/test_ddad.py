"""DDAD: scenes in DGP's layout, a lidar that looks elsewhere, later, from another place."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from contracts import check_dataset
from PIL import Image
from scenes import Scene, ball, room
from scipy.spatial.transform import Rotation

from distill.datasets import ddad, dgp
from distill.datasets.ddad import Ddad
from distill.types import Space

H, W = 24, 40
K = torch.tensor([[52.0, 0, 18.5], [0, 47, 12.5], [0, 0, 1]], dtype=torch.float64)
SIDE = torch.tensor([[44.0, 0, 20.5], [0, 44, 10.0], [0, 0, 1]], dtype=torch.float64)
FRONT, LEFT, SECOND = room(H, W, K), room(H, W, SIDE), ball(H, W, K)
TIMES = ("15569195938415230", "15569195939415230")
KEYS = {
    f"ddad/000150/rgb/CAMERA_01/{TIMES[0]}.png": FRONT,
    f"ddad/000199/rgb/CAMERA_01/{TIMES[1]}.png": SECOND,
}


def pose(angles: tuple[float, float, float], place: tuple[float, float, float]) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    matrix[:3, 3] = place
    return matrix


# the world has z up; the car turned and drove on between the sweep and the exposures
WORLD_FROM_LIDAR = pose((1, -2, 146), (400.86, -259.61, 12.5))
WORLD_FROM_CAMERA = {
    "CAMERA_01": pose((-91, 1, 58), (399.32, -258.93, 13.84)),
    "CAMERA_05": pose((-89, 2, 110), (399.25, -259.05, 13.85)),
}


def as_pose(matrix: np.ndarray) -> dict:
    x, y, z, w = Rotation.from_matrix(matrix[:3, :3]).as_quat().tolist()
    return {
        "rotation": {"qw": w, "qx": x, "qy": y, "qz": z},
        "translation": dict(zip("xyz", matrix[:3, 3].tolist(), strict=True)),
    }


def sweep(seen: dict[str, Scene]) -> np.ndarray:
    """What the lidar returns: (n, 4), x forward, y left, z up of its own, and intensity.

    Each pixel is hit off its centre, once by its surface, before and after by something behind it;
    points beside the image and behind the camera hit no pixel.
    """
    returns = []
    for camera, truth in seen.items():
        rows, columns = np.nonzero(truth.valid.numpy())
        depth = truth.depth.numpy()[rows, columns]
        off = np.where((rows + columns) % 2, 0.4, -0.4)
        pixels = np.stack([columns + off, rows - off, np.ones_like(depth)], axis=1)
        rays = pixels @ np.linalg.inv(truth.K.numpy()).T
        hits = rays * depth[:, None]
        beside = np.array([[900.0, 5, 1], [-30, 5, 1], [5, -30, 1], [5, 900, 1], [5, 23.51, 1]])
        beside = 5 * beside @ np.linalg.inv(truth.K.numpy()).T
        cloud = np.concatenate([hits * 1.5, hits, hits * 2, -hits, beside])
        world_from_camera = WORLD_FROM_CAMERA[camera]
        returns.append(cloud @ world_from_camera[:3, :3].T + world_from_camera[:3, 3])
    points = (np.concatenate(returns) - WORLD_FROM_LIDAR[:3, 3]) @ WORLD_FROM_LIDAR[:3, :3]
    return np.concatenate([points, np.full((len(points), 1), 0.5)], axis=1)


def write_scene(root: Path, name: str, time: str, seen: dict[str, Scene]) -> str:
    """One sample; the path of the scene file."""
    scene = root / name
    cloud = scene / f"point_cloud/LIDAR/{time}.npz"
    for folder in (cloud.parent, scene / "calibration"):
        folder.mkdir(parents=True)
    np.savez_compressed(cloud, data=sweep(seen))
    lidar = {"filename": f"point_cloud/LIDAR/{time}.npz", "pose": as_pose(WORLD_FROM_LIDAR)}
    data = [{"id": {"name": "LIDAR"}, "key": "l", "datum": {"point_cloud": lidar}}]
    for camera, truth in seen.items():
        file = f"rgb/{camera}/{time}.png"
        (scene / file).parent.mkdir(parents=True)
        Image.fromarray(truth.pixels).save(scene / file)
        image = {"filename": file, "pose": as_pose(WORLD_FROM_CAMERA[camera])}
        data.append({"id": {"name": camera}, "key": camera, "datum": {"image": image}})
    focal = [(t.K[0, 0], t.K[1, 1], t.K[0, 2], t.K[1, 2], torch.zeros(())) for t in seen.values()]
    names = ("fx", "fy", "cx", "cy", "skew")
    intrinsics = [{n: v.item() for n, v in zip(names, k, strict=True)} for k in focal]
    calibration = {
        "names": ["LIDAR", *seen],
        "intrinsics": [dict.fromkeys(names, 0.0), *intrinsics],
        "extrinsics": [as_pose(np.eye(4))] * (1 + len(seen)),
    }
    (scene / "calibration/c0e1.json").write_text(json.dumps(calibration))
    sample = {"calibration_key": "c0e1", "datum_keys": [datum["key"] for datum in data]}
    (scene / "scene_a8dc.json").write_text(json.dumps({"data": data[::-1], "samples": [sample]}))
    return f"{name}/scene_a8dc.json"


def write(root: Path) -> None:
    first = write_scene(root, "000150", TIMES[0], {"CAMERA_05": LEFT, "CAMERA_01": FRONT})
    second = write_scene(root, "000199", TIMES[1], {"CAMERA_01": SECOND})
    splits = {"0": {"filenames": [first]}, "1": {"filenames": [first, second]}}
    (root / "ddad.json").write_text(json.dumps({"metadata": {}, "scene_splits": splits}))


def check(root: Path) -> None:
    check_dataset(
        lambda: Ddad(root),
        KEYS,
        space=Space.METRIC_DEPTH,
        depth_tolerance=1e-5,
        image_tolerance=0.003,
    )


def test_the_contract(tmp_path):
    write(tmp_path)
    check(tmp_path)


def inverse_rotation(monkeypatch):
    right = dgp.pose_matrix

    def wrong(pose):
        matrix = right(pose)
        matrix[:3, :3] = matrix[:3, :3].T
        return matrix

    monkeypatch.setattr(dgp, "pose_matrix", wrong)


def no_motion(monkeypatch):
    monkeypatch.setattr(dgp, "pose_matrix", lambda pose: np.eye(4))


def transposed_camera(monkeypatch):
    right = dgp.read_K
    monkeypatch.setattr(dgp, "read_K", lambda *camera: right(*camera).T.copy())


def corner_origin(monkeypatch):
    right, half = dgp.read_K, np.array([[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]])
    monkeypatch.setattr(dgp, "read_K", lambda *camera: right(*camera) - half)


def pixels_rounded_down(monkeypatch):
    right, half = ddad._nearest_points, np.array([[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]])
    monkeypatch.setattr(ddad, "_nearest_points", lambda p, K, *size: right(p, K - half, *size))


def last_point_stays(monkeypatch):
    def wrong(points, K, height, width):
        depth = np.full((height, width), np.inf, np.float32)
        for x, y, z in points[points[:, 2] > 0]:
            column, row, _ = np.rint(K @ (x / z, y / z, 1)).astype(int)
            if 0 <= column < width and 0 <= row < height:
                depth[row, column] = z
        return depth

    monkeypatch.setattr(ddad, "_nearest_points", wrong)


def distance_for_depth(monkeypatch):
    right = ddad._nearest_points

    def wrong(points, K, *size):
        ray = np.linalg.norm(points, axis=1, keepdims=True) / points[:, 2:]
        return right(points * ray, K, *size)

    monkeypatch.setattr(ddad, "_nearest_points", wrong)


@pytest.mark.parametrize(
    "mistake",
    [
        *(inverse_rotation, no_motion, transposed_camera, corner_origin),
        *(pixels_rounded_down, last_point_stays, distance_for_depth),
    ],
)
def test_a_mistake_is_seen(mistake, tmp_path, monkeypatch):
    write(tmp_path)
    mistake(monkeypatch)
    with pytest.raises(AssertionError):
        check(tmp_path)


def test_split_and_cameras_are_chosen(tmp_path):
    write(tmp_path)
    both = Ddad(tmp_path, split="train", cameras=("camera_05", "camera_01"), name="drive")
    assert [both.key(i) for i in range(len(both))] == [
        f"drive/000150/rgb/CAMERA_0{number}/{TIMES[0]}.png" for number in (1, 5)
    ]
    side = both[1]
    assert side.K is not None
    assert side.target is not None
    assert side.K.tolist() == SIDE.tolist()
    same = (side.target - LEFT.depth).abs() < 1e-4
    assert same.double().mean() > 0.9  # the front camera's returns hide a few


def test_the_tar_as_it_unpacks(tmp_path):
    (tmp_path / "ddad_train_val").mkdir()
    write(tmp_path / "ddad_train_val")
    check(tmp_path)


@pytest.mark.parametrize(
    "chosen", [{"split": "test"}, {"cameras": ("CAMERA_01",)}, {"cameras": ()}]
)
def test_what_is_not_there_is_named(chosen, tmp_path):
    with pytest.raises(ValueError, match=r"split is one of \('train', 'val'\) and cameras of"):
        Ddad(tmp_path, **chosen)


def test_a_missing_list_or_scene(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no ddad\.json in .* get DDAD\.tar \(257 GB\)"):
        Ddad(tmp_path)
    write(tmp_path)
    (tmp_path / "000199/scene_a8dc.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"000199/scene_a8dc\.json"):
        Ddad(tmp_path)
    assert len(Ddad(tmp_path, split="train")) == 1


def test_a_sample_without_a_sensor_is_named(tmp_path):
    write(tmp_path)
    with pytest.raises(ValueError, match=r"000199/scene_a8dc\.json: no scene .*'camera_05'"):
        Ddad(tmp_path, cameras=("camera_05",))
    scene = tmp_path / "000199/scene_a8dc.json"
    whole = scene.read_text()
    scene.write_text(whole.replace("LIDAR", "RADAR"))
    with pytest.raises(
        ValueError, match=r"scene_a8dc\.json: no scene as DGP .*KeyError\('lidar'\)"
    ):
        Ddad(tmp_path)
    scene.write_text(whole.replace('"qw"', '"w"'))
    with pytest.raises(ValueError, match=r"scene_a8dc\.json: .* is not of length 1"):
        Ddad(tmp_path)
    scene.write_text("[]")
    with pytest.raises(ValueError, match=r"scene_a8dc\.json: no scene as DGP writes it: TypeError"):
        Ddad(tmp_path)


def test_missing_files_are_named(tmp_path):
    write(tmp_path)
    dataset = Ddad(tmp_path, split="train")
    cloud = tmp_path / f"000150/point_cloud/LIDAR/{TIMES[0]}.npz"
    cloud.unlink()
    with pytest.raises(FileNotFoundError, match=rf"LIDAR/{TIMES[0]}\.npz"):
        _ = dataset[0]
    (tmp_path / f"000150/rgb/CAMERA_01/{TIMES[0]}.png").unlink()
    with pytest.raises(FileNotFoundError, match=rf"CAMERA_01/{TIMES[0]}\.png"):
        _ = dataset[0]
