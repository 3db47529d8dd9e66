"""The store in the hands of programs that know nothing of it."""

import subprocess
from typing import Any, cast

import imagecodecs
import numpy as np
import pytest
from label_stores import KEYS, ramp, write_store
from webdataset.compat import WebDataset

from distill.labels.encoded import unescape


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    store = write_store(tmp_path_factory.mktemp("labels") / "store")
    return sorted(str(path) for path in store.glob("labels-*.tar"))


def check(number, picture, description):
    """Values rebuilt with nothing but a JPEG XL decoder and the description beside the picture."""
    codes = imagecodecs.jpegxl_decode(picture).astype(np.float64)
    span = description["maximum"] - description["minimum"]
    values = description["minimum"] + codes / 2047 * span
    assert np.abs(values - ramp(number).numpy()).max() <= span * 2.5e-4
    assert description["confidence"] == number / len(KEYS)
    assert (description["image_height"], description["image_width"]) == (20, 40)


def test_webdataset(shards):
    samples: list[Any] = list(cast(Any, WebDataset(shards, shardshuffle=False, empty_check=False)))
    assert [unescape(sample["__key__"]) for sample in samples] == sorted(KEYS)
    pipeline: Any = WebDataset(shards, shardshuffle=False)
    decoded = list(pipeline.decode())
    for number, (raw, sample) in enumerate(zip(samples, decoded, strict=True)):
        assert sample["json"]["key"] == unescape(sample["__key__"])
        check(number, raw["jxl"], sample["json"])


def test_datasets(shards, tmp_path):
    import datasets

    loaded = datasets.load_dataset(
        "webdataset", data_files=shards, cache_dir=str(tmp_path), split="train"
    )
    assert isinstance(loaded, datasets.Dataset)
    assert [unescape(key) for key in loaded["__key__"]] == sorted(KEYS)
    for number, row in enumerate(loaded):
        assert isinstance(row, dict)
        check(number, row["jxl"], row["json"])


def test_tar_program(shards):
    listing = subprocess.run(["tar", "-tvf", shards[0]], capture_output=True, text=True, check=True)
    lines = listing.stdout.splitlines()
    assert len(lines) == 6
    assert "day%2E1/IMG_0000%2Ejpg.jxl" in lines[0]
    assert "0/0" in lines[0]
