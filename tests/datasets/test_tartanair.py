"""TartanAir: miniatures at the real size, the archives' doubled folder, both skies."""

import functools
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from contracts import check_dataset, check_sky
from PIL import Image
from scenes import Scene, ball, room, wrong_cameras

from distill.datasets import tartanair
from distill.datasets.tartanair import TartanAir
from distill.types import Space

H, W = 480, 640
K = torch.tensor([[320, 0, 319.5], [0, 320, 239.5], [0, 0, 1]], dtype=torch.float64)
FACTORY = "abandonedfactory/abandonedfactory/Easy/P000"
HILLS = "gascola/Hard/P011"


@functools.cache
def seen(kind: str) -> Scene:
    return {"room": room, "ball": ball}[kind](H, W, K)


def write_frame(
    flight: Path, number: int, truth: Scene, *, camera: str = "left", sky: float, dtype: str = "f4"
) -> None:
    for kind in ("image", "depth"):
        (flight / f"{kind}_{camera}").mkdir(parents=True, exist_ok=True)
    image = flight / f"image_{camera}/{number:06d}_{camera}.png"
    Image.fromarray(truth.pixels).save(image, compress_level=1)
    depth = truth.depth.nan_to_num(nan=sky).numpy().astype(dtype)
    np.save(flight / f"depth_{camera}/{number:06d}_{camera}_depth.npy", depth)


def miniature(root: Path) -> dict[str, Scene]:
    """A room as the archives unpack it, and a ball under the sky, with what else is there."""
    write_frame(root / FACTORY, 0, seen("room"), sky=0)
    write_frame(root / HILLS, 1234, seen("ball"), sky=10000, dtype="f8")
    (root / FACTORY / "pose_left.txt").write_text("0 0 0 0 0 0 1\n")
    for other in ("flow/000000_000001_flow.npy", "seg_left/000000_left_seg.npy"):
        (root / FACTORY / other).parent.mkdir()
        np.save(root / FACTORY / other, np.zeros(3, np.uint8))
    return {
        f"tartanair/{FACTORY}/image_left/000000_left.png": seen("room"),
        f"tartanair/{HILLS}/image_left/001234_left.png": seen("ball"),
    }


def check(root: Path) -> None:
    scenes = miniature(root)
    check_dataset(
        lambda: TartanAir(root),
        scenes,
        space=Space.METRIC_DEPTH,
        depth_tolerance=1e-6,
        image_tolerance=0.0015,
    )


def test_the_contract(tmp_path):
    check(tmp_path)


@pytest.mark.parametrize("mistake", wrong_cameras(K))
def test_a_wrong_camera_is_seen(mistake, tmp_path, monkeypatch):
    monkeypatch.setattr(tartanair, "_K", wrong_cameras(K)[mistake].tolist())
    with pytest.raises(AssertionError):
        check(tmp_path)


def test_a_forgotten_sky_is_seen(tmp_path, monkeypatch):
    monkeypatch.setattr(tartanair, "_SKY", 1e6)
    with pytest.raises(AssertionError):
        check(tmp_path)


def test_the_sky_is_far_and_becomes_disparity_zero(tmp_path):
    miniature(tmp_path)
    check_sky(TartanAir(tmp_path, environments=["gascola"])[0])


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
def test_every_float_and_both_ends_of_the_range(dtype, tmp_path):
    miniature(tmp_path)
    stored = np.full((H, W), 12.5, dtype)
    stored[0, :7] = [0, -1, np.nan, 0.5, 1000, 1001, np.inf]
    np.save(tmp_path / HILLS / "depth_left/001234_left_depth.npy", stored)
    sample = TartanAir(tmp_path)[1]
    assert sample.target is not None
    assert sample.valid is not None
    assert sample.far is not None
    assert sample.valid[0, :8].tolist() == [False] * 3 + [True] * 2 + [False] * 2 + [True]
    assert sample.far[0, :8].tolist() == [False] * 5 + [True] * 2 + [False]
    assert sample.target[0, 3:5].tolist() == [0.5, 1000]
    assert sample.target[1, 0] == 12.5


def test_the_dome_of_amusement_is_neither_depth_nor_sky(tmp_path):
    for flight in ("amusement/amusement/Hard/P000", "amusement/Easy/P000"):
        write_frame(tmp_path / flight, 0, seen("ball"), sky=120)
    for sample in TartanAir(tmp_path):
        assert sample.valid is not None
        assert sample.far is not None
        assert torch.equal(sample.valid, seen("ball").valid)
        assert not sample.far.any()


def test_environments_difficulties_and_cameras_are_chosen(tmp_path):
    miniature(tmp_path)
    write_frame(tmp_path / HILLS, 7, seen("ball"), camera="right", sky=10000)
    right = TartanAir(tmp_path, environments=["gascola"], cameras=("right",), name="ta")
    assert [right.key(i) for i in range(len(right))] == [f"ta/{HILLS}/image_right/000007_right.png"]
    assert right[0].target is not None
    both = TartanAir(tmp_path, environments=["gascola"], cameras=("right", "left"))
    assert [both.key(i)[-10:] for i in range(len(both))] == ["4_left.png", "_right.png"]
    easy = TartanAir(tmp_path, difficulties=("Easy",))
    assert [easy.key(i).split("/")[1] for i in range(len(easy))] == ["abandonedfactory"]


def test_frames_come_in_order_whatever_the_disk_says(tmp_path, monkeypatch):
    for flight in ("P010", "P002"):
        for kind, end in (("image_left", "left.png"), ("depth_left", "left_depth.npy")):
            folder = tmp_path / "ocean/Easy" / flight / kind
            folder.mkdir(parents=True)
            for number in (7, 3):
                (folder / f"{number:06d}_{end}").touch()
    glob = Path.glob
    monkeypatch.setattr(Path, "glob", lambda path, pattern: iter(sorted(glob(path, pattern))[::-1]))
    dataset = TartanAir(tmp_path)
    assert [dataset.key(i).split("/")[3:] for i in range(len(dataset))] == [
        [flight, "image_left", f"{number:06d}_left.png"]
        for flight in ("P002", "P010")
        for number in (3, 7)
    ]


@pytest.mark.parametrize(
    ("chosen", "words"),
    [
        ({"environments": ["ocean"]}, "no ocean; there are abandonedfactory, gascola"),
        ({"environments": []}, "no <environment>/Easy/P000/image_left in .*; get image_left.zip"),
        ({"environments": ["gascola"], "difficulties": ["Easy"]}, "no <environment>/Easy/P000"),
        ({"difficulties": ["easy"]}, r"difficulties are of \('Easy', 'Hard'\) and .*'easy'"),
        ({"cameras": ["front"]}, r"cameras of \('left', 'right'\), got .* \['front'\]"),
    ],
)
def test_what_is_not_there_is_named(chosen, words, tmp_path):
    miniature(tmp_path)
    with pytest.raises(ValueError, match=words):
        TartanAir(tmp_path, **chosen)


def test_missing_folders_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="tartanair: no such folder") as caught:
        TartanAir(tmp_path / "none")
    assert re.search("or give what holds it as --data", str(caught.value))
    with pytest.raises(ValueError, match="no <environment>/Easy/P000/image_left"):
        TartanAir(tmp_path)
    miniature(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"P000/image_right: no such folder; get image_le"):
        TartanAir(tmp_path, cameras=("right",))


def test_the_second_tartanair_is_refused(tmp_path):
    miniature(tmp_path)
    flight = tmp_path / "AbandonedCable/Data_easy/P000"
    for kind, file in (("image", "lcam_front.png"), ("depth", "lcam_front_depth.png")):
        (flight / f"{kind}_lcam_front").mkdir(parents=True)
        Image.new("RGBA", (640, 640)).save(flight / f"{kind}_lcam_front/000000_{file}")
    with pytest.raises(ValueError, match=r"AbandonedCable is of TartanAir-V2, whose depth is pac"):
        TartanAir(tmp_path)
    assert len(TartanAir(tmp_path, environments=["gascola", "abandonedfactory"])) == 2


def test_what_is_there_twice_or_without_a_partner_is_named(tmp_path):
    miniature(tmp_path)
    (tmp_path / HILLS / "depth_left/000099_left_depth.npy").write_bytes(b"")
    with pytest.raises(ValueError, match=r"P011: 1 images and 2 .* left, 1 without .* 000099; get"):
        TartanAir(tmp_path)
    write_frame(tmp_path / "abandonedfactory/Easy/P000", 0, seen("room"), sky=0)
    with pytest.raises(ValueError, match="both abandonedfactory/Easy and abandonedfactory/aband"):
        TartanAir(tmp_path)


def test_bad_files_are_named(tmp_path):
    miniature(tmp_path)
    dataset = TartanAir(tmp_path)
    depth = tmp_path / FACTORY / "depth_left/000000_left_depth.npy"
    for array, words in (
        (np.ones((W, H), "f4"), r"float32 \(640, 480\), expected floats of \(480, 640\)"),
        (np.ones((H, W), "u2"), r"uint16 \(480, 640\), expected floats"),
    ):
        np.save(depth, array)
        with pytest.raises(ValueError, match=rf"000000_left_depth\.npy: {words}"):
            _ = dataset[0]
    depth.write_bytes(b"\x93NUMPY")
    with pytest.raises(ValueError, match=r"000000_left_depth\.npy: damaged"):
        _ = dataset[0]
    depth.unlink()
    with pytest.raises(FileNotFoundError, match=r"000000_left_depth\.npy"):
        _ = dataset[0]
    Image.new("RGB", (64, 48)).save(tmp_path / HILLS / "image_left/001234_left.png")
    with pytest.raises(ValueError, match=r"001234_left\.png: depth \(480, 640\) but image \(48, 6"):
        _ = dataset[1]
