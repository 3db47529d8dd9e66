"""Pairs in the layouts that people use, and what is left alone."""

from pathlib import Path

import numpy as np
import pytest
from depth_pictures import picture, room, stored, write_npy, write_pairs, write_png
from PIL import Image

from distill.datasets.rgb_depth_folder import RgbDepthFolder
from distill.inspection import pairing, sources
from distill.inspection.pairing import find_pairs

MAPS = [stored(room(12, 16, seed=n), 1000) for n in range(4)]
LAYOUTS = {  # image, depth, the patterns that are proposed
    "KITTI's": ("rgb/{n:04d}.jpg", "depth/{n:04d}.png", "rgb", "depth"),
    "other words": ("A/x{n}.jpg", "B/x{n}.png", "A", "B"),
    "in one folder": ("rgb_{n:04d}.jpg", "depth_{n:04d}.png", "rgb_*", "depth_*"),
    "endings": ("d/{n:04d}_rgb.png", "d/{n:04d}_depth.png", "d/*_rgb", "d/*_depth"),
    "both": ("color/f_{n}_rgb.png", "gt/f_{n}_depth.png", "color/*_rgb", "gt/*_depth"),
    "scenes": ("{scene}/rgb/{n}.jpg", "{scene}/depth/{n}.png", "*/rgb/*", "*/depth/*"),
    "scenes below": ("rgb/{scene}/{n}.jpg", "depth/{scene}/{n}.png", "rgb/*/*", "depth/*/*"),
    "left": ("image_left/{n}.png", "depth_left/{n}.png", "image_left", "depth_left"),
    "a folder each": ("{n}/rgb.png", "{n}/depth.png", "*/rgb*", "*/depth*"),
    "scenes with words": ("{scene}/rgb_{n}.jpg", "{scene}/depth_{n}.png", "*/rgb_*", "*/depth_*"),
    "scenes with words twice": (
        *("{scene}/rgb/rgb_{n}.jpg", "{scene}/depth/depth_{n}.png"),
        *("*/rgb/rgb_*", "*/depth/depth_*"),
    ),
    "two folders of no words": ("A/rgb_{n}.jpg", "B/depth_{n}.png", "A/rgb_*", "B/depth_*"),
    "beginnings that are no words": ("im/foo_{n}.jpg", "z/bar_{n}.png", None, None),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_pairs_are_found_and_the_patterns_open_them(name: str, tmp_path: Path):
    rgb, depth, *patterns = LAYOUTS[name]
    write_pairs(tmp_path, MAPS, rgb=rgb, depth=depth)
    found = find_pairs(tmp_path)
    assert found is not None
    expected = sorted(
        (rgb.format(n=n, scene="ab"[n % 2]), depth.format(n=n, scene="ab"[n % 2])) for n in range(4)
    )
    assert found.pairs == expected
    assert (found.images, found.depths) == ([], [])
    assert [found.rgb, found.depth] == patterns
    if found.rgb and found.depth:
        opened = RgbDepthFolder(tmp_path, name="k", rgb=found.rgb, depth=found.depth)
        assert [opened.key(n) for n in range(4)] == [f"k/{image}" for image, _ in expected]


def test_masks_and_normals_and_the_other_camera_are_no_depth(tmp_path: Path):
    write_pairs(
        tmp_path, MAPS, rgb="image_left/{n}.png", depth="depth_left/{n}.npy", write=write_npy
    )
    write_pairs(tmp_path, MAPS, rgb="image_right/{n}.png", depth="depth_right/{n}.png")
    for other in ("mask", "normals", "depth_mask", "seg_left"):
        (tmp_path / other).mkdir()
        for n in range(4):
            write_npy(tmp_path / other / f"{n}.npy", MAPS[n])
    found = find_pairs(tmp_path)
    assert found is not None
    sides = {tuple("left" in path for path in pair) for pair in found.pairs}
    assert sides == {(True, True), (False, False)}
    assert len(found.pairs) == 8


@pytest.mark.parametrize(
    "name", ["mask/{n:04d}.npy", "depth_mask/{n:04d}.npy", "normals/{n:04d}.npy"]
)
def test_images_with_masks_alone_have_no_depth(name: str, tmp_path: Path):
    write_pairs(tmp_path, MAPS, depth=name, write=write_npy)
    assert find_pairs(tmp_path) is None


def test_depth_is_preferred_to_disparity_even_if_there_is_less(tmp_path: Path):
    write_pairs(tmp_path, MAPS)
    write_pairs(tmp_path, MAPS, depth="disparity/{n:04d}.png")
    (tmp_path / "depth/0003.png").unlink()
    found = find_pairs(tmp_path)
    assert found is not None
    assert {depth.split("/")[0] for _, depth in found.pairs} == {"depth"}
    assert found.images == ["rgb/0003.jpg"]


def test_who_has_no_partner_is_named(tmp_path: Path):
    write_pairs(tmp_path, MAPS)
    (tmp_path / "rgb/0009.jpg").write_bytes((tmp_path / "rgb/0000.jpg").read_bytes())
    (tmp_path / "depth/0001x.png").write_bytes((tmp_path / "depth/0001.png").read_bytes())
    found = find_pairs(tmp_path)
    assert found is not None
    assert len(found.pairs) == 4
    assert (found.images, found.depths) == (["rgb/0009.jpg"], ["depth/0001x.png"])


def test_a_scene_that_lacks_its_depth_is_named(tmp_path: Path):
    write_pairs(tmp_path, MAPS, rgb="{scene}/rgb/{n}.jpg", depth="{scene}/depth/{n}.png")
    write_pairs(tmp_path, MAPS[:1], rgb="c/rgb/{n}.jpg", depth="c/depth/{n}.png")
    (tmp_path / "c/depth/0.png").unlink()
    found = find_pairs(tmp_path)
    assert found is not None
    assert found.images == ["c/rgb/0.jpg"]


def test_depth_of_another_scene_is_never_taken(tmp_path: Path):
    for scene in "abc":
        write_pairs(tmp_path, MAPS, rgb=f"{scene}/rgb_{{n}}.jpg", depth=f"{scene}/depth_{{n}}.png")
    for lost in (*tmp_path.glob("a/depth_*"), *tmp_path.glob("b/rgb_*")):
        lost.unlink()
    found = find_pairs(tmp_path)
    assert found is not None
    assert {pair[0][0] + pair[1][0] for pair in found.pairs} == {"cc"}
    assert {path[0] for path in found.images} == {"a"}
    assert {path[0] for path in found.depths} == {"b"}


@pytest.mark.parametrize("depth", ["depth/{n:04d}.png", "grey/{n:04d}.png", "depth/{n:04d}.jpg"])
def test_eight_bit_pictures_of_depth_are_depth(depth: str, tmp_path: Path):
    def write(path: Path, values: np.ndarray) -> None:
        Image.fromarray((values // 256).astype(np.uint8)).save(path)

    write_pairs(tmp_path, MAPS, depth=depth, write=write)
    found = find_pairs(tmp_path)
    assert found is not None
    assert len(found.pairs) == 4


def test_photographs_alone_are_no_pairs(tmp_path: Path):
    for n in range(3):
        Image.fromarray(picture(12, 16)).save(tmp_path / f"IMG_{n}.jpg")
        Image.fromarray(picture(12, 16)[..., 0]).save(tmp_path / f"grey_{n}.png")
    np.save(tmp_path / "embeddings.npy", np.zeros(3))
    assert find_pairs(tmp_path) is None


def test_depth_of_other_names_is_not_dropped_in_silence(tmp_path: Path):
    write_pairs(tmp_path, MAPS, rgb="rgb/left{n}.jpg", depth="depth/77{n}5.png")
    found = find_pairs(tmp_path)
    assert found is not None
    assert (len(found.pairs), len(found.images), len(found.depths)) == (0, 4, 4)


def test_depth_without_images(tmp_path: Path):
    (tmp_path / "depth").mkdir()
    write_png(tmp_path / "depth/1.png", MAPS[0])
    found = find_pairs(tmp_path)
    assert found is not None
    assert found.depths == ["depth/1.png"]


def test_very_many_files_are_cut_and_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_pairs(tmp_path, MAPS, rgb="{n}_rgb.jpg", depth="{n}_depth.png")
    found = find_pairs(tmp_path)
    assert found is not None
    assert not found.cut
    monkeypatch.setattr(pairing, "MOST", 6)
    found = find_pairs(tmp_path)
    assert found is not None
    assert (len(found.pairs), found.cut) == (3, True)
    monkeypatch.setattr(sources, "MOST", 6)
    assert sources.open_source(tmp_path).doubts == ["only the first 6 files were looked at"]
