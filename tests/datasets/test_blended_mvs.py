"""BlendedMVS: two-image miniatures in the real layout, bottom-up PFM, cam.txt and lists."""

import logging
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from contracts import check_dataset
from PIL import Image
from scenes import Scene, ball, room

from distill.datasets import blended_mvs, depth_maps
from distill.datasets.blended_mvs import BlendedMvs
from distill.types import Space

H, W = 36, 48
K = torch.tensor([[36.0, 0, 24.2], [0, 37.5, 17.4], [0, 0, 1]], dtype=torch.float64)
WIDE = torch.tensor([[24.0, 0, 22.5], [0, 24.0, 18.5], [0, 0, 1]], dtype=torch.float64)
FIRST, SECOND = "000000000000000000000000", "5c1f33f1d33e1f2e4aa6dda4"


def write_frame(project: Path, number: int, truth: Scene) -> None:
    """What MVSNet's format says: rows from the bottom up, `K` counted from the image's corner."""
    for folder in ("blended_images", "rendered_depth_maps", "cams"):
        (project / folder).mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(truth.pixels)
    image.save(project / f"blended_images/{number:08d}.jpg", quality=95, subsampling=0)
    masked = Image.new("RGB", (W, H))
    masked.save(project / f"blended_images/{number:08d}_masked.jpg")
    depth = truth.depth.nan_to_num(nan=0.0).numpy().astype("<f4")
    pfm = f"Pf\n{W} {H}\n-1.000000\n".encode() + depth[::-1].tobytes()
    (project / f"rendered_depth_maps/{number:08d}.pfm").write_bytes(pfm)
    k = truth.K + torch.tensor([[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]])
    (project / f"cams/{number:08d}_cam.txt").write_text(
        "extrinsic\n0.87 0.32 -0.39 0.11 \n-0.45 0.16 -0.88 0.24 \n-0.21 0.94 0.28 0.69 \n"
        "0.0 0.0 0.0 1.0 \n\nintrinsic\n"
        + "".join(" ".join(f"{x:.6f}" for x in row) + " \n" for row in k.tolist())
        + "\n1.21079 0.00412819 128.0 1.7392\n"
    )
    (project / "cams/pair.txt").write_text("1\n0\n1 0 100.0\n")


def miniature(root: Path) -> dict[str, Scene]:
    seen = {(FIRST, 0): room(H, W, K), (FIRST, 12): ball(H, W, WIDE), (SECOND, 3): ball(H, W, K)}
    for (project, number), truth in seen.items():
        write_frame(root / project, number, truth)
    return {f"blended_mvs/{p}/blended_images/{n:08d}.jpg": truth for (p, n), truth in seen.items()}


def check(root: Path) -> None:
    scenes = miniature(root)
    check_dataset(
        lambda: BlendedMvs(root),
        scenes,
        space=Space.SCALE_INVARIANT_DEPTH,
        depth_tolerance=1e-5,
        image_tolerance=0.02,
    )


def test_the_contract(tmp_path):
    check(tmp_path)


@pytest.mark.parametrize("wrong", [0.0, -0.5, 1.0])
def test_another_origin_of_pixels_is_seen(wrong, tmp_path, monkeypatch):
    monkeypatch.setattr(blended_mvs, "_CORNER", wrong)
    with pytest.raises(AssertionError):
        check(tmp_path)


def test_rows_in_another_order_are_seen(tmp_path, monkeypatch):
    upright = depth_maps.read_pfm
    monkeypatch.setattr(depth_maps, "read_pfm", lambda path: upright(path)[::-1].copy())
    with pytest.raises(AssertionError):
        check(tmp_path)


def test_what_is_no_positive_depth_is_not_valid_and_scale_is_kept(tmp_path):
    miniature(tmp_path)
    depth = np.full((H, W), 1e-4, "<f4")
    depth[-1, :4] = [0, -2, np.nan, np.inf]  # in the file the last row is the lowest
    pfm = b"Pf\n%d %d\n-1\n" % (W, H) + depth[::-1].tobytes()
    (tmp_path / FIRST / "rendered_depth_maps/00000000.pfm").write_bytes(pfm)
    sample = BlendedMvs(tmp_path)[0]
    assert sample.target is not None
    assert sample.valid is not None
    assert sample.far is None
    assert not sample.valid[-1, :4].any()
    assert sample.valid.sum() == H * W - 4
    assert sample.target[0, 0].item() == pytest.approx(1e-4)


@pytest.mark.parametrize(("pixels", "kept"), [(0, 0), (17, 0), (18, 18)])
def test_an_image_with_almost_no_depth_has_none(pixels, kept, tmp_path):
    miniature(tmp_path)
    depth = np.zeros(H * W, "<f4")
    depth[:pixels] = 2.0
    pfm = b"Pf\n%d %d\n-1\n" % (W, H) + depth.tobytes()
    (tmp_path / FIRST / "rendered_depth_maps/00000000.pfm").write_bytes(pfm)
    valid = BlendedMvs(tmp_path)[0].valid
    assert valid is not None
    assert valid.sum() == kept


def projects(dataset: BlendedMvs) -> list[str]:
    return sorted({dataset.key(i).split("/")[-3] for i in range(len(dataset))})


def test_lists_are_read_from_the_root_or_its_folder(tmp_path, caplog):
    miniature(tmp_path)
    lists = tmp_path / "project_lists"
    lists.mkdir()
    (lists / "BlendedMVS_training.txt").write_text(f"{FIRST}\n")
    (lists / "validation_list.txt").write_text(f"{SECOND}\r\n")
    (tmp_path / "BlendedMVS++.txt").write_text(f"{FIRST}\n{SECOND}\n5bfe5ae0fe0ea555e6a969ca\n")
    assert projects(BlendedMvs(tmp_path)) == [FIRST]
    assert projects(BlendedMvs(tmp_path, split="val")) == [SECOND]
    assert not caplog.records
    with caplog.at_level(logging.WARNING):
        assert projects(BlendedMvs(tmp_path, split="BlendedMVS++")) == [FIRST, SECOND]
    assert re.search(r"BlendedMVS\+\+\.txt: 1 of 3 projects are not there", caplog.text)
    (lists / "BlendedMVG_training.txt").write_text(f"{SECOND}\n")
    assert projects(BlendedMvs(tmp_path)) == [SECOND]


def test_without_lists_all_projects_are_training_data(tmp_path, caplog):
    miniature(tmp_path)
    with caplog.at_level(logging.WARNING):
        assert projects(BlendedMvs(tmp_path)) == [FIRST, SECOND]
    assert "no BlendedMVG_training.txt, every project is training data" in caplog.text
    (tmp_path / "other.txt").touch()
    with pytest.raises(ValueError, match=r"no list for 'val', only \['other'\]; copy them from ht"):
        BlendedMvs(tmp_path, split="val")


def test_one_folder_for_each_archive(tmp_path):
    miniature(tmp_path / "BlendedMVS")
    write_frame(tmp_path / "BlendedMVS+/5856ae8b804be10585241bae", 0, room(H, W, K))
    dataset = BlendedMvs(tmp_path)
    assert len(dataset) == 4
    assert dataset.key(0) == f"blended_mvs/BlendedMVS/{FIRST}/blended_images/00000000.jpg"
    (tmp_path / "BlendedMVS+" / SECOND / "blended_images").mkdir(parents=True)
    with pytest.raises(ValueError, match="1 projects are there twice; remove one"):
        BlendedMvs(tmp_path)


def test_an_empty_or_missing_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"blended_mvs: no such folder: .* holds `none/`"):
        BlendedMvs(tmp_path / "none")
    with pytest.raises(ValueError, match=r"no <project>/blended_images/0+\.jpg of split 'train'"):
        BlendedMvs(tmp_path)
    miniature(tmp_path)
    (tmp_path / "validation_list.txt").write_text("5bfe5ae0fe0ea555e6a969ca\n")
    with pytest.raises(ValueError, match=r"no <project>/blended_images/0+\.jpg of split 'val' in"):
        BlendedMvs(tmp_path, split="val")


@pytest.mark.parametrize(
    "text",
    ["", "intrinsic\n1 2 3\n4 5 6\n", "extrinsic\n1 0 0 0\n", "intrinsic\n1 x 3 4 5 6 7 8 9"],
)
def test_bad_cameras_are_named(text, tmp_path):
    miniature(tmp_path)
    (tmp_path / FIRST / "cams/00000000_cam.txt").write_text(text)
    with pytest.raises(ValueError, match=r"00000000_cam\.txt: no 3 x 3 numbers below `intrinsic`"):
        _ = BlendedMvs(tmp_path)[0]


def test_bad_files_are_named(tmp_path):
    miniature(tmp_path)
    dataset = BlendedMvs(tmp_path)
    depth = tmp_path / FIRST / "rendered_depth_maps/00000000.pfm"
    depth.write_bytes(b"Pf\n2 2\n-1\n" + np.ones(4, "<f4").tobytes())
    with pytest.raises(ValueError, match=r"00000000\.jpg: depth \(2, 2\) but image \(36, 48\)"):
        _ = dataset[0]
    depth.write_bytes(b"Pf\n48 36\n-1\n")
    with pytest.raises(ValueError, match=r"00000000\.pfm: 0 bytes behind the header"):
        _ = dataset[0]
    depth.unlink()
    with pytest.raises(FileNotFoundError, match=r"00000000\.pfm"):
        _ = dataset[0]
    (tmp_path / SECOND / "cams/00000003_cam.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"00000003_cam\.txt"):
        _ = dataset[2]
