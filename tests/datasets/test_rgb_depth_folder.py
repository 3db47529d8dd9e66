"""Paired folders in KITTI's form, other units, and pairs that do not match."""

from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import torch
from contracts import check_dataset
from PIL import Image
from scenes import Scene, ball, pinhole, room

from distill.datasets.rgb_depth_folder import RgbDepthFolder, matcher
from distill.types import Space

H, W = 20, 32
K = pinhole(H, W)


def write(root: Path, name: str, truth: Scene, *, units: float, rgb: str, depth: str) -> None:
    for path in (root / rgb / name, root / depth / name):
        path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(truth.pixels).save(root / rgb / name)
    stored = (truth.depth * units).round().nan_to_num(nan=0).numpy().astype(np.uint16)
    (root / depth / name).with_suffix(".png").write_bytes(imagecodecs.png_encode(stored))


@pytest.mark.parametrize(
    ("units", "rgb", "depth"), [(256.0, "rgb", "depth"), (1000.0, "colour/left", "mm")]
)
def test_the_contract(units, rgb, depth, tmp_path):
    scenes = {"a/0000000005.png": room(H, W, K), "b.webp": ball(H, W, K)}
    for name, truth in scenes.items():
        write(tmp_path, name, truth, units=units, rgb=rgb, depth=depth)
    check_dataset(
        lambda: RgbDepthFolder(tmp_path, name="k", rgb=rgb, depth=depth, units_per_metre=units),
        {f"k/{rgb}/{name}": truth for name, truth in scenes.items()},
        space=Space.METRIC_DEPTH,
        depth_tolerance=1 / units,
        image_tolerance=0.03,
    )


def test_zero_is_no_measurement_and_the_top_is_one(tmp_path):
    write(tmp_path, "a.png", room(H, W, K), units=256, rgb="rgb", depth="depth")
    stored = np.zeros((H, W), np.uint16)
    stored[0, 0], stored[0, 1] = 65535, 1
    (tmp_path / "depth/a.png").write_bytes(imagecodecs.png_encode(stored))
    sample = RgbDepthFolder(tmp_path, name="k")[0]
    assert sample.valid is not None
    assert sample.target is not None
    assert sample.valid.nonzero().tolist() == [[0, 0], [0, 1]]
    assert sample.target[0, :2].tolist() == [65535 / 256, 1 / 256]
    assert sample.far is None
    assert sample.K is None
    assert torch.equal(sample.target.isnan(), ~sample.valid)


def test_a_tenth_of_a_millimetre_is_no_measurement(tmp_path):
    write(tmp_path, "a.png", room(H, W, K), units=10000.0, rgb="rgb", depth="depth")
    stored = np.full((H, W), 20000, np.uint16)
    stored[0, :3] = [1, 9, 10]
    (tmp_path / "depth/a.png").write_bytes(imagecodecs.png_encode(stored))
    sample = RgbDepthFolder(tmp_path, name="k", units_per_metre=10000.0)[0]
    assert sample.valid is not None
    assert sample.valid[0, :3].tolist() == [False, False, True]
    assert sample.valid.sum() == H * W - 2


def test_folders_that_do_not_pair_up(tmp_path):
    with pytest.raises(FileNotFoundError, match="rgb: no such folder"):
        RgbDepthFolder(tmp_path, name="k")
    for folder in ("rgb", "depth"):
        (tmp_path / folder).mkdir()
    with pytest.raises(ValueError, match=r"k: 0 images in .* and 0 depth maps .* must pair up"):
        RgbDepthFolder(tmp_path, name="k")
    write(tmp_path, "a.png", room(H, W, K), units=256, rgb="rgb", depth="depth")
    for extra in ("rgb/b.png", "depth/c.png"):
        (tmp_path / extra).write_bytes((tmp_path / "rgb/a.png").read_bytes())
    with pytest.raises(ValueError, match=r"2 images .* 2 depth maps .*, 2 without .*, first 'b'"):
        RgbDepthFolder(tmp_path, name="k")
    (tmp_path / "rgb/a.jpg").write_bytes(b"")
    with pytest.raises(ValueError, match=r"rgb: a\.jpg and a\.png have one name; remove one"):
        RgbDepthFolder(tmp_path, name="k")


def test_units_and_files_are_checked(tmp_path):
    write(tmp_path, "a.png", room(H, W, K), units=256, rgb="rgb", depth="depth")
    for units in (0.0, -256.0, float("nan")):
        with pytest.raises(ValueError, match="k: units_per_metre must be positive, got"):
            RgbDepthFolder(tmp_path, name="k", units_per_metre=units)
    (tmp_path / "depth/a.png").write_bytes(imagecodecs.png_encode(np.ones((3, 4), np.uint16)))
    with pytest.raises(ValueError, match=r"k/rgb/a\.png: depth \(3, 4\) but image \(20, 32\)"):
        _ = RgbDepthFolder(tmp_path, name="k")[0]
    (tmp_path / "depth/a.png").write_bytes((tmp_path / "rgb/a.png").read_bytes())
    with pytest.raises(ValueError, match=r"a\.png: a picture in colour"):
        _ = RgbDepthFolder(tmp_path, name="k")[0]


def test_eight_bits_are_refused_unless_asked_for(tmp_path):
    write(tmp_path, "a.png", room(H, W, K), units=256, rgb="rgb", depth="depth")
    Image.fromarray(np.full((H, W), 20, np.uint8)).save(tmp_path / "depth/a.png")
    with pytest.raises(ValueError, match=r"a\.png: expected 16-bit grey or floats, got 8 bits"):
        _ = RgbDepthFolder(tmp_path, name="k")[0]
    sample = RgbDepthFolder(tmp_path, name="k", allow_8bit=True, units_per_metre=10)[0]
    assert sample.target is not None
    assert (sample.target == 2).all()


@pytest.mark.parametrize(
    ("rgb", "depth", "place"),
    [
        ("*/rgb/*", "*/depth/*", "{scene}/{kind}/{number}"),
        ("rgb/*/*", "depth/*/*", "{kind}/{scene}/{number}"),
        ("*_rgb", "*_depth", "{scene}_{number}_{kind}"),
        ("*/rgb_*", "*/depth_*", "{scene}/{kind}_{number}"),
    ],
)
def test_pairs_by_pattern_in_floats(rgb, depth, place, tmp_path):
    scenes = {}
    for scene, number, truth in (("a", "01", room(H, W, K)), ("b", "01", ball(H, W, K))):
        image, numbers = (
            tmp_path / place.format(scene=scene, number=number, kind=kind)
            for kind in ("rgb", "depth")
        )
        for path in (image, numbers):
            path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(truth.pixels).save(f"{image}.png")
        np.save(f"{numbers}.npy", truth.depth.nan_to_num(nan=-1).numpy().astype(np.float32))
        scenes[f"k/{image.relative_to(tmp_path).as_posix()}.png"] = truth
    check_dataset(
        lambda: RgbDepthFolder(tmp_path, name="k", rgb=rgb, depth=depth),
        scenes,
        space=Space.METRIC_DEPTH,
    )


def test_a_star_stands_for_a_part_of_one_name():
    match = matcher("*/rgb_*")
    assert match("a/rgb_01") == ("a", "01")
    assert match("b/a/rgb_01") is None
    assert match("a/rgb_b/01") is None
    assert matcher("rgb")("rgb/b/01") == ("b/01",)


def test_a_number_can_be_called_invalid(tmp_path):
    write(tmp_path, "a.png", ball(H, W, K), units=256, rgb="rgb", depth="depth")
    stored = np.full((H, W), 65535, np.uint16)
    stored[0, 0] = 256
    (tmp_path / "depth/a.png").write_bytes(imagecodecs.png_encode(stored))
    sample = RgbDepthFolder(tmp_path, name="k", invalid=(65535,))[0]
    assert sample.valid is not None
    assert sample.valid.nonzero().tolist() == [[0, 0]]


def test_a_pattern_whose_folder_is_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere: no such folder"):
        RgbDepthFolder(tmp_path, name="k", rgb="nowhere/*_rgb", depth="*_depth")
