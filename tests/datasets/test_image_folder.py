"""A folder of photographs: keys, order, damage, memory."""

import pickle
import tracemalloc

import numpy as np
import pytest
from contracts import check_dataset
from PIL import Image
from scenes import ball, pinhole, room

from distill.datasets.image_folder import ImageFolder

H, W = 20, 32


def test_the_contract(tmp_path):
    scenes = {"b.png": room(H, W, pinhole(H, W)), "a/ä b.webp": ball(H, W, pinhole(H, W))}
    for name, truth in scenes.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        pixels = (truth.image.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / name, lossless=True)
    (tmp_path / "notes.txt").touch()
    check_dataset(
        lambda: ImageFolder(tmp_path),
        {f"photos/{name}": truth for name, truth in scenes.items()},
        space=None,
    )
    folder = ImageFolder(tmp_path, name="mine")
    assert [folder.key(i) for i in range(2)] == ["mine/a/ä b.webp", "mine/b.png"]
    assert folder.path(1) == tmp_path / "b.png"
    assert folder.key(-1) == "mine/b.png"


def test_same_names_in_other_folders_and_formats_have_other_keys(tmp_path):
    for name in ("a.png", "a.jpg", "x/a.png", "x/y/a.png", "x-y/a.png", "A.PNG"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    folder = ImageFolder(tmp_path)
    keys = [folder.key(i) for i in range(len(folder))]
    assert len(set(keys)) == 6
    assert keys == sorted(keys)


def test_an_empty_or_missing_folder(tmp_path):
    with pytest.raises(ValueError, match=r"photos: no image in .*; give a folder with files such"):
        ImageFolder(tmp_path)
    with pytest.raises(FileNotFoundError, match="no such folder of images"):
        ImageFolder(tmp_path / "none")


def test_what_systems_leave_beside_is_no_photograph_an_empty_file_is(tmp_path):
    for name in ("a.jpg", "._a.jpg", "__MACOSX/a.jpg", ".trash/a.jpg", "x/__MACOSX/a.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    folder = ImageFolder(tmp_path)
    assert [folder.key(i) for i in range(len(folder))] == ["photos/a.jpg"]


def test_damage_is_found_on_reading_and_named(tmp_path):
    (tmp_path / "zero.jpg").touch()
    folder = ImageFolder(tmp_path)
    with pytest.raises(ValueError, match=r"zero\.jpg: damaged, or not an image: an empty file"):
        _ = folder[0]
    (tmp_path / "zero.jpg").unlink()
    with pytest.raises(FileNotFoundError, match=r"zero\.jpg"):
        _ = folder[0]


def test_many_files_cost_little(tmp_path):
    """Less than 60 bytes a file whose path has 20, and nothing is opened."""
    for i in range(3000):
        if i % 1000 == 0:
            (tmp_path / f"{i:06d}").mkdir()
        (tmp_path / f"{i // 1000 * 1000:06d}" / f"img{i:06d}.jpg").touch()
    tracemalloc.start()
    folder = ImageFolder(tmp_path)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(folder) == 3000
    assert folder.key(2999) == "photos/002000/img002999.jpg"
    assert len(pickle.dumps(folder)) < 60 * 3000
    assert held < 60 * 3000 + 50_000
