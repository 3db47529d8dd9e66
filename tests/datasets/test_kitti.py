"""KITTI's test images with annotated truth or a raw sweep, in the real layout."""

import re
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import torch
from contracts import check_dataset
from kitti_miniature import (
    CAMERAS,
    DATE,
    DRIVE,
    MOVES,
    RECT_FROM_VELO,
    H,
    W,
    scene,
    write_drive,
    write_truth,
)
from moving_camera import moved, pose

from distill.datasets import kitti
from distill.types import Space

Kitti: Any = kitti.Kitti  # its samples have a target and K


@pytest.fixture
def root(tmp_path) -> Path:
    """Two frames; one date in `raw`, truth among what was once called training data."""
    write_drive(tmp_path / "raw", 3)
    for frame in (1, 2):
        write_truth(tmp_path, frame, part="train")
    (tmp_path / "list.txt").write_text(f"{DRIVE} 2 1 l\n")
    return tmp_path


def key(frame: int) -> str:
    return f"kitti/{DRIVE}/image_02/data/{frame:010d}.png"


def check(root: Path) -> None:
    check_dataset(
        lambda: Kitti(root, split=root / "list.txt"),
        {key(1): scene(1), key(2): scene(2)},
        space=Space.METRIC_DEPTH,
        depth_tolerance=0.0025,  # half of 1/256 m
    )


def test_the_contract(root):
    assert key(2) == f"kitti/{DATE}/{DATE}_drive_0001_sync/image_02/data/0000000002.png"
    check(root)
    sample = Kitti(root, split=root / "list.txt")[0]
    torch.testing.assert_close(sample.K, CAMERAS[2].float())
    assert sample.views == ()


@pytest.mark.parametrize("wrong", [255.0, 100.0, 1000.0])
def test_another_unit_does_not_pass(wrong, root, monkeypatch):
    monkeypatch.setattr(kitti, "_UNITS_PER_METRE", wrong)
    with pytest.raises(AssertionError):
        check(root)


def test_without_raw_and_with_truth_in_val(tmp_path):
    write_drive(tmp_path, 2)
    write_truth(tmp_path, 1, part="val")
    (tmp_path / "list.txt").write_text(f"{DRIVE} 1 l\n")
    dataset = Kitti(tmp_path, split=tmp_path / "list.txt", name="mine")
    assert dataset.key(0) == f"mine/{DRIVE}/image_02/data/0000000001.png"
    assert dataset[0].valid.all()


def test_zero_was_not_measured(root):
    path = next((root / "data_depth_annotated").rglob("0000000002.png"))
    stored = np.full((H, W), 256 * 80, np.uint16)
    stored[0, :3] = [0, 1, 65535]
    path.write_bytes(imagecodecs.png_encode(stored))
    sample = Kitti(root, split=root / "list.txt")[0]
    assert sample.valid[0, :3].tolist() == [False, True, True]
    assert sample.target[0, 1:4].tolist() == pytest.approx([1 / 256, 65535 / 256, 80])


def test_raw_sweeps_as_published_numbers_have_them(root):
    """The lidar's x where the image is one pixel further down and to the right."""
    sample = Kitti(root, split=root / "list.txt", truth="velodyne")[0]
    seen = moved(torch.linalg.inv(pose(move=MOVES[2]) @ RECT_FROM_VELO), scene(2).points)
    torch.testing.assert_close(
        sample.target[:-1, 1:-2], seen[0, 1:, 2:-1].float(), rtol=1e-5, atol=0
    )
    assert not sample.valid[-1].any()
    assert not sample.valid[:, -1].any()
    assert sample.space is Space.METRIC_DEPTH


def test_the_published_lists(tmp_path):
    """Without the 28 drives the first is missing; with them all, 652 and 697 samples."""
    with pytest.raises(FileNotFoundError, match=r"2011_09_26_drive_0002_sync/image_02/data: no"):
        Kitti(tmp_path)
    for split, truth, count in (("eigen_benchmark", "annotated", 652), ("eigen", "velodyne", 697)):
        for line in (kitti.SHIPPED / f"{split}.txt").read_text().splitlines():
            drive, *numbers, _ = line.split()
            for number in numbers:
                image = tmp_path / drive / f"image_02/data/{int(number):010d}.jpg"
                image.parent.mkdir(parents=True, exist_ok=True)
                image.touch()
            truths = tmp_path / "data_depth_annotated/val" / drive.split("/")[1]
            truths.mkdir(parents=True, exist_ok=True)
        dataset = Kitti(tmp_path, split=split, truth=truth)
        assert len(dataset) == count
        first = f"{DATE}/{DATE}_drive_0002_sync/image_02/data/0000000069.jpg"
        assert dataset.key(0) == f"kitti/{first}"


@pytest.mark.parametrize(
    ("chosen", "words"),
    [
        ({"truth": "lidar"}, "truth is one of ('annotated', 'velodyne'), got 'lidar'"),
        ({"split": "eigen_zhou"}, "or a Path, got 'eigen_zhou'"),
        ({"split": "eigen"}, "45 of the 697 images of `eigen` have no annotated truth"),
    ],
)
def test_senseless_choices(chosen, words, root):
    with pytest.raises(ValueError, match=re.escape(words)):
        Kitti(root, **chosen)


def test_bad_files_are_named(root):
    listing, dataset = root / "list.txt", Kitti(root, split=root / "list.txt")
    path = next((root / "data_depth_annotated").rglob("0000000002.png"))
    path.write_bytes(imagecodecs.png_encode(np.ones((H, W // 2), np.uint16)))
    with pytest.raises(ValueError, match=r"0000000002\.png: depth \(24, 40\) but image \(24, 80\)"):
        _ = dataset[0]
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"groundtruth/image_02/0000000002\.png"):
        _ = dataset[0]
    (root / "data_depth_annotated").rename(root / "elsewhere")
    with pytest.raises(FileNotFoundError, match=f"no truth of {DRIVE} in .*; get data_depth_annot"):
        Kitti(root, split=listing)
    (root / "raw" / DATE / "calib_cam_to_cam.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"calib_cam_to_cam\.txt: no such file"):
        _ = Kitti(root, split=listing, truth="velodyne")[0]
