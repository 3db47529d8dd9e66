"""Virtual KITTI 2's tree, and the geometry between its two cameras."""

import imagecodecs
import numpy as np
import pytest

from distill.worlds import street
from distill.worlds.render import Frame, Renderer
from distill.worlds.write_virtual_kitti2 import write_variation


@pytest.fixture(scope="module")
def pairs() -> list[list[Frame]]:
    city = street.compose(np.random.default_rng(3), size=24, frames=2)
    scene = street.lit(city, street.VARIATIONS["15-deg-left"])
    renderer = Renderer(scene)
    frames = [renderer.render(camera, samples=1, seed=0) for camera in scene.cameras]
    return [frames[:2], frames[2:]]


@pytest.fixture
def folder(tmp_path, pairs: list[list[Frame]]):
    picture = np.zeros((24, pairs[0][0].camera.width, 3), dtype=np.uint8)
    write_variation(tmp_path, pairs, [[picture, picture]] * 2)
    return tmp_path


def table(path) -> tuple[list[str], np.ndarray]:
    header, *rows = path.read_text().splitlines()
    return header.split(" "), np.array([[float(v) for v in row.split(" ")] for row in rows])


def test_files_and_units(folder, pairs: list[list[Frame]]):
    for number in range(2):
        for camera in range(2):
            rgb = folder / f"frames/rgb/Camera_{camera}/rgb_{number:05d}.jpg"
            assert rgb.read_bytes()[:3] == b"\xff\xd8\xff"
            depth = folder / f"frames/depth/Camera_{camera}/depth_{number:05d}.png"
            raw = imagecodecs.png_decode(depth.read_bytes())
            frame = pairs[number][camera]
            assert raw.dtype == np.uint16
            far = ~frame.hit | (frame.depth >= 655.345)
            np.testing.assert_array_equal(raw == 65535, far)
            np.testing.assert_allclose(raw[~far] / 100, frame.depth[~far], atol=0.00501)


def test_tables(folder, pairs: list[list[Frame]]):
    header, rows = table(folder / "intrinsic.txt")
    assert header == ["frame", "cameraID", "K[0,0]", "K[1,1]", "K[0,2]", "K[1,2]"]
    assert rows[:, :2].tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]
    width = pairs[0][0].camera.width
    assert (rows[:, 4:] == [(width - 1) / 2, 11.5]).all()
    np.testing.assert_allclose(rows[:, 2], width / 2 / np.tan(np.radians(street.FOV_X / 2)))
    header, rows = table(folder / "extrinsic.txt")
    assert header[2:] == [
        *("r1,1", "r1,2", "r1,3", "t1", "r2,1", "r2,2", "r2,3", "t2"),
        *("r3,1", "r3,2", "r3,3", "t3", "0", "0", "0", "1"),
    ]
    left, right = rows[0, 2:].reshape(4, 4), rows[1, 2:].reshape(4, 4)
    expected = np.eye(4)
    expected[0, 3] = -0.532725
    np.testing.assert_allclose(right @ np.linalg.inv(left), expected, atol=1e-6)


def test_what_camera_0_sees_has_its_depth_in_camera_1(folder):
    K = table(folder / "intrinsic.txt")[1][0, 2:]
    poses = table(folder / "extrinsic.txt")[1][:2, 2:].reshape(2, 4, 4)
    left, right = (
        imagecodecs.png_decode((folder / f"frames/depth/Camera_{c}/depth_00000.png").read_bytes())
        / 100
        for c in (0, 1)
    )
    v, u = np.nonzero((left < 60) & (np.arange(24)[:, None] > 8))
    z = left[v, u]
    seen = np.stack([(u - K[2]) / K[0] * z, (v - K[3]) / K[1] * z, z, np.ones_like(z)])
    x, y, depth, _ = poses[1] @ np.linalg.inv(poses[0]) @ seen
    column, row = np.round(K[0] * x / depth + K[2]), np.round(K[1] * y / depth + K[3])
    inside = (column >= 0) & (column < left.shape[1]) & (row >= 0) & (row < 24)
    found = right[row[inside].astype(int), column[inside].astype(int)]
    agree = np.abs(found / depth[inside] - 1) < 0.08
    assert agree.mean() > 0.8  # the others are hidden from one of both


def test_a_frame_is_a_pair(tmp_path, pairs: list[list[Frame]]):
    with pytest.raises(ValueError, match="frame 0 has 1 views"):
        write_variation(tmp_path, [pairs[0][:1]], [[np.zeros((24, 42, 3), np.uint8)]])


def test_weathers_are_those_of_the_real_set():
    assert set(street.VARIATIONS) == {
        *("15-deg-left", "15-deg-right", "30-deg-left", "30-deg-right", "clone"),
        *("fog", "morning", "overcast", "rain", "sunset"),
    }


def test_a_turned_camera_turns_to_the_left():
    city = street.compose(np.random.default_rng(0), size=24, frames=1)
    ahead = street.lit(city, street.VARIATIONS["clone"]).cameras[0].world_from_cam[:3, 2]
    left = street.lit(city, street.VARIATIONS["15-deg-left"]).cameras[0].world_from_cam[:3, 2]
    heading = [np.degrees(np.arctan2(way[1], way[0])) for way in (ahead, left)]
    np.testing.assert_allclose(heading[1] - heading[0], 15, atol=0.1)
