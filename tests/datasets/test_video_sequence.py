"""Clips of numbered frames of a room walked through: order, neighbours, gaps, cuts, cameras."""

import logging
import math
from collections.abc import Iterable
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import torch
from contracts import check_dataset
from moving_camera import pose, room_from
from scenes import Scene

from distill.datasets import video_clips
from distill.datasets.video_sequence import VideoSequence

H, W = 18, 40
K = torch.tensor([[35.0, 0, 18.5], [0, 36.5, 9.5], [0, 0, 1]])
CAMERA = "35 36.5 18.5 9.5\n"


def seen(number: int, *, shift: float = 0.0) -> Scene:
    """Another picture for each number, and for each clip."""
    place = pose(turn=0.8 * number, move=(0.1 * number + shift, 0, -0.15 * number))
    return room_from(H, W, K.double(), place)


def write(
    folder: Path, numbers: Iterable[int], *, form: str = "{:06d}.png", shift: float = 0.0
) -> dict[str, Scene]:
    """A clip; its scenes by file name."""
    folder.mkdir(parents=True, exist_ok=True)
    scenes = {}
    for number in numbers:
        scenes[form.format(number)] = scene = seen(number, shift=shift)
        (folder / form.format(number)).write_bytes(
            imagecodecs.png_encode(np.ascontiguousarray(scene.pixels))
        )
    return scenes


def camera(dataset: VideoSequence, index: int) -> list[float]:
    K = dataset[index].K
    assert K is not None
    assert [K[i, j].item() for i, j in ((0, 1), (1, 0), (2, 0), (2, 1), (2, 2))] == [0, 0, 0, 0, 1]
    return [K[i, j].item() for i, j in ((0, 0), (1, 1), (0, 2), (1, 2))]


def numbers(dataset: VideoSequence) -> list[int]:
    return [int(Path(dataset.key(i)).stem.split("_")[-1]) for i in range(len(dataset))]


def test_the_contract(tmp_path):
    """Two clips, in one of which 9 comes before 10, with cameras of their own."""
    first = write(tmp_path / "b", range(8, 12), form="frame_{}.png")
    second = write(tmp_path / "a/deep", range(1, 4), shift=0.5)
    (tmp_path / "a/intrinsics.txt").write_text(CAMERA)
    (tmp_path / "b/intrinsics.txt").write_text("31 32 18 9")
    inner = {f"video_sequence/b/frame_{n}.png": first[f"frame_{n}.png"] for n in (9, 10)}
    inner["video_sequence/a/deep/000002.png"] = second["000002.png"]
    check_dataset(lambda: VideoSequence(tmp_path), inner, space=None)
    dataset = VideoSequence(tmp_path, name="walks")
    assert [dataset.key(i) for i in range(3)] == [
        "walks/a/deep/000002.png",
        "walks/b/frame_9.png",
        "walks/b/frame_10.png",
    ]
    assert camera(dataset, 0) == [35, 36.5, 18.5, 9.5]
    assert camera(dataset, 1) == [31, 32, 18, 9]


def test_the_nearest_intrinsics_hold_and_given_ones_before_all(tmp_path):
    write(tmp_path / "a/b", range(3))
    (tmp_path / "intrinsics.txt").write_text("1 2 3 4")
    assert camera(VideoSequence(tmp_path), 0) == [1, 2, 3, 4]
    (tmp_path / "a/b/intrinsics.txt").write_text("5 6 7 8")
    assert camera(VideoSequence(tmp_path), 0) == [5, 6, 7, 8]
    assert camera(VideoSequence(tmp_path, intrinsics=(9.0, 9.0, 1.0, 2.0)), 0) == [9, 9, 1, 2]


@pytest.mark.parametrize("offsets", [(-1, 1), (1, -1), (2,), (-2, 1, 3), ()])
def test_views_are_the_frames_that_many_behind(offsets, tmp_path):
    write(tmp_path, range(10, 18))
    dataset = VideoSequence(tmp_path, offsets=offsets, intrinsics=(35.0, 36.5, 18.5, 9.5))
    low, high = min(0, *offsets, 0), max(0, *offsets, 0)
    assert numbers(dataset) == list(range(10 - low, 18 - high))
    for index, number in enumerate(numbers(dataset)):
        views = dataset[index].views
        assert [view.offset for view in views] == list(offsets)
        for view in views:
            there = number + view.offset
            assert view.key == f"video_sequence/{there:06d}.png"
            assert (view.image - seen(there).image).abs().max() < 0.003
            assert (view.image - seen(there - 1).image).abs().mean() > 0.01
            assert view.K is not None
            assert torch.equal(view.K, K)
            assert view.view_from_sample is None


def test_no_neighbour_across_the_end_of_a_clip(tmp_path):
    """Numbers that go on from one clip to the next are still two clips."""
    write(tmp_path / "a", range(3))
    write(tmp_path / "b", range(3, 6))
    (tmp_path / "intrinsics.txt").write_text(CAMERA)
    dataset = VideoSequence(tmp_path)
    assert numbers(dataset) == [1, 4]
    for i, folder in enumerate("ab"):
        assert all(v.key.startswith(f"video_sequence/{folder}/") for v in dataset[i].views)


def test_no_neighbour_across_a_gap_and_thinned_videos(tmp_path, caplog):
    write(tmp_path / "gap", [0, 1, 2, 4, 5, 6])
    write(tmp_path / "thinned", [0, 5, 10, 20, 25])
    (tmp_path / "intrinsics.txt").write_text(CAMERA)
    with caplog.at_level(logging.INFO, logger="distill"):
        dataset = VideoSequence(tmp_path)
    assert numbers(dataset) == [1, 5, 5]
    assert [view.key[-7:-4] for view in dataset[2].views] == ["000", "010"]
    assert "video_sequence: 8 of 11 frames lack a neighbour, left out" in caplog.text


def test_no_neighbour_across_a_cut(tmp_path):
    write(tmp_path, range(8))
    (tmp_path / "intrinsics.txt").write_text(CAMERA)
    (tmp_path / "cuts.txt").write_text("4\n")
    assert numbers(VideoSequence(tmp_path)) == [1, 2, 5, 6]
    (tmp_path / "cuts.txt").write_text("0 4 5")
    assert numbers(VideoSequence(tmp_path)) == [1, 2, 6]
    for unknown in ("9", "4.5", "-1", "four"):
        (tmp_path / "cuts.txt").write_text(f"4 {unknown}")
        with pytest.raises(ValueError, match=rf"cuts\.txt: not the number of a frame: '{unknown}'"):
            VideoSequence(tmp_path)


def test_cuts_are_found_and_a_fast_turn_is_none(tmp_path):
    write(tmp_path, range(5))
    write(tmp_path, range(5, 9), shift=4.0)
    write(tmp_path, [9], shift=-5.0)
    write(tmp_path, range(10, 13))
    assert video_clips.find_cuts(tmp_path) == [5, 9, 10]
    turn = tmp_path / "turn"
    write(turn, range(0, 100, 20))
    assert video_clips.find_cuts(turn) == []
    assert video_clips.find_cuts(turn, threshold=0.0) == []
    assert video_clips.find_cuts(tmp_path, threshold=0.9) == []


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (["a1.png", "b2.png"], r"b2\.png: frames of a clip have one name and a number behind"),
        (["a.png"], r"a\.png: frames of a clip have one name and a number behind"),
        (["1.png", "01.jpg"], r"1\.png: 01\.jpg has the same number; remove one"),
    ],
)
def test_frames_without_an_order_are_named(files, words, tmp_path):
    for file in files:
        (tmp_path / file).touch()
    with pytest.raises(ValueError, match=words):
        VideoSequence(tmp_path, intrinsics=(1.0, 1.0, 0.0, 0.0))


@pytest.mark.parametrize("text", ["", "35 36", "35 36 18 nine", "1 2 3 4 5"])
def test_bad_intrinsics_are_named(text, tmp_path):
    write(tmp_path, range(3))
    (tmp_path / "intrinsics.txt").write_text(text)
    with pytest.raises(ValueError, match=r"intrinsics\.txt: needs fx fy cx cy in pixels, got"):
        VideoSequence(tmp_path)


@pytest.mark.parametrize(
    "given", [(0.0, 1.0, 0.0, 0.0), (1.0, -1.0, 0.0, 0.0), (1.0, 1.0, math.nan, 0.0)]
)
def test_senseless_intrinsics_are_refused(given, tmp_path):
    with pytest.raises(ValueError, match="intrinsics: fx and fy must be positive"):
        VideoSequence(tmp_path, intrinsics=given)


def test_missing_intrinsics_and_folders_are_named(tmp_path):
    write(tmp_path / "walk", range(3))
    with pytest.raises(FileNotFoundError, match=r"no .*walk/intrinsics\.txt; write `fx fy cx cy`"):
        VideoSequence(tmp_path)
    with pytest.raises(FileNotFoundError, match="none: no such folder"):
        VideoSequence(tmp_path / "none")


@pytest.mark.parametrize("offsets", [(0, 1), (1, 1)])
def test_senseless_offsets_are_refused(offsets, tmp_path):
    with pytest.raises(ValueError, match=r"offsets \(\d, 1\); give each once, and not 0"):
        VideoSequence(tmp_path, offsets=offsets)


def test_clips_without_neighbours_are_refused(tmp_path):
    words = r"2 frames in 1 clips of .*, none with neighbours at \(-1, 1\); give the folder"
    write(tmp_path, range(2))
    with pytest.raises(ValueError, match=words):
        VideoSequence(tmp_path, intrinsics=(1.0, 1.0, 0.0, 0.0))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"0 frames in 0 clips of .*empty"):
        VideoSequence(tmp_path / "empty")


def test_frames_of_another_size_and_lost_ones_are_named(tmp_path):
    write(tmp_path, range(3))
    dataset = VideoSequence(tmp_path, intrinsics=(1.0, 1.0, 0.0, 0.0))
    (tmp_path / "000002.png").write_bytes(imagecodecs.png_encode(np.zeros((H, 30, 3), np.uint8)))
    words = r"000001\.png: \(18, 40\) pixels but 000002\.png \(18, 30\); a clip has one size"
    with pytest.raises(ValueError, match=words):
        _ = dataset[0]
    (tmp_path / "000002.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"000002\.png"):
        _ = dataset[0]
