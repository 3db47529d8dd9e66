"""The `distill labels` verb on stores that are sound, damaged, unfinished and empty."""

import json

import numpy as np
import pyarrow.parquet
import pytest
import torch
from label_stores import KEYS, meta, write_store
from PIL import Image

from distill.cli import main
from distill.job import PartialFailure
from distill.labels.account import stats, verify
from distill.labels.codec import JpegXl
from distill.labels.encoded import encode_label
from distill.labels.planes import Planes
from distill.labels.shards import discard_shard, write_shard
from distill.report.label_sheet import show
from distill.types import Prediction, Space


@pytest.fixture
def store(tmp_path):
    return write_store(tmp_path / "store")


def test_a_sound_store(store, capsys):
    assert verify(store) == 8
    assert main(["labels", "verify", str(store)]) == 0
    assert main(["labels", "stats", str(store)]) == 0
    told = json.loads(capsys.readouterr().out.partition("\n")[2])
    assert told == json.loads(json.dumps(stats(store)))
    assert (told["labels"], told["images"], told["teachers"][0]["name"]) == (8, 8, "tiny")


def test_every_fault_is_named(store):
    path = store / "labels-00001.tar"
    torn = bytearray(path.read_bytes())
    torn[600] ^= 1
    path.write_bytes(torn)
    discard_shard(store, 2)
    with pytest.raises(PartialFailure) as caught:
        verify(store)
    assert list(caught.value.failures) == [str(store / "labels-00002.tar"), str(path)]
    assert caught.value.failures[str(path)].startswith(
        f"at {KEYS[3]}: checksum differs; run `distill labels repair`"
    )
    assert main(["labels", "verify", str(store)]) == 1


def test_no_store(tmp_path):
    assert main(["labels", "verify", str(tmp_path)]) == 2


def test_sheet(store, tmp_path):
    with Image.open(show(store, tmp_path / "sheet.png")) as sheet:
        assert sheet.size == (6 + 4 * (320 + 6), 6 + 2 * 188)  # labels of 14 x 28, eight of them
        pixels = np.asarray(sheet)
    assert len(np.unique(pixels[..., 0])) > 50
    assert (pixels[80, 10:300].max(axis=0) != 255).any()
    assert (pixels[:, 327:331] == 255).all()


def test_a_label_beside_its_photograph_with_confidence_and_sky(tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    Image.new("RGB", (56, 28), (10, 200, 30)).save(photos / "a.png")
    far = torch.zeros(14, 28, dtype=torch.bool)
    far[:7] = True
    planes = Planes(confidence=torch.full((14, 28), 1 / 3), far=far)
    label = encode_label(
        "photos/a.png",
        Prediction(values=torch.rand(14, 28) + 1, space=Space.AFFINE_DISPARITY),
        codec=JpegXl(),
        image_size=(28, 56),
        planes=planes,
    )
    meta(["photos/a.png"]).write(tmp_path / "store")
    write_shard(tmp_path / "store", 0, [label])
    out = tmp_path / "one.png"
    command = ["labels", "show", str(tmp_path / "store"), "--key", "photos/a.png"]
    assert main([*command, "--data", str(photos), "--out", str(out)]) == 0
    with Image.open(out) as picture:
        assert picture.size == (3 * 28, 14)
        assert picture.getpixel((0, 0)) == (10, 200, 30)
        assert picture.getpixel((28, 0)) == (190, 190, 190)
        assert picture.getpixel((28, 13)) != (190, 190, 190)
        assert picture.getpixel((83, 13)) == (85, 85, 85)
    (photos / "a.png").rename(photos / "b.png")
    with pytest.raises(ValueError, match="label"):
        show(tmp_path / "store", out, photos=photos)


def test_keys_by_a_condition(store, tmp_path, capsys):
    assert main(["labels", "query", str(store), "confidence >= 0.75"]) == 0
    assert capsys.readouterr().out.splitlines() == list(sorted(KEYS)[6:])
    out = tmp_path / "sure.parquet"
    assert main(["labels", "query", str(store), "width > 20", "--out", str(out)]) == 0
    assert capsys.readouterr().out == f"{out}: 8 labels\n"
    assert pyarrow.parquet.read_table(out)["key"].to_pylist() == sorted(KEYS)
    assert main(["labels", "query", str(store), "sharpness > 1"]) == 2
    assert "columns: key, shard" in capsys.readouterr().err


def test_one_label(store, tmp_path, capsys):
    out = tmp_path / "one.png"
    assert main(["labels", "show", str(store), "--key", KEYS[2], "--out", str(out)]) == 0
    with Image.open(out) as picture:
        assert picture.size == (28, 14)
        far, near = picture.getpixel((0, 0)), picture.getpixel((27, 13))
    assert isinstance(far, tuple)
    assert isinstance(near, tuple)
    assert far[2] > far[0]  # blue
    assert near[0] > near[2]  # red
    assert main(["labels", "show", str(store), "--key", KEYS[2][:-1]]) == 2
    assert f"the nearest is '{KEYS[2]}'" in capsys.readouterr().err


def test_near_is_warm_for_depth_too(tmp_path):
    meta(["ä/b"], space=Space.METRIC_DEPTH, shard_size=1).write(tmp_path)
    values = torch.linspace(1, 50, 60).reshape(6, 10)
    prediction = Prediction(values=values, space=Space.METRIC_DEPTH)
    label = encode_label("ä/b", prediction, codec=JpegXl(), image_size=(6, 10))
    write_shard(tmp_path, 0, [label])
    with Image.open(show(tmp_path, tmp_path / "x.png", key="ä/b")) as picture:
        near = picture.getpixel((0, 0))
    assert isinstance(near, tuple)
    assert near[0] > near[2]
    show(tmp_path, tmp_path / "y.png")


def test_an_empty_store_has_no_sheet(tmp_path):
    meta().write(tmp_path)
    with pytest.raises(ValueError, match="holds no label yet"):
        show(tmp_path, tmp_path / "x.png")
    assert stats(tmp_path)["labels"] == 0
