"""Known sets by their folders: each is recognised, and as nothing else."""

from pathlib import Path

import pytest
import torch
from depth_pictures import picture, stored, street, write_png
from PIL import Image

from distill.datasets import published
from distill.datasets.virtual_kitti2 import VirtualKitti2
from distill.evaluation import benchmarks
from distill.inspection import layouts
from distill.inspection.inspect import inspect
from distill.worlds.drives import SPLIT

FILES = {
    "Hypersim": "ai_001_001/images/scene_cam_00_geometry_hdf5/frame.0000.depth_meters.hdf5",
    "Virtual KITTI 2": "Scene01/clone/frames/depth/Camera_0/depth_00000.png",
    "TartanAir": "abandonedfactory/abandonedfactory/Easy/P000/depth_left/000000_left_depth.npy",
    "IRS": "Home/ArchVizInterior03Data/d_00001.exr",
    "BlendedMVS": "5c1f33f1d33e1f2e4aa6dda4/rendered_depth_maps/00000000.pfm",
    "NYU Depth v2": "nyu_depth_v2_labeled.mat",
    "rendered drives in KITTI raw's layout": "splits/drives/train_files.txt",
    "KITTI with annotated depth": "data_depth_annotated/val/2011_09_26_drive_0002_sync/x",
    "KITTI raw": "2011_09_26/2011_09_26_drive_0001_sync/image_02/data/0000000000.png",
    "ETH3D": "office/ground_truth_depth/dslr_images/DSC_0219.JPG",
    "DIODE": "val/indoors/scene_00019/scan_00183/00019_00183_indoors_000_010.png",
    "MPI Sintel": "training/depth/alley_1/frame_0001.dpt",
    "iBims-1": "ibims1_core_raw/rgb/corridor_01.png",
    "Middlebury": "Adirondack-perfect/disp0.pfm",
    "DDAD": "ddad_train_val/ddad.json",
    "ScanNet": "scene0406_02/depth/000300.png",
    "DA-2K": "DA-2K/annotations.json",
}


def test_every_row_is_tested():
    assert [row.title for row in layouts.LAYOUTS] == list(FILES)


@pytest.mark.parametrize("title", FILES)
def test_a_layout_is_recognised_as_itself(title: str, tmp_path: Path):
    root = tmp_path / "set"
    path = root / FILES[title]
    path.parent.mkdir(parents=True)
    path.touch()
    rows = [r.title for r in layouts.LAYOUTS if any(any(root.glob(m)) for m in r.marks)]
    assert rows == [title]
    assert {p: row.title for p, row in layouts.recognise_below(tmp_path).items()} == {root: title}


def test_rendered_drives_are_not_taken_for_the_real_set(tmp_path: Path):
    """They have `data_depth_annotated` too, and none of the frames that KITTI's lists name."""
    for path in ("data_depth_annotated/train/x", "splits/drives/train_files.txt"):
        (tmp_path / path).parent.mkdir(parents=True)
        (tmp_path / path).touch()
    row = layouts.recognise(tmp_path)
    assert row is not None
    assert (row.title, *row.parts) == ("rendered drives in KITTI raw's layout", "train", "val")
    assert row.parts["val"] == {"split": SPLIT, "part": "val"}


def test_rows_name_readers_benchmarks_and_counts_that_exist():
    for row in layouts.LAYOUTS:
        assert row.benchmark is None or benchmarks.find(row.benchmark)
        assert published.published(row.reader.__name__), f"no published count of {row.title}"
    readers = {row.reader.__name__ for row in layouts.LAYOUTS}
    assert {row.reader for row in published.COUNTS} <= readers


def write_vkitti(root: Path, frames: int = 3) -> Path:
    for n in range(frames):
        depth = street(seed=n)
        for kind, name in (("rgb", f"rgb_{n:05d}.jpg"), ("depth", f"depth_{n:05d}.png")):
            folder = root / f"Scene0{1 + n % 2}/clone/frames/{kind}/Camera_0"
            folder.mkdir(parents=True, exist_ok=True)
            if kind == "rgb":
                Image.fromarray(picture(*depth.shape)).save(folder / name)
            else:
                write_png(folder / name, stored(depth, 100, sky=65535))
    header = "frame cameraID K[0,0] K[1,1] K[0,2] K[1,2]\n"
    lines = "".join(f"{n} 0 200 200 149.5 47.5\n" for n in range(frames))
    for scene in root.iterdir():
        (scene / "clone/intrinsic.txt").write_text(header + lines)
    return root


def test_a_known_set_is_read_by_its_reader(tmp_path: Path):
    found = inspect(write_vkitti(tmp_path / "data/vk2"), out=tmp_path / "sheet.png")
    assert found.layout == "Virtual KITTI 2"
    assert found.parts == {"": 3}
    assert found.depth is not None
    assert (found.depth.unit.name, found.depth.unit.sure) == ("metres", "known")
    assert found.depth.range is not None
    assert found.depth.range[0] > 2
    assert found.depth.range[4] == pytest.approx(85, abs=1)
    assert (found.warnings, found.refused) == ([], None)
    (line,) = found.recipe
    opened = eval(line, {"VirtualKitti2": VirtualKitti2, "Path": Path})  # noqa: S307 our own line
    assert len(opened) == 3
    assert Image.open(tmp_path / "sheet.png").size[0] > 1000
    torch.testing.assert_close(opened[0].image, VirtualKitti2(tmp_path / "data/vk2")[0].image)


def test_the_folder_above_a_set_will_do_and_one_above_two_is_asked_about(tmp_path: Path):
    write_vkitti(tmp_path / "vk2")
    found = inspect(tmp_path)
    assert found.layout == "Virtual KITTI 2"
    assert found.warnings == [f"looked at {tmp_path / 'vk2'}, which is the root of the set"]
    write_vkitti(tmp_path / "other")
    with pytest.raises(ValueError, match=r"several sets; inspect them one by one:\n.*other  Virt"):
        inspect(tmp_path)


def test_a_set_in_a_wrong_unit_is_doubted(tmp_path: Path):
    write_vkitti(tmp_path)
    for path in tmp_path.rglob("depth_*.png"):
        write_png(path, stored(street() / 4, 100))
    (doubt,) = inspect(tmp_path).warnings
    assert "Virtual KITTI 2 has 3 to 200 m there: is it the original?" in doubt


def test_a_set_that_its_reader_refuses_is_looked_at_as_what_it_is(tmp_path: Path):
    folder = tmp_path / "images/dog"
    folder.mkdir(parents=True)
    Image.fromarray(picture(20, 30)).save(folder / "1.jpg")
    (tmp_path / "annotations.json").write_text('{"images": [], "annotations": []}')  # COCO's
    found = inspect(tmp_path)
    assert found.layout.startswith("images without depth")
    assert "it looks like DA-2K, but its reader says: " in found.warnings[0]
