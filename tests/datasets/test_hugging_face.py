"""Prepared Hugging Face data sets, saved or loaded, whatever their column of images is."""

import io
from pathlib import Path

import datasets
import numpy as np
import pytest
from contracts import check_dataset
from PIL import Image
from scenes import ball, pinhole, room

from distill.datasets.hugging_face import HuggingFace

H, W = 24, 40
SCENES = (room(H, W, pinhole(H, W)), ball(H, W, pinhole(H, W)))


def png(number: int) -> bytes:
    pixels = (SCENES[number % 2].image.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
    pixels[0, 0, 0] = number
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "PNG")
    return data.getvalue()


def prepared(count: int = 4) -> datasets.Dataset:
    features = datasets.Features({"image": datasets.Image(), "n": datasets.Value("int32")})
    values = [{"bytes": png(n), "path": None} for n in range(count)]
    return datasets.Dataset.from_dict({"image": values, "n": list(range(count))}, features)


def test_the_contract(tmp_path: Path):
    prepared().save_to_disk(str(tmp_path / "saved"))
    scenes = {f"photos/{n:09d}": SCENES[n % 2] for n in range(4)}
    check_dataset(lambda: HuggingFace(tmp_path / "saved"), scenes, space=None)
    check_dataset(lambda: HuggingFace(prepared()), scenes, space=None)


def test_splits_and_bytes(tmp_path: Path):
    both = datasets.DatasetDict({"train": prepared(3), "val": prepared(2)})
    both.save_to_disk(str(tmp_path / "saved"))
    images = HuggingFace(tmp_path / "saved", split="val", name="web")
    assert [images.encoded(n) for n in range(2)] == [png(0), png(1)]
    with pytest.raises(IndexError):
        images[2]


def test_a_folder_is_loaded_by_its_library(tmp_path: Path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    prepared().to_parquet(str(tmp_path / "set" / "train-00000.parquet"))
    images = HuggingFace(tmp_path / "set")
    assert images.encoded(3) == png(3)


def test_images_that_lie_beside(tmp_path: Path):
    path = tmp_path / "a.png"
    path.write_bytes(png(0))
    rows = {"image": [{"bytes": None, "path": str(path)}, None]}
    features = datasets.Features({"image": datasets.Image()})
    images = HuggingFace(datasets.Dataset.from_dict(rows, features))
    assert images.encoded(0) == png(0)
    with pytest.raises(ValueError, match="photos/000000001: the row holds no image"):
        images.encoded(1)
    path.unlink()
    with pytest.raises(FileNotFoundError):
        images[0]


def test_a_wrong_column_is_named():
    with pytest.raises(ValueError, match=r"no column 'n' of images; there are image \(Image"):
        HuggingFace(prepared(), column="n")
    with pytest.raises(ValueError, match="photos: no row"):
        HuggingFace(prepared().select([]))


def test_only_the_column_is_read_whatever_the_format():
    features = datasets.Features({"image": datasets.Image(), "depth": datasets.Image()})
    row = {"image": {"bytes": png(3), "path": None}, "depth": {"bytes": b"none", "path": None}}
    rows = datasets.Dataset.from_list([row], features)
    other = rows.with_transform(lambda batch: {"x": [0] * len(batch["image"])})
    for source in (rows, rows.with_format("torch"), rows.with_format(columns=["depth"]), other):
        assert HuggingFace(source).encoded(0) == png(3)


def test_columns_of_bytes_and_of_structs():
    plain = datasets.Dataset.from_dict({"image": [png(1)]})
    struct = datasets.Dataset.from_dict({"image": [{"bytes": png(1), "id": 4}]})
    for source in (plain, struct):
        assert HuggingFace(source).encoded(0) == png(1)


def test_a_split_that_was_not_saved_is_named(tmp_path: Path):
    datasets.DatasetDict({"train": prepared(1)}).save_to_disk(str(tmp_path / "saved"))
    with pytest.raises(ValueError, match="saved: no split 'test'; there are train"):
        HuggingFace(tmp_path / "saved", split="test")
