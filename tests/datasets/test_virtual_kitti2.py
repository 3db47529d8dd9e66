"""Virtual KITTI 2: two-image miniatures in the real layout, sky and all."""

import re
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import torch
from contracts import check_dataset, check_sky
from PIL import Image
from scenes import Scene, ball, room

from distill.datasets.virtual_kitti2 import TRAIN, VAL, VirtualKitti2
from distill.types import Space

H, W = 30, 100
K = torch.tensor([[72.50087, 0, 49.5], [0, 72.50087, 14.5], [0, 0, 1]], dtype=torch.float64)
RIGHT = torch.tensor([[72.50087, 0, 44.5], [0, 71.0, 15.5], [0, 0, 1]], dtype=torch.float64)
HEADER = "frame cameraID K[0,0] K[1,1] K[0,2] K[1,2]"


def write_frame(root: Path, drive: str, camera: int, frame: int, truth: Scene) -> str:
    """An image and its depth in centimetres, 65535 where nothing is hit; the key."""
    frames = root / drive / "frames"
    image = f"rgb/Camera_{camera}/rgb_{frame:05d}.jpg"
    depth = frames / f"depth/Camera_{camera}/depth_{frame:05d}.png"
    for path in (frames / image, depth):
        path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(truth.pixels).save(frames / image, quality=95, subsampling=0)
    centimetres = (truth.depth * 100).round().nan_to_num(nan=65535).numpy().astype(np.uint16)
    depth.write_bytes(imagecodecs.png_encode(centimetres))
    return f"virtual_kitti2/{drive}/frames/{image}"


def write_intrinsics(root: Path, drive: str, cameras: dict[tuple[int, int], torch.Tensor]) -> None:
    lines = [
        f"{frame} {camera} {k[0, 0]:.5f} {k[1, 1]:.5f} {k[0, 2]:g} {k[1, 2]:g}"
        for (frame, camera), k in cameras.items()
    ]
    (root / drive / "intrinsic.txt").write_text("\n".join([HEADER, *lines]) + "\n")


def miniature(root: Path) -> dict[str, Scene]:
    """Two frames of the left camera with different K, and one of the right camera."""
    left, sky, right = room(H, W, K), ball(H, W, RIGHT), room(H, W, RIGHT)
    scenes = {
        write_frame(root, "Scene01/clone", 0, 1, left): left,
        write_frame(root, "Scene20/15-deg-left", 0, 446, sky): sky,
    }
    write_frame(root, "Scene01/clone", 1, 1, right)
    write_intrinsics(root, "Scene01/clone", {(0, 0): RIGHT, (1, 0): K, (1, 1): RIGHT})
    write_intrinsics(root, "Scene20/15-deg-left", {(446, 0): RIGHT})
    return scenes


def test_the_contract(tmp_path):
    scenes = miniature(tmp_path)
    assert "virtual_kitti2/Scene01/clone/frames/rgb/Camera_0/rgb_00001.jpg" in scenes
    check_dataset(
        lambda: VirtualKitti2(tmp_path),
        scenes,
        space=Space.METRIC_DEPTH,
        depth_tolerance=0.006,  # half a centimetre
        image_tolerance=0.02,
    )


def test_the_sky_is_far_and_becomes_disparity_zero(tmp_path):
    miniature(tmp_path)
    check_sky(VirtualKitti2(tmp_path, scenes=["Scene20"])[0])


def test_centimetres_and_both_ends_of_the_range(tmp_path):
    miniature(tmp_path)
    depth = tmp_path / "Scene01/clone/frames/depth/Camera_0/depth_00001.png"
    stored = np.full((H, W), 12345, np.uint16)
    stored[0, :4] = [0, 1, 65534, 65535]
    depth.write_bytes(imagecodecs.png_encode(stored))
    sample = VirtualKitti2(tmp_path)[0]
    assert sample.target is not None
    assert sample.valid is not None
    assert sample.far is not None
    assert sample.target[0, 1:3].tolist() == pytest.approx([0.01, 655.34])
    assert sample.target[1, 0].item() == pytest.approx(123.45)
    assert sample.valid[0, :4].tolist() == [False, True, True, False]
    assert sample.far[0, :4].tolist() == [False, False, False, True]


def test_scenes_variations_and_cameras_are_chosen(tmp_path):
    miniature(tmp_path)
    right = VirtualKitti2(tmp_path, scenes=["Scene01"], cameras=("Camera_1",), name="vk")
    assert [right.key(i) for i in range(len(right))] == [
        "vk/Scene01/clone/frames/rgb/Camera_1/rgb_00001.jpg"
    ]
    torch.testing.assert_close(right[0].K, RIGHT.float())
    both = VirtualKitti2(
        tmp_path, scenes=["Scene01"], variations=["clone"], cameras=["Camera_1", "Camera_0"]
    )
    assert [both.key(i).split("/")[5] for i in range(2)] == ["Camera_0", "Camera_1"]


def test_the_split_by_scenes(tmp_path):
    scenes = [f"Scene{number:02}" for number in (1, 2, 6, 18, 20)]
    assert sorted((*TRAIN, *VAL)) == scenes
    miniature(tmp_path)
    val = VirtualKitti2(tmp_path, scenes=VAL)
    assert [val.key(i).split("/")[1] for i in range(len(val))] == ["Scene01"]


@pytest.mark.parametrize(
    ("chosen", "words"),
    [
        ({"scenes": ["Scene02"]}, "no Scene02; there are Scene01, Scene20"),
        ({"scenes": ["Scene01"], "variations": ["fog"]}, "no fog; there are clone"),
        ({"cameras": ["Camera_7"]}, "no Camera_7; there are Camera_0, Camera_1"),
        ({"cameras": []}, "unpack vkitti_2.0.3_rgb.tar"),
    ],
)
def test_what_is_not_there_is_named(chosen, words, tmp_path):
    miniature(tmp_path)
    with pytest.raises(ValueError, match=words):
        VirtualKitti2(tmp_path, **chosen)


def test_an_empty_or_missing_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="virtual_kitti2: no such folder") as caught:
        VirtualKitti2(tmp_path / "none")
    for words in ("Virtual KITTI 2 from https://europe.naver", "--data .* holds `none/`"):
        assert re.search(words, str(caught.value))
    with pytest.raises(ValueError, match="no SceneXX/<variation>/frames"):
        VirtualKitti2(tmp_path)
    (tmp_path / "Scene01/clone").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match="Scene01/clone/frames/rgb"):
        VirtualKitti2(tmp_path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", r"the first line must be .*, got \[\]"),
        ("frame cameraID K[0,0]\n", r"the first line must be 'frame cameraID K\[0,0\] K\[1,1\]"),
        (f"{HEADER}\n1 0 72 72 49\n", "not 6 numbers: '1 0 72 72 49'"),
        (f"{HEADER}\n1 0 72 72 49 x\n", "not 6 numbers: '1 0 72 72 49 x'"),
        (f"{HEADER}\n2 0 72 72 49 14\n", r"intrinsic\.txt: no line for frame 1 of camera 0"),
    ],
)
def test_bad_intrinsics_are_named(text, words, tmp_path):
    miniature(tmp_path)
    (tmp_path / "Scene01/clone/intrinsic.txt").write_text(text)
    with pytest.raises(ValueError, match=words):
        _ = VirtualKitti2(tmp_path)[0]


def test_bad_frames_are_named(tmp_path):
    miniature(tmp_path)
    depth = tmp_path / "Scene01/clone/frames/depth/Camera_0/depth_00001.png"
    depth.write_bytes(imagecodecs.png_encode(np.ones((H, W), np.uint8)))
    with pytest.raises(ValueError, match=r"depth_00001\.png: expected 16-bit grey"):
        _ = VirtualKitti2(tmp_path)[0]
    depth.write_bytes(imagecodecs.png_encode(np.ones((H, W // 2), np.uint16)))
    with pytest.raises(ValueError, match=r"rgb_00001\.jpg: depth \(30, 50\) but image \(30, 100\)"):
        _ = VirtualKitti2(tmp_path)[0]
    depth.unlink()
    with pytest.raises(FileNotFoundError, match=r"depth_00001\.png"):
        _ = VirtualKitti2(tmp_path)[0]
    (tmp_path / "Scene20/15-deg-left/intrinsic.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"intrinsic\.txt"):
        _ = VirtualKitti2(tmp_path)[1]
