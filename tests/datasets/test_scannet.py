"""ScanNet: miniatures as SensReader exports them, and as Marigold's list has them."""

import shutil
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import torch
from contracts import check_dataset
from PIL import Image
from scenes import Scene, ball, room

from distill.datasets import scannet
from distill.datasets.scannet import ScanNet
from distill.types import Space

H, W = 48, 64  # a tenth of the real sizes, and of their 0.4 % of difference in shape
COLOR_H, COLOR_W = 97, 130
K = torch.tensor([[57.8, 0, 31.2], [0, 59.1, 24.3], [0, 0, 1]], dtype=torch.float64)


def in_color(K: torch.Tensor) -> torch.Tensor:
    """K of the same view at the size of the colour images."""
    across, down = COLOR_W / W, COLOR_H / H
    return torch.tensor(
        [
            [K[0, 0] * across, 0, (K[0, 2] + 0.5) * across - 0.5],
            [0, K[1, 1] * down, (K[1, 2] + 0.5) * down - 0.5],
            [0, 0, 1],
        ],
        dtype=torch.float64,
    )


ROOM, BALL = room(H, W, K), ball(H, W, K)
LARGE = {
    id(ROOM): room(COLOR_H, COLOR_W, in_color(K)),
    id(BALL): ball(COLOR_H, COLOR_W, in_color(K)),
}
SENS = {
    "scannet/scene0000_00/color/9.jpg": ROOM,
    "scannet/scene0000_00/color/10.jpg": BALL,
    "scannet/scene0707_00/color/0.jpg": BALL,
}
LIST = {
    "scannet/scene0406_02/color/000300.jpg": BALL,
    "scannet/scene0088_02/color/001100.jpg": ROOM,
}


def write_frame(root: Path, key: str, truth: Scene, seen: Scene) -> None:
    color = root / key.removeprefix("scannet/")
    depth = color.parents[1] / "depth" / f"{color.stem}.png"
    for path in (color, depth):
        path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(seen.pixels).save(color, quality=95, subsampling=0)
    millimetres = (truth.depth.nan_to_num(nan=0.0) * 1000).round().numpy().astype(np.uint16)
    depth.write_bytes(imagecodecs.png_encode(millimetres))


def as_exported(root: Path) -> None:
    for key, truth in SENS.items():
        write_frame(root, key, truth, LARGE[id(truth)])
        folder = root / key.split("/")[1] / "intrinsic"
        folder.mkdir(exist_ok=True)
        for kind, camera in (("depth", K), ("color", in_color(K))):
            whole = torch.block_diag(camera, torch.eye(1)).numpy()
            np.savetxt(folder / f"intrinsic_{kind}.txt", whole, fmt="%f")


def as_listed(root: Path) -> Path:
    """Colour at the size of the depth, no camera, and a frame that is not in the list."""
    for key, truth in LIST.items():
        write_frame(root, key, truth, truth)
    write_frame(root, "scannet/scene0088_02/color/000000.jpg", ROOM, ROOM)
    colors = [key.removeprefix("scannet/") for key in LIST]
    lines = [f"{c} {c.replace('color', 'depth').replace('jpg', 'png')}\n" for c in colors]
    (root / "list.txt").write_text("".join(lines))
    return root / "list.txt"


def check(build, scenes: dict[str, Scene]) -> None:
    check_dataset(
        build,
        scenes,
        space=Space.METRIC_DEPTH,
        depth_tolerance=5e-4,  # half a millimetre
        image_tolerance=0.01,
    )


def test_the_contract_as_exported(tmp_path):
    as_exported(tmp_path)
    check(lambda: ScanNet(tmp_path), SENS)
    torch.testing.assert_close(ScanNet(tmp_path)[0].K, K.float())


def test_the_contract_as_listed(tmp_path):
    listing = as_listed(tmp_path)
    check(lambda: ScanNet(tmp_path, listing=listing), LIST)
    assert ScanNet(tmp_path, listing=listing)[0].K is None
    assert ScanNet(tmp_path, listing=listing).key(0) == next(iter(LIST))
    assert len(ScanNet(tmp_path)) == 3


@pytest.mark.parametrize("wrong", [5000.0, 256.0])
def test_a_wrong_unit_is_seen(wrong, tmp_path, monkeypatch):
    as_exported(tmp_path)
    monkeypatch.setattr(scannet, "_MILLIMETRES", wrong)
    with pytest.raises(AssertionError):
        check(lambda: ScanNet(tmp_path), SENS)


@pytest.mark.parametrize(
    "change",
    [
        lambda K: K.T,
        lambda K: K + torch.tensor([[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]]),
        lambda K: K[[1, 0, 2]][:, [1, 0, 2]],
        lambda K: in_color(K).float(),
    ],
)
def test_a_wrong_camera_is_seen(change, tmp_path, monkeypatch):
    as_exported(tmp_path)
    read = scannet._read_camera
    monkeypatch.setattr(scannet, "_read_camera", lambda path: change(read(path)))
    with pytest.raises(AssertionError):
        check(lambda: ScanNet(tmp_path), SENS)


def test_colour_is_brought_to_the_depth(tmp_path):
    """A ramp keeps its value at each pixel's centre; a fine pattern is averaged, not sampled."""
    as_exported(tmp_path)
    ramp = np.zeros((968, 1296, 3)) + np.maximum(4 * np.arange(-1235, 61), 0)[:, None]
    stripes = np.zeros((968, 1296, 3))
    stripes[::2] = 255
    depth = tmp_path / "scene0000_00/depth/9.png"
    depth.write_bytes(imagecodecs.png_encode(np.full((480, 640), 1000, np.uint16)))
    color = tmp_path / "scene0000_00/color/9.jpg"
    for pixels in (ramp, stripes):
        Image.fromarray(pixels.astype(np.uint8)).save(color, "PNG")
        image = ScanNet(tmp_path)[0].image
        assert image.shape == (3, 480, 640)
        if pixels is ramp:
            centres = (torch.arange(612, 638) + 0.5) * 1296 / 640 - 0.5
            assert (image[:, :, 612:638] - 4 * (centres - 1235) / 255).abs().max() < 0.001
        else:
            assert (image[:, 2:-2] - 0.5).abs().max() < 0.05


def test_0_is_no_depth_and_the_rest_is(tmp_path):
    as_exported(tmp_path)
    stored = np.full((H, W), 1234, np.uint16)
    stored[0, :3] = [0, 1, 65535]
    (tmp_path / "scene0000_00/depth/9.png").write_bytes(imagecodecs.png_encode(stored))
    sample = ScanNet(tmp_path)[0]
    assert sample.valid is not None
    assert sample.target is not None
    assert sample.valid[0, :4].tolist() == [False, True, True, True]
    assert sample.target[0, 1:4].tolist() == pytest.approx([0.001, 65.535, 1.234])


@pytest.mark.parametrize("size", [(130, 90), (97, 130), (64, 47), (32, 24)])
def test_colour_of_another_view_is_named(size, tmp_path):
    as_exported(tmp_path)
    Image.new("RGB", size).save(tmp_path / "scene0000_00/color/9.jpg")
    with pytest.raises(ValueError, match=r"9\.jpg: depth \(48, 64\) but image \("):
        _ = ScanNet(tmp_path)[0]


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no such folder: .*none; ask for ScanNet at http"):
        ScanNet(tmp_path / "none")
    with pytest.raises(ValueError, match=r"no scene\*/color/\*\.jpg in .*SensReader"):
        ScanNet(tmp_path)
    as_exported(tmp_path)
    frames = ScanNet(tmp_path)
    (tmp_path / "scene0000_00/depth/9.png").rename(tmp_path / "scene0000_00/depth/8.png")
    with pytest.raises(ValueError, match=r"2 images in color and 2 in depth, 2 .* first 8; exp"):
        ScanNet(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"depth/9\.png"):
        _ = frames[0]
    shutil.rmtree(tmp_path / "scene0000_00/depth")
    with pytest.raises(FileNotFoundError, match="scene0000_00/depth"):
        ScanNet(tmp_path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("\n", r"no line in .*list\.txt; ask for"),
        ("scene/color/1.jpg\n", r"list\.txt: not a colour and a depth path: 'scene/color/1\.jpg'"),
        ("a b c\n", r"not a colour and a depth path: 'a b c'"),
        ("a b\n\na c\n", r"list\.txt: a colour image is listed twice"),
    ],
)
def test_a_bad_list_is_named(text, words, tmp_path):
    listing = tmp_path / "list.txt"
    with pytest.raises(FileNotFoundError, match=r"list\.txt"):
        ScanNet(tmp_path, listing=listing)
    listing.write_text(text)
    with pytest.raises(ValueError, match=words):
        ScanNet(tmp_path, listing=listing)


@pytest.mark.parametrize("text", ["", "1 2 3", "x " * 16])
def test_a_bad_camera_is_named(text, tmp_path):
    as_exported(tmp_path)
    path = tmp_path / "scene0000_00/intrinsic/intrinsic_depth.txt"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"intrinsic_depth\.txt: not 4 x 4 numbers: "):
        _ = ScanNet(tmp_path)[0]
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"intrinsic_depth\.txt"):
        _ = ScanNet(tmp_path)[0]
