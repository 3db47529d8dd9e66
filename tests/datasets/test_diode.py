"""DIODE: miniatures at the real size, image, depth and mask side by side."""

import functools
from pathlib import Path

import numpy as np
import pytest
import torch
from contracts import check_dataset
from PIL import Image
from scenes import Scene, ball, room, wrong_cameras

from distill.datasets import diode
from distill.datasets.diode import Diode
from distill.types import Space

H, W = 768, 1024
K = torch.tensor([[886.81, 0, 511.5], [0, 927.06, 383.5], [0, 0, 1]], dtype=torch.float64)
SQUARE = torch.tensor([[886.81, 0, 511.5], [0, 886.81, 383.5], [0, 0, 1]])
INDOORS = "val/indoors/scene_00019/scan_00183/00019_00183_indoors_000_010"
OUTDOOR = "val/outdoor/scene_00022/scan_00193/00022_00193_outdoor_010_020"


@functools.cache
def seen() -> dict[str, Scene]:
    return {f"diode/{INDOORS}.png": room(H, W, K), f"diode/{OUTDOOR}.png": ball(H, W, K)}


def write(root: Path) -> None:
    for key, truth in seen().items():
        path = root / key.removeprefix("diode/")
        path.parent.mkdir(parents=True)
        Image.fromarray(truth.pixels).save(path, compress_level=1)
        depth = truth.depth.nan_to_num(nan=3.0).numpy().astype(np.float32)
        np.save(path.with_name(f"{path.stem}_depth.npy"), depth[..., None])
        np.save(path.with_name(f"{path.stem}_depth_mask.npy"), truth.valid.numpy().astype(float))
        np.save(path.with_name(f"{path.stem}_normal.npy"), np.zeros(3))  # of another archive


def check(root: Path) -> None:
    write(root)
    check_dataset(
        lambda: Diode(root),
        seen(),
        space=Space.METRIC_DEPTH,
        depth_tolerance=1e-6,
        image_tolerance=0.0015,
    )


def test_the_contract(tmp_path):
    check(tmp_path)


WRONG = {**wrong_cameras(K), "square pixels": SQUARE}


@pytest.mark.parametrize("mistake", WRONG)
def test_a_wrong_camera_is_seen(mistake, tmp_path, monkeypatch):
    monkeypatch.setattr(diode, "_K", WRONG[mistake].tolist())
    with pytest.raises(AssertionError):
        check(tmp_path)


def test_split_and_scenes_are_chosen(tmp_path):
    write(tmp_path)
    outdoor = Diode(tmp_path, scenes=("outdoor",), name="far")
    assert [outdoor.key(i) for i in range(len(outdoor))] == [f"far/{OUTDOOR}.png"]
    (tmp_path / "val").rename(tmp_path / "train")
    assert (
        Diode(tmp_path, split="train", scenes=("outdoor", "indoors"))
        .key(0)
        .startswith("diode/train/indoors/")
    )


@pytest.mark.parametrize("chosen", [{"split": "test"}, {"scenes": ("indoor",)}, {"scenes": ()}])
def test_what_is_not_there_is_named(chosen, tmp_path):
    with pytest.raises(ValueError, match=r"split is one of \('train', 'val'\) and scenes of"):
        Diode(tmp_path, **chosen)


def test_an_empty_or_missing_folder(tmp_path):
    (tmp_path / "val/indoors").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match=r"folder: .*outdoor; get val\.tar\.gz from https"):
        Diode(tmp_path)
    with pytest.raises(ValueError, match=r"no val/<indoors\|outdoor>/scene_\*/scan_\*/\*\.png in"):
        Diode(tmp_path, scenes=("indoors",))


def test_bad_files_are_named(tmp_path):
    write(tmp_path)
    dataset = Diode(tmp_path, scenes=("indoors",))
    depth = tmp_path / f"{INDOORS}_depth.npy"
    np.save(depth, np.ones((W, H, 1), np.float32))
    with pytest.raises(ValueError, match=r"010_depth\.npy: float32 \(1024, 768, 1\), expected"):
        _ = dataset[0]
    np.save(depth, np.ones((H, W), complex))
    with pytest.raises(ValueError, match=r"010_depth\.npy: complex128 \(768, 1024\), expected"):
        _ = dataset[0]
    depth.write_bytes(b"\x93NUMPY")
    with pytest.raises(ValueError, match=r"010_depth\.npy: damaged"):
        _ = dataset[0]
    depth.unlink()
    with pytest.raises(FileNotFoundError, match=r"010_depth\.npy"):
        _ = dataset[0]
