"""ETH3D: small scenes in both layouts, wide and tall, with the truth in files called JPG."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from contracts import check_dataset
from PIL import Image
from scenes import Scene, ball, pinhole, room

from distill.datasets import eth3d
from distill.datasets.eth3d import Eth3d
from distill.types import Space

IMAGES, DEPTHS = "images/dslr_images", "ground_truth_depth/dslr_images"
WIDE, TALL = room(24, 36, pinhole(24, 36)), ball(36, 24, pinhole(36, 24))
FILES = {"office": ("DSC_0219.JPG", WIDE), "facade": ("DSC_0324.JPG", TALL)}
KEYS = {f"eth3d/{scene}/{IMAGES}/{file}": truth for scene, (file, truth) in FILES.items()}


def write_image(path: Path, truth: Scene, **options) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(truth.pixels).save(path, "JPEG", quality=95, subsampling=0, **options)


def write_depth(path: Path, truth: Scene) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(truth.depth.nan_to_num(nan=np.inf).numpy().astype("<f4").tobytes())


def as_unpacked(root: Path) -> None:
    for scene, (file, truth) in FILES.items():
        write_image(root / scene / IMAGES / file, truth)
        write_depth(root / scene / DEPTHS / file, truth)


def as_marigold(root: Path) -> None:
    for scene, (file, truth) in FILES.items():
        write_image(root / "rgb" / scene / IMAGES / file, truth)
        write_depth(root / "depth" / f"{scene}_dslr_depth" / scene / DEPTHS / file, truth)


def check(root: Path) -> None:
    check_dataset(
        lambda: Eth3d(root),
        KEYS,
        space=Space.METRIC_DEPTH,
        depth_tolerance=1e-6,
        image_tolerance=0.02,
    )


@pytest.mark.parametrize("write", [as_unpacked, as_marigold])
def test_the_contract(write, tmp_path):
    write(tmp_path)
    assert len(KEYS) == 2
    check(tmp_path)
    assert Eth3d(tmp_path)[0].K is None


@pytest.mark.parametrize(
    ("constant", "wrong"),
    [("_METRES", np.dtype(">f4")), ("_METRES", np.dtype("<i4"))],
)
def test_a_wrong_constant_is_seen(constant, wrong, tmp_path, monkeypatch):
    as_unpacked(tmp_path)
    monkeypatch.setattr(eth3d, constant, wrong)
    with pytest.raises(AssertionError):
        check(tmp_path)


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_the_truth_fits_the_pixels_as_stored(orientation, tmp_path):
    as_unpacked(tmp_path)
    exif = Image.Exif()
    exif[0x0112] = orientation
    for scene, (file, truth) in FILES.items():
        write_image(tmp_path / scene / IMAGES / file, truth, exif=exif)
    check(tmp_path)


def test_a_mirrored_image_is_refused(tmp_path):
    as_unpacked(tmp_path)
    exif = Image.Exif()
    exif[0x0112] = 2
    write_image(tmp_path / "office" / IMAGES / "DSC_0219.JPG", WIDE, exif=exif)
    with pytest.raises(ValueError, match=r"DSC_0219\.JPG: EXIF orientation 2 .* exiftool -Orient"):
        _ = Eth3d(tmp_path)[1]


def test_zero_is_no_depth_either(tmp_path):
    as_unpacked(tmp_path)
    depth = tmp_path / "office" / DEPTHS / "DSC_0219.JPG"
    stored = np.full((24, 36), 7.5, "<f4")
    stored[0, :4] = [0, -1, np.inf, np.nan]
    depth.write_bytes(stored.tobytes())
    sample = Eth3d(tmp_path)[1]
    assert sample.valid is not None
    assert sample.target is not None
    assert sample.valid[0, :5].tolist() == [False] * 4 + [True]
    assert (sample.target[1:] == 7.5).all()


def test_undistorted_images_are_never_read(tmp_path):
    as_unpacked(tmp_path)
    for scene, (file, truth) in FILES.items():
        shutil.rmtree(tmp_path / scene / "images")
        write_image(tmp_path / scene / "images/dslr_images_undistorted" / file, truth)
    with pytest.raises(
        FileNotFoundError, match=r"no <scene>/images/dslr_images/\*\.JPG in .* fits"
    ):
        Eth3d(tmp_path)


def test_an_empty_or_missing_folder(tmp_path):
    for root in (tmp_path, tmp_path / "none"):
        with pytest.raises(FileNotFoundError, match=r"get <scene>_dslr_jpg\.7z and <scene>_dslr_d"):
            Eth3d(root)


def test_images_and_depth_pair_up(tmp_path):
    as_unpacked(tmp_path)
    depth = tmp_path / "office" / DEPTHS / "DSC_0219.JPG"
    dataset = Eth3d(tmp_path)
    depth.rename(depth.with_name("DSC_0220.JPG"))
    with pytest.raises(ValueError, match=r"1 images and .* 1 depth maps, 2 .* first DSC_0219\.JPG"):
        Eth3d(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"ground_truth_depth/dslr_images/DSC_0219\.JPG"):
        _ = dataset[1]
    shutil.rmtree(tmp_path / "office/ground_truth_depth")
    with pytest.raises(ValueError, match=r"1 images and .* 0 depth maps, 1 without a partner"):
        Eth3d(tmp_path)


def test_a_depth_of_another_size_is_named(tmp_path):
    as_unpacked(tmp_path)
    depth = tmp_path / "office" / DEPTHS / "DSC_0219.JPG"
    for data in (depth.read_bytes()[:-4], b"\xff\xd8\xff\xe0"):
        depth.write_bytes(data)
        with pytest.raises(ValueError, match=r"bytes, but DSC_0219\.JPG has 36 x 24 pixels of 4"):
            _ = Eth3d(tmp_path)[1]
