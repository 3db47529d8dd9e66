"""The `distill labels` verb on stores that are sound, damaged, unfinished and empty."""

import json

import numpy as np
import pytest
import torch
from label_stores import KEYS, meta, write_store
from PIL import Image

from distill.cli import main
from distill.job import PartialFailure
from distill.labels.account import stats, verify
from distill.labels.codec import JpegXl
from distill.labels.shards import discard_shard, encode_label, write_shard
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
    assert caught.value.failures[str(path)].startswith(f"at {KEYS[3]}: checksum differs; delete")
    assert main(["labels", "verify", str(store)]) == 1


def test_no_store(tmp_path):
    assert main(["labels", "verify", str(tmp_path)]) == 2


def test_sheet(store, tmp_path):
    with Image.open(show(store, tmp_path / "sheet.png")) as sheet:
        assert sheet.size == (6 * 240, 2 * 268)
        assert len(np.unique(np.asarray(sheet)[..., 0])) > 50


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
