"""Sintel: miniatures in the real layout, tags and all, a zoom between frames, a far sky."""

from pathlib import Path

import numpy as np
import pytest
import torch
from contracts import check_dataset
from PIL import Image
from scenes import Scene, nearest, plane, room, sphere

from distill.datasets import depth_maps, sintel
from distill.datasets.sintel import Sintel, read_cam
from distill.types import Space

H, W = 24, 40
WIDE = torch.tensor([[60.0, 0, 19.5], [0, 60, 11.5], [0, 0, 1]], dtype=torch.float64)
ZOOMED = torch.tensor([[90.0, 0, 19.5], [0, 88, 11.5], [0, 0, 1]], dtype=torch.float64)
POSE = np.arange(12.0).reshape(3, 4)
SKY = nearest(
    sphere(H, W, ZOOMED, centre=(0.1, -0.1, 3.0), radius=0.5),
    plane(H, W, ZOOMED, normal=(0.0, 0.0, -1.0), distance=7e4),
)
SCENES = {"alley_1/frame_0001": room(H, W, WIDE), "market_2/frame_0050": SKY}
KEYS = {f"sintel/training/final/{stem}.png": truth for stem, truth in SCENES.items()}


def write_image(path: Path, truth: Scene) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(truth.pixels).save(path)


def write_depth(path: Path, truth: Scene) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    header = b"PIEH" + np.array([W, H], "<i4").tobytes()
    path.write_bytes(header + truth.depth.numpy().astype("<f4").tobytes())


def write_camera(path: Path, truth: Scene) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    numbers = np.concatenate([truth.K.numpy().ravel(), POSE.ravel()])
    path.write_bytes(b"PIEH" + numbers.astype("<f8").tobytes())


def write(root: Path) -> None:
    for stem, truth in SCENES.items():
        for rendering in ("final", "clean"):
            write_image(root / f"training/{rendering}/{stem}.png", truth)
        write_depth(root / f"training/depth/{stem}.dpt", truth)
        write_camera(root / f"training/camdata_left/{stem}.cam", truth)


def check(root: Path) -> None:
    check_dataset(
        lambda: Sintel(root),
        KEYS,
        space=Space.METRIC_DEPTH,
        depth_tolerance=1e-5,
        image_tolerance=0.003,
    )


def test_the_contract(tmp_path):
    write(tmp_path)
    check(tmp_path)


def changed_depth(change):
    def mistake(monkeypatch):
        read = depth_maps.read_dpt
        monkeypatch.setattr(depth_maps, "read_dpt", lambda path: change(read(path)))

    return mistake


def transposed_camera(monkeypatch):
    monkeypatch.setattr(sintel, "read_cam", lambda path: (read_cam(path)[0].T.copy(), None))


def corner_origin(monkeypatch):
    moved = np.array([[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]])
    monkeypatch.setattr(sintel, "read_cam", lambda path: (read_cam(path)[0] - moved, None))


BIG_ENDIAN = changed_depth(lambda depth: depth.byteswap())
BOTTOM_UP = changed_depth(lambda depth: depth[::-1].copy())
SKY_DROPPED = changed_depth(lambda depth: np.where(depth < 80, depth, np.float32(np.inf)))


@pytest.mark.parametrize(
    "mistake", [BIG_ENDIAN, BOTTOM_UP, SKY_DROPPED, transposed_camera, corner_origin]
)
def test_a_mistake_is_seen(mistake, tmp_path, monkeypatch):
    write(tmp_path)
    mistake(monkeypatch)
    with pytest.raises(AssertionError):
        check(tmp_path)


def test_the_sky_is_only_far(tmp_path):
    write(tmp_path)
    sample = Sintel(tmp_path)[1]
    assert sample.far is None
    assert sample.valid is not None
    assert sample.valid.all()
    assert sample.target is not None
    assert sample.target.max().item() == pytest.approx(7e4)


def test_the_camera(tmp_path):
    write(tmp_path)
    K, cam_from_world = read_cam(tmp_path / "training/camdata_left/market_2/frame_0050.cam")
    assert K.tolist() == ZOOMED.tolist()
    assert cam_from_world.tolist() == POSE.tolist()


def test_the_rendering_is_chosen(tmp_path):
    write(tmp_path)
    clean = Sintel(tmp_path, rendering="clean", name="cartoon")
    write_image(tmp_path / "training/clean/alley_1/frame_0001.png", SKY)
    assert clean.key(0) == "cartoon/training/clean/alley_1/frame_0001.png"
    assert not torch.equal(clean[0].image, Sintel(tmp_path)[0].image)
    with pytest.raises(ValueError, match=r"rendering is one of \('final', 'clean'\), got 'albedo'"):
        Sintel(tmp_path, rendering="albedo")


def test_an_empty_or_missing_folder(tmp_path):
    for root in (tmp_path, tmp_path / "none"):
        with pytest.raises(
            FileNotFoundError, match=r"no training/final/<sequence>.*depth-training"
        ):
            Sintel(root)


def test_frames_and_depth_pair_up(tmp_path):
    write(tmp_path)
    dataset = Sintel(tmp_path)
    (tmp_path / "training/depth/alley_1/frame_0001.dpt").unlink()
    with pytest.raises(ValueError, match=r"1 frames of .* first alley_1/frame_0001; get MPI"):
        Sintel(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"frame_0001\.dpt"):
        _ = dataset[0]
    (tmp_path / "training/final/alley_1/frame_0001.png").unlink()
    assert len(Sintel(tmp_path)) == 1
    (tmp_path / "training/final/market_2/frame_0050.png").rename(tmp_path / "frame_0050.png")
    with pytest.raises(FileNotFoundError, match="no training/final"):
        Sintel(tmp_path)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (bytes(172), r"begins b'\\x00\\x00\\x00\\x00'"),
        (b"PIEH" + bytes(100), "begins b'PIEH', and 100 bytes follow; expected"),
        (b"PIEH" + bytes(168), r"no camera has these intrinsics: \[\[0\.0, 0\.0"),
        (b"PIEH" + np.full(21, np.nan).tobytes(), "no camera has these intrinsics"),
    ],
)
def test_a_damaged_camera_is_named(data, words, tmp_path):
    path = tmp_path / "frame_0001.cam"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=rf"frame_0001\.cam: {words}"):
        read_cam(path)


def test_a_resized_frame_is_refused(tmp_path):
    write(tmp_path)
    path = tmp_path / "training/final/alley_1/frame_0001.png"
    Image.open(path).resize((20, 12)).save(path)
    with pytest.raises(ValueError, match=r"frame_0001\.png: depth \(24, 40\) but image \(12, 20\)"):
        _ = Sintel(tmp_path)[0]
