"""KITTI raw: a room driven through, in the real layout; neighbours, the other camera, lidar."""

import logging
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from contracts import check_dataset
from kitti_miniature import CAMERAS, DATE, DRIVE, cam_from_room, scene, write_drive, write_image

from distill.datasets import kitti_lists
from distill.datasets.kitti_calibration import Calibration
from distill.datasets.kitti_lists import Frame, Images, read_list
from distill.datasets.kitti_raw import KittiRaw
from distill.types import Space


def write_list(root: Path, *lines: str, split: str = "drives", part: str = "train") -> None:
    path = root / f"splits/{split}/{part}_files.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))


@pytest.fixture
def root(tmp_path) -> Path:
    write_drive(tmp_path)
    write_list(tmp_path, f"{DRIVE} 1 l", f"{DRIVE} 2 l", f"{DRIVE} 2 r")
    return tmp_path


def key(frame: int, camera: int = 2, suffix: str = ".png") -> str:
    return f"kitti_raw/{DRIVE}/image_{camera:02d}/data/{frame:010d}{suffix}"


def test_the_contract(root):
    scenes = {key(1): scene(1), key(2): scene(2), key(2, 3): scene(2, 3)}
    assert f"kitti_raw/{DRIVE}/image_03/data/0000000002.png" in scenes
    check_dataset(
        lambda: KittiRaw(root, split="drives", stereo=True, poses=True), scenes, space=None
    )


def test_the_contract_with_lidar(root):
    write_list(root, f"{DRIVE} 1 l", f"{DRIVE} 0000000002 l")
    check_dataset(
        lambda: KittiRaw(root, split="drives", lidar=True),
        {key(1): scene(1), key(2): scene(2)},
        space=Space.METRIC_DEPTH,
        depth_tolerance=2e-5,
    )


def test_pixels_that_no_beam_hit(root):
    """Views come with lidar as without it, and a sweep of one beam leaves one pixel valid."""
    sweep = root / DRIVE / "velodyne_points/data/0000000002.bin"
    beams = np.frombuffer(sweep.read_bytes(), "<f4").reshape(-1, 4)
    one = beams[np.argmin(np.abs(beams[:, 0] - 4))]
    sweep.write_bytes(one.tobytes())
    sample: Any = KittiRaw(root, split="drives", lidar=True, stereo=True, poses=True)[1]
    assert sample.valid.sum() == 1
    assert sample.far is None
    check_views(sample, 2, 2)


def check_views(sample: Any, frame: int, camera: int) -> None:
    """Before, after, other camera: picture, K, and where a point of the room is seen."""
    expected = [(-1, frame - 1, camera), (1, frame + 1, camera), (0, frame, 5 - camera)]
    assert len(sample.views) == 3
    for view, (offset, number, other) in zip(sample.views, expected, strict=True):
        assert view.offset == offset
        assert view.key == key(number, other)
        assert (view.image - scene(number, other).image).abs().max() < 0.01
        torch.testing.assert_close(view.K, CAMERAS[other].float())
        truth = cam_from_room(number, other) @ torch.linalg.inv(cam_from_room(frame, camera))
        torch.testing.assert_close(view.view_from_sample, truth.float(), rtol=0, atol=2e-5)


def test_neighbours_and_the_other_camera(root):
    for index, (frame, camera) in enumerate([(1, 2), (2, 2), (2, 3)]):
        dataset = KittiRaw(root, split="drives", stereo=True, poses=True)
        check_views(dataset[index], frame, camera)
        assert dataset.frame(index) == Frame(DRIVE, frame, camera)


MISTAKES = {
    "left and right exchanged": ("cam_from_cam", lambda f: lambda self, a, b: f(self, b, a)),
    "baseline in the other direction": (
        "cam_from_rect",
        lambda f: lambda self, camera: np.linalg.inv(f(self, camera)),
    ),
    "K transposed": ("K", lambda f: lambda self, camera: f(self, camera).T.contiguous()),
    "K of the other camera": ("K", lambda f: lambda self, camera: f(self, 5 - camera)),
    "GPS backwards": ("moved_by_gps", lambda f: lambda self, c, a, b: f(self, c, b, a)),
    "not rectified": (
        "rect_from_velo",
        lambda f: property(lambda self: self._rigid("velo_to_cam")),
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_these_mistakes_do_not_pass(mistake, root, monkeypatch):
    name, change = MISTAKES[mistake]
    monkeypatch.setattr(Calibration, name, change(getattr(Calibration, name)))
    with pytest.raises(AssertionError):
        check_views(KittiRaw(root, split="drives", stereo=True, poses=True)[1], 2, 2)


def test_an_exchanged_neighbour_does_not_pass(root):
    sample = KittiRaw(root, split="drives", offsets=(1, -1), stereo=True, poses=True)[1]
    with pytest.raises(AssertionError):
        check_views(sample, 2, 2)
    before, after = sample.views[1], sample.views[0]
    check_views(replace(sample, views=(before, after, sample.views[2])), 2, 2)


def test_without_gps_only_the_other_camera_has_a_pose(root):
    (root / DATE / "calib_imu_to_velo.txt").unlink()
    (root / DATE / "calib_velo_to_cam.txt").unlink()
    before, after, other = KittiRaw(root, split="drives", stereo=True)[0].views
    assert before.view_from_sample is None
    assert after.view_from_sample is None
    assert other.view_from_sample is not None
    assert other.view_from_sample[0, 3].item() == pytest.approx(-0.5316, abs=1e-4)
    assert KittiRaw(root, split="drives", offsets=())[0].views == ()


def test_both_ends_of_a_drive_are_left_out_and_counted(root, caplog):
    write_list(root, *(f"{DRIVE} {n} {side}" for n in range(4) for side in "lr"))
    with caplog.at_level(logging.INFO):
        dataset = KittiRaw(root, split="drives")
    assert [dataset.key(i) for i in range(4)] == [key(n, c) for n in (1, 2) for c in (2, 3)]
    assert len(dataset) == 4
    assert "kitti_raw: 4 of 8 frames left out: at an end of their drive" in caplog.text
    assert len(KittiRaw(root, split="drives", offsets=(-1,))) == 6
    assert len(KittiRaw(root, split="drives", offsets=(), stereo=True)) == 8
    with pytest.raises(ValueError, match=r"none of 8 frames of drives has neighbours \(-4, 4\)"):
        KittiRaw(root, split="drives", offsets=(-4, 4))


def test_jpeg_as_most_people_keep_it(tmp_path):
    write_drive(tmp_path, 3, suffix=".jpg")
    write_list(tmp_path, f"{DRIVE} 1 l")
    check_dataset(
        lambda: KittiRaw(tmp_path, split="drives"),
        {key(1, suffix=".jpg"): scene(1)},
        space=None,
        image_tolerance=0.05,
    )


def test_lists_by_path_and_with_several_numbers(root):
    mine = root / "mine.txt"
    mine.write_text(f"\n{DRIVE} 2 1 l\n")
    dataset = KittiRaw(root, split=mine)
    assert [dataset.key(i) for i in range(2)] == [key(2), key(1)]
    assert len(KittiRaw(root, split=root / "splits/drives")) == 3


@pytest.mark.parametrize(("split", "count"), [("eigen", 697), ("eigen_benchmark", 652)])
def test_the_test_images_of_eigen(split, count, tmp_path):
    frames = read_list(tmp_path, split, "test")
    assert (len(frames), len(set(frames))) == (count, count)
    assert frames[0] == Frame(f"{DATE}/{DATE}_drive_0002_sync", 69, 2)
    assert {frame.camera for frame in frames} == {2}
    assert len({frame.drive for frame in frames}) == 28
    assert set(frames) <= set(read_list(tmp_path, "eigen", "test"))
    dates = {"2011_09_26", "2011_09_28", "2011_09_29", "2011_09_30", "2011_10_03"}
    assert {frame.date for frame in frames} == dates


@pytest.mark.parametrize(
    ("split", "part", "frames"),
    [("eigen_zhou", "train", 39_810), ("eigen_full", "val", 1_776), ("eigen", "test", 697)],
)
def test_a_list_that_differs_from_the_published_one_is_named(split, part, frames, tmp_path, caplog):
    write_list(tmp_path, f"{DRIVE} 1 l", split=split, part=part)
    assert len(read_list(tmp_path, split, part)) == 1
    assert f"{part}_files.txt: 1 frames; the published list has {frames}" in caplog.text
    caplog.clear()
    write_list(tmp_path, f"{DRIVE} 1 l", part=part)
    assert len(read_list(tmp_path, "drives", part)) == 1
    assert len(read_list(tmp_path, "eigen_benchmark", "test")) == 652
    assert not caplog.records


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (f"{DRIVE} 1\n", "not `<date>/<drive> <number> <l|r>`: "),
        (f"{DRIVE} l\n", "not `<date>/<drive> <number> <l|r>`: "),
        ("9 0 l\n", "not `<date>/<drive> <number> <l|r>`: '9 0 l'"),
        (f"{DRIVE} one l\n", "not a number of a frame in "),
        (f"{DRIVE} 1 l\n{DRIVE} 1 l\n", "there twice: Frame"),
        ("\n", "no frame; lines are"),
    ],
)
def test_a_bad_list_is_named(text, words, tmp_path):
    path = tmp_path / "bad.txt"
    path.write_text(text)
    with pytest.raises(ValueError, match=rf"bad\.txt: {re.escape(words)}"):
        read_list(tmp_path, path, "train")


def test_what_is_missing_is_named(root):
    with pytest.raises(FileNotFoundError, match=r"kitti_raw: no such folder: .*none; get synced"):
        KittiRaw(root / "none", split="drives")
    with pytest.raises(FileNotFoundError, match=r"val_files\.txt: no such list .* monodepth2"):
        KittiRaw(root, split="drives", part="val")
    with pytest.raises(FileNotFoundError, match=r"eigen/train_files\.txt: no such list"):
        KittiRaw(root, split="eigen")
    with pytest.raises(ValueError, match=r"offsets \(-1, 0\); each once, and 0 is the sample"):
        KittiRaw(root, split="drives", offsets=(-1, 0))
    with pytest.raises(ValueError, match=r"offsets \(1, 1\)"):
        KittiRaw(root, split="drives", offsets=(1, 1))
    right = root / DRIVE / "image_03/data"
    write_image(right / "0000000001.jpg", 1, 3)
    with pytest.raises(
        ValueError, match=r"image_03/data: needs either PNG or JPEG .*'\.jpg', '\.p"
    ):
        KittiRaw(root, split="drives")
    for path in right.iterdir():
        path.unlink()
    with pytest.raises(
        ValueError, match=r"image_03/data: needs either PNG or JPEG images, has \[\]"
    ):
        KittiRaw(root, split="drives")
    right.rmdir()
    with pytest.raises(FileNotFoundError, match="image_03/data: no such folder; get synced"):
        KittiRaw(root, split="drives")


def test_a_frame_that_is_missing_within_a_drive_is_an_error(root):
    (root / DRIVE / "image_02/data/0000000002.png").unlink()
    write_list(root, f"{DRIVE} 1 l")
    with pytest.raises(FileNotFoundError, match=r"image_02/data/0000000002\.png: no such file"):
        KittiRaw(root, split="drives")
    assert len(KittiRaw(root, split="drives", offsets=(-1, 2))) == 1
    write_list(root, f"{DRIVE} 9 l")
    with pytest.raises(FileNotFoundError, match=r"image_02/data/0000000009\.png: no such file"):
        KittiRaw(root, split="drives")
    write_list(root, f"{DRIVE} 2 r")
    with pytest.raises(FileNotFoundError, match=r"image_02/data/0000000002\.png: no such file"):
        KittiRaw(root, split="drives", stereo=True)


def test_a_folder_is_listed_once(root, monkeypatch):
    write_list(root, *(f"{DRIVE} {n} {side}" for n in range(4) for side in "lr"))
    listed, listdir = [], kitti_lists.os.listdir
    monkeypatch.setattr(
        kitti_lists.os, "listdir", lambda path: listed.append(path) or listdir(path)
    )
    KittiRaw(root, split="drives", stereo=True)
    assert len(listed) == 2
    assert Images(root).path(Frame(DRIVE, 3, 3)) == f"{DRIVE}/image_03/data/0000000003.png"


def test_files_that_are_missing_or_damaged_when_read(root):
    dataset = KittiRaw(root, split="drives", poses=True, lidar=True)
    image = root / DRIVE / "image_02/data/0000000001.png"
    image.write_bytes(image.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"0000000001\.png: damaged"):
        _ = dataset[0]
    (root / DRIVE / "velodyne_points/data/0000000002.bin").unlink()
    (root / DRIVE / "oxts/data/0000000003.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"0000000003\.txt"):
        _ = KittiRaw(root, split="drives", offsets=(1,), poses=True)[1]
    with pytest.raises(FileNotFoundError, match=r"0000000002\.bin"):
        _ = KittiRaw(root, split="drives", offsets=(1,), lidar=True)[1]
