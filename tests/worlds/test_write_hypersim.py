"""Hypersim's tree, held against datasets.md's description of the real one."""

import csv

import h5py
import numpy as np
import pytest

from distill.worlds.render import Frame
from distill.worlds.scene import Camera, look_at
from distill.worlds.write_hypersim import write_metadata, write_scene

UNIT = 0.0254


def read(path) -> np.ndarray:
    with h5py.File(path) as file:
        assert list(file) == ["dataset"]
        return np.asarray(file["dataset"])


@pytest.fixture
def frame() -> Frame:
    rng = np.random.default_rng(0)
    hit = np.ones((24, 32), dtype=bool)
    hit[:5, :7] = False
    depth = np.where(hit, rng.uniform(1, 9, hit.shape), 0).astype(np.float32)
    camera = Camera(width=32, height=24, fov_x=60.0, world_from_cam=look_at((1, 2, 1.5), (3, 5, 1)))
    radiance = rng.uniform(0, 90, (24, 32, 3)).astype(np.float32)
    return Frame(camera=camera, radiance=radiance, depth=depth, hit=hit)


def test_files_of_a_scene(tmp_path, frame: Frame):
    write_scene(tmp_path, [frame, frame], metres_per_unit=UNIT)
    images, detail = tmp_path / "images", tmp_path / "_detail"
    for index in ("0000", "0001"):
        color = read(images / "scene_cam_00_final_hdf5" / f"frame.{index}.color.hdf5")
        geometry = images / "scene_cam_00_geometry_hdf5"
        distance = read(geometry / f"frame.{index}.depth_meters.hdf5")
        entity = read(geometry / f"frame.{index}.render_entity_id.hdf5")
        assert color.shape == (24, 32, 3)
        assert np.nanmax(color) > 1
        assert distance.dtype == np.float16
        np.testing.assert_array_equal(np.isnan(distance), ~frame.hit)
        np.testing.assert_array_equal(np.isnan(color).all(axis=-1), ~frame.hit)
        np.testing.assert_array_equal(entity == -1, ~frame.hit)
    assert "meters_per_asset_unit,0.0254" in (detail / "metadata_scene.csv").read_text()
    assert (detail / "metadata_cameras.csv").read_text() == "camera_name\ncam_00\n"
    np.testing.assert_array_equal(
        read(detail / "cam_00/camera_keyframe_frame_indices.hdf5"), [0, 1]
    )


def test_distance_is_along_the_ray(tmp_path, frame: Frame):
    write_scene(tmp_path, [frame], metres_per_unit=UNIT)
    stored = read(tmp_path / "images/scene_cam_00_geometry_hdf5/frame.0000.depth_meters.hdf5")
    f = 16 / np.tan(np.radians(30))  # datasets.md 1.1, at 32x24
    x, y = np.linspace(-15.5, 15.5, 32), np.linspace(-11.5, 11.5, 24)[:, None]
    planar = stored.astype(np.float64) / np.sqrt(x**2 + y**2 + f**2) * f
    np.testing.assert_allclose(planar[frame.hit], frame.depth[frame.hit], rtol=6e-4)


def test_poses_are_in_asset_units_and_look_along_minus_z(tmp_path, frame: Frame):
    write_scene(tmp_path, [frame], metres_per_unit=UNIT)
    camera = tmp_path / "_detail" / "cam_00"
    place = read(camera / "camera_keyframe_positions.hdf5")[0] * UNIT
    ahead = read(camera / "camera_keyframe_look_at_positions.hdf5")[0] * UNIT
    rotation = read(camera / "camera_keyframe_orientations.hdf5")[0]
    np.testing.assert_allclose(place, (1, 2, 1.5))
    np.testing.assert_allclose(-rotation[:, 2], ahead - place)
    np.testing.assert_allclose(-rotation[:, 2], np.array([2, 3, -0.5]) / np.sqrt(13.25))
    assert rotation[2, 1] > 0.9  # y is up
    np.testing.assert_allclose(np.linalg.det(rotation), 1)


def test_tables_beside_the_scenes(tmp_path, frame: Frame):
    names = [f"ai_001_{n:03d}" for n in range(1, 21)]
    write_metadata(tmp_path, names, frames=2, camera=frame.camera, units=[UNIT] * 20)
    rows = list(csv.DictReader((tmp_path / "metadata_images_split_scene_v1.csv").open()))
    assert list(rows[0]) == [
        "scene_name",
        "camera_name",
        "frame_id",
        "included_in_public_release",
        "exclude_reason",
        "split_partition_name",
    ]
    assert [row["frame_id"] for row in rows[:3]] == ["0", "1", "0"]
    parts = {row["scene_name"]: row["split_partition_name"] for row in rows}
    assert list(parts.values()) == ["train"] * 18 + ["val", "test"]
    cameras = list(csv.DictReader((tmp_path / "metadata_camera_parameters.csv").open()))
    matrix = [float(cameras[0][f"M_cam_from_uv_{r}{c}"]) for r in range(3) for c in range(3)]
    expected = [0.57735, 0, 0, 0, 0.43301, 0, 0, 0, -1]  # the canonical one
    np.testing.assert_allclose(matrix, expected, atol=1e-5)
    assert (cameras[0]["settings_output_img_width"], cameras[0]["settings_output_img_height"]) == (
        "32",
        "24",
    )
    projection = np.array([float(cameras[0][f"M_proj_{r}{c}"]) for r in range(4) for c in range(4)])
    near = projection.reshape(4, 4) @ (0.57735, 0, -1, 1)
    np.testing.assert_allclose(near[:3] / near[3], (1, 0, -1), atol=1e-5)


def test_equal_frames_are_equal_bytes(tmp_path, frame: Frame):
    for name in ("a", "b"):
        write_scene(tmp_path / name, [frame], metres_per_unit=UNIT)
    for path in (tmp_path / "a").rglob("*.*"):
        twin = tmp_path / "b" / path.relative_to(tmp_path / "a")
        assert path.read_bytes() == twin.read_bytes()
