"""NYU Depth v2: both forms at their real size, as MATLAB and as Marigold wrote them."""

import dataclasses
import functools
from pathlib import Path

import h5py
import imagecodecs
import numpy as np
import pytest
import torch
from contracts import check_dataset
from PIL import Image
from scenes import Scene, ball, room, wrong_cameras
from scipy.io import savemat

from distill.datasets import nyu
from distill.datasets.nyu import Nyu
from distill.types import Space

H, W = 480, 640
K = torch.tensor(
    [[518.857901, 0, 325.582449], [0, 519.469611, 253.736166], [0, 0, 1]], dtype=torch.float64
)
MAT = "nyu_depth_v2_labeled.mat"


@functools.cache
def seen() -> tuple[Scene, Scene]:
    """Image 1, without a hole, and image 3: a ball, holes around it."""
    return room(H, W, K), ball(H, W, K)


@functools.cache
def filled() -> tuple[Scene, Scene]:
    """The same images with in-painted truth: around the ball, and a little everywhere."""
    one, three = seen()
    nearer = dataclasses.replace(one, depth=one.depth * 0.9, points=one.points * 0.9)
    return nearer, dataclasses.replace(nearer, image=three.image)


def write_mat(root: Path) -> None:
    """Three images of the 1449 with the axes as HDF5 shows them; 1 and 3 are for testing."""
    second = np.zeros((3, H, W), np.uint8), np.ones((H, W)), np.ones((H, W))
    one, three = (
        (
            scene.pixels.transpose(2, 0, 1),
            scene.depth.nan_to_num(nan=0.0).numpy(),
            whole.depth.numpy(),
        )
        for scene, whole in zip(seen(), filled(), strict=True)
    )
    arrays = zip(*(one, second, three), strict=True)
    with h5py.File(root / MAT, "w", userblock_size=512) as file:
        for name, values in zip(("images", "rawDepths", "depths"), arrays, strict=True):
            kind = np.uint8 if name == "images" else np.float32
            file[name] = np.stack([value.swapaxes(-1, -2) for value in values]).astype(kind)
        assert file["images"].shape == (3, 3, 640, 480)  # type: ignore[union-attr]
    numbers = {"trainNdxs": [[2]], "testNdxs": [[1], [3]]}
    savemat(root / "splits.mat", {k: np.array(v, np.uint16) for k, v in numbers.items()})


def write_pngs(root: Path) -> None:
    for number, scene, whole in zip((1, 3), seen(), filled(), strict=True):
        folder = root / "test" / f"kitchen_000{number}"
        folder.mkdir(parents=True)
        Image.fromarray(scene.pixels).save(folder / f"rgb_{number:04d}.png")
        for name, truth in (("depth", scene), ("filled", whole)):
            millimetres = (truth.depth.nan_to_num(nan=0.0) * 1000).round().numpy()
            png = imagecodecs.png_encode(millimetres.astype(np.uint16))
            (folder / f"{name}_{number:04d}.png").write_bytes(png)


KEYS = {
    write_mat: ("nyu/0001", "nyu/0003"),
    write_pngs: ("nyu/test/kitchen_0001/rgb_0001.png", "nyu/test/kitchen_0003/rgb_0003.png"),
}


def check(root: Path, write, truth: str = "raw") -> None:
    write(root)
    check_dataset(
        lambda: Nyu(root, truth=truth),
        dict(zip(KEYS[write], seen() if truth == "raw" else filled(), strict=True)),
        space=Space.METRIC_DEPTH,
        depth_tolerance=1e-6 if write is write_mat else 5e-4,  # half a millimetre
        image_tolerance=0.0015,  # half a step of 255
    )


@pytest.mark.parametrize("truth", ["raw", "filled"])
@pytest.mark.parametrize("write", KEYS)
def test_the_contract(write, truth, tmp_path):
    check(tmp_path, write, truth)


ONE = torch.tensor([[0, 0, 1], [0, 0, 1], [0, 0, 0]])
WRONG = {**wrong_cameras(K), "counted from 1, as MATLAB does": K - ONE}


@pytest.mark.parametrize(
    ("write", "constant", "wrong"),
    [
        (write_pngs, "_MILLIMETRES", 6000.0),
        (write_pngs, "_PNGS", {"raw": "filled"}),
        (write_mat, "_ARRAYS", {"raw": "depths"}),
        *((write, "_K", wrong.tolist()) for write in KEYS for wrong in WRONG.values()),
    ],
)
def test_a_wrong_constant_is_seen(write, constant, wrong, tmp_path, monkeypatch):
    monkeypatch.setattr(nyu, constant, wrong)
    with pytest.raises(AssertionError):
        check(tmp_path, write)


def test_numbers_that_start_at_0_are_seen(tmp_path, monkeypatch):
    one = nyu._one
    monkeypatch.setattr(nyu, "_one", lambda file, array, number: one(file, array, number % 3 + 1))
    with pytest.raises(AssertionError):
        check(tmp_path, write_mat)


def test_the_splits_are_matlabs(tmp_path):
    write_mat(tmp_path)
    train = Nyu(tmp_path, split="train", name="rooms")
    assert [train.key(i) for i in range(len(train))] == ["rooms/0002"]
    assert train[0].image.max() == 0
    assert train[0].target is not None
    assert (train[0].target == 1).all()


def test_ten_metres_is_where_the_sensor_ends(tmp_path):
    write_pngs(tmp_path)
    stored = np.full((H, W), 9999, np.uint16)
    stored[0, :4] = [0, 1, 10000, 10001]
    png = tmp_path / "test/kitchen_0001/depth_0001.png"
    png.write_bytes(imagecodecs.png_encode(stored))
    sample = Nyu(tmp_path)[0]
    assert sample.valid is not None
    assert sample.target is not None
    assert sample.valid[0, :5].tolist() == [False, True, False, False, True]
    assert sample.target[0, 1:5:3].tolist() == pytest.approx([0.001, 9.999])


def test_what_is_asked_for_or_missing_is_named(tmp_path):
    for chosen in ({"split": "val"}, {"truth": "depths"}):
        with pytest.raises(ValueError, match="split is train or test and truth raw or filled, got"):
            Nyu(tmp_path, **chosen)
    with pytest.raises(FileNotFoundError, match=r"holds neither nyu_depth_v2_labeled\.mat with"):
        Nyu(tmp_path)
    write_mat(tmp_path)
    (tmp_path / "splits.mat").unlink()
    with pytest.raises(FileNotFoundError, match=r"splits\.mat: no such file; get it from https"):
        Nyu(tmp_path)


def test_damaged_splits_are_named(tmp_path):
    write_mat(tmp_path)
    splits = tmp_path / "splits.mat"
    whole = splits.read_bytes()
    splits.write_bytes(whole[:-2])
    with pytest.raises(ValueError, match=r"splits\.mat: damaged, or no `testNdxs`: "):
        Nyu(tmp_path)
    savemat(splits, {"testNdxs": "1, 3"})
    with pytest.raises(ValueError, match=r"splits\.mat: `testNdxs` is <U4, no numbers; get it"):
        Nyu(tmp_path)
    savemat(splits, {"trainNdxs": np.array([[2]], np.uint16)})
    with pytest.raises(ValueError, match=r"no `testNdxs`: 'testNdxs'; get it from https"):
        Nyu(tmp_path)
    savemat(splits, {"testNdxs": np.array([[4], [0]], np.uint16)})
    for i, number in enumerate((4, 0)):
        with pytest.raises(ValueError, match=rf"labeled\.mat: .*: no image {number} in `images`"):
            _ = Nyu(tmp_path)[i]


def test_a_damaged_mat_is_named(tmp_path):
    write_mat(tmp_path)
    rooms = Nyu(tmp_path)
    with h5py.File(tmp_path / MAT, "a") as file:
        del file["rawDepths"]
    with pytest.raises(ValueError, match=r"another file: no image 1 in `rawDepths`; it has 29720"):
        _ = rooms[0]
    (tmp_path / MAT).write_bytes((tmp_path / MAT).read_bytes()[:5000])
    with pytest.raises(ValueError, match=r"labeled\.mat: damaged, or another file: "):
        _ = rooms[0]


def test_bad_pngs_are_named(tmp_path):
    write_pngs(tmp_path)
    rooms = Nyu(tmp_path)
    folder = tmp_path / "test/kitchen_0001"
    (folder / "depth_0001.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"depth_0001\.png"):
        _ = rooms[0]
    (folder / "depth_0001.png").write_bytes((folder / "filled_0001.png").read_bytes())
    Image.new("RGB", (561, 427)).save(folder / "rgb_0001.png")
    with pytest.raises(ValueError, match=r"rgb_0001\.png: image \(427, 561\), not \(480, 640\)"):
        _ = rooms[0]
