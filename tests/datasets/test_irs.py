"""IRS: miniatures at the real size; disparity of 960 pixels across, 0.1 m between the cameras."""

import functools
from pathlib import Path

import numpy as np
import OpenEXR
import pytest
import torch
from contracts import check_dataset
from PIL import Image
from scenes import Scene, ball, room, wrong_cameras

from distill.datasets import irs
from distill.datasets.irs import Irs
from distill.types import Space

H, W = 540, 960
K = torch.tensor([[480, 0, 479.5], [0, 480, 269.5], [0, 0, 1]], dtype=torch.float64)
HOME, STORE = "Home/ArchVizInterior03Data", "Store/Supermarket_Dark"


@functools.cache
def seen(kind: str) -> Scene:
    return {"room": room, "ball": ball}[kind](H, W, K)


def line(scene: str, number: int) -> str:
    kinds = {"l": "png", "r": "png", "d": "exr", "n": "exr"}
    return " ".join(f"{scene}/{kind}_{number:05d}.{end}" for kind, end in kinds.items())


def write_exr(path: Path, **channels: np.ndarray) -> None:
    header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
    OpenEXR.File(header, {k: v.astype(np.float32) for k, v in channels.items()}).write(str(path))


def write_frame(root: Path, scene: str, number: int, truth: Scene, *, nothing: float) -> None:
    """A left image, and its disparity as a similar triangle has it: 0.1 m seen at 480 pixels."""
    folder = root / scene
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(truth.pixels).save(folder / f"l_{number:05d}.png", compress_level=1)
    right_x = 480 * (truth.points[0] - 0.1) / truth.depth + 479.5
    disparity = torch.arange(W).double() - right_x
    values = disparity.nan_to_num(nan=nothing).numpy()
    if scene == HOME:  # the authors' files have one channel or three
        write_exr(folder / f"d_{number:05d}.exr", G=values)
    else:
        write_exr(folder / f"d_{number:05d}.exr", R=values, G=values * 0, B=values * 0)


def miniature(root: Path) -> dict[str, Scene]:
    write_frame(root, HOME, 1, seen("room"), nothing=0)
    write_frame(root, STORE, 2294, seen("ball"), nothing=0)
    lists = root / "lists"
    lists.mkdir()
    (lists / "irs_train.list").write_text(f"{line(HOME, 1)}\n{line(STORE, 2294)}\n")
    (lists / "irs_test.list").write_text(f"{line(HOME, 8)}\n")
    (lists / "store_train.list").write_text(f"{line(STORE, 2294)}\n\n")
    return {
        f"irs/{HOME}/l_00001.png": seen("room"),
        f"irs/{STORE}/l_02294.png": seen("ball"),
    }


def check(root: Path) -> None:
    scenes = miniature(root)
    check_dataset(
        lambda: Irs(root),
        scenes,
        space=Space.METRIC_DEPTH,
        depth_tolerance=1e-5,
        image_tolerance=0.0015,
    )


def test_the_contract(tmp_path):
    check(tmp_path)


@pytest.mark.parametrize("mistake", wrong_cameras(K))
def test_a_wrong_camera_is_seen(mistake, tmp_path, monkeypatch):
    monkeypatch.setattr(irs, "_K", wrong_cameras(K)[mistake].tolist())
    with pytest.raises(AssertionError):
        check(tmp_path)


@pytest.mark.parametrize("wrong", [24.0, 0.48, 480.0])
def test_a_wrong_baseline_or_width_is_seen(wrong, tmp_path, monkeypatch):
    monkeypatch.setattr(irs, "_DEPTH_TIMES_DISPARITY", wrong)
    with pytest.raises(AssertionError):
        check(tmp_path)


def test_metres_and_both_ends_of_the_range(tmp_path):
    miniature(tmp_path)
    stored = np.full((H, W), 12.0)
    stored[0, :8] = [0, -3, np.nan, np.inf, -np.inf, 48 / 200, 0.239, 96]
    write_exr(tmp_path / HOME / "d_00001.exr", Y=stored)
    sample = Irs(tmp_path)[0]
    assert sample.target is not None
    assert sample.valid is not None
    assert sample.far is None
    assert sample.valid[0, :9].tolist() == [False] * 5 + [True, False, True, True]
    assert sample.target[0, [5, 7, 8]].tolist() == [pytest.approx(200), 0.5, 4]


def test_lists_in_the_folder_or_beside_it(tmp_path):
    miniature(tmp_path / "IRSDataset")
    store = Irs(tmp_path / "IRSDataset", split="store_train", name="rooms")
    assert [store.key(i) for i in range(len(store))] == [f"rooms/{STORE}/l_02294.png"]
    (tmp_path / "IRSDataset/lists").rename(tmp_path / "lists")
    assert len(Irs(tmp_path / "IRSDataset")) == 2
    (tmp_path / "lists/irs_train.list").rename(tmp_path / "IRSDataset/irs_train.list")
    assert len(Irs(tmp_path / "IRSDataset")) == 2


def test_missing_files_are_counted(tmp_path):
    miniature(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"2 of the 2 files that irs_test.list names are n"):
        Irs(tmp_path, split="test")
    (tmp_path / STORE / "d_02294.exr").unlink()
    with pytest.raises(FileNotFoundError, match=rf": 1 of the 4 .* first {STORE}/d_02294.exr; unp"):
        Irs(tmp_path)
    (tmp_path / STORE).rename(tmp_path / "Shop")
    with pytest.raises(FileNotFoundError, match=rf": 2 of the 4 .* first {STORE}/l_02294.png; unp"):
        Irs(tmp_path)


def test_what_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"irs: no such folder: .*--data .* holds `none/`"):
        Irs(tmp_path / "none")
    miniature(tmp_path)
    words = r"no lists/irs_val.list in or beside it, only \['store_train', 'test', 'train'\]; copy"
    with pytest.raises(FileNotFoundError, match=words):
        Irs(tmp_path, split="val")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("\n", "irs_train.list: empty, or names an image twice"),
        (f"{line(HOME, 1)}\n" * 2, "irs_train.list: empty, or names an image twice"),
        (f"{HOME}/l_00001.png {HOME}/d_00001.exr\n", "not left, right, disparity, normals: 'Home"),
    ],
)
def test_bad_lists_are_named(text, words, tmp_path):
    miniature(tmp_path)
    (tmp_path / "lists/irs_train.list").write_text(text)
    with pytest.raises(ValueError, match=words):
        Irs(tmp_path)


def test_bad_files_are_named(tmp_path):
    miniature(tmp_path)
    dataset = Irs(tmp_path)
    write_exr(tmp_path / HOME / "d_00001.exr", G=np.ones((H // 2, W // 2)))
    with pytest.raises(ValueError, match=r"d_00001\.exr: disparity \(270, 480\), not \(540, 960\)"):
        _ = dataset[0]
    (tmp_path / HOME / "d_00001.exr").write_bytes(b"")
    with pytest.raises(ValueError, match=r"d_00001\.exr: damaged"):
        _ = dataset[0]
    (tmp_path / HOME / "d_00001.exr").unlink()
    with pytest.raises(FileNotFoundError, match=r"d_00001\.exr"):
        _ = dataset[0]
    Image.new("RGB", (96, 54)).save(tmp_path / STORE / "l_02294.png")
    with pytest.raises(ValueError, match=r"l_02294\.png: depth \(540, 960\) but image \(54, 96\)"):
        _ = dataset[1]
