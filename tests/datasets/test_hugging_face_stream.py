"""Streams of Hugging Face data sets, which go on exactly where they stopped."""

import io
import itertools
import json
import pickle
import zipfile
from pathlib import Path

import datasets
import pytest
import torch
from PIL import Image

from distill.datasets.hugging_face_stream import Streamed

FEATURES = datasets.Features({"image": datasets.Image()})


def png(number: int) -> bytes:
    """Tells its number: the red of it."""
    data = io.BytesIO()
    Image.new("RGB", (4, 3), (number, 0, 0)).save(data, "PNG")
    return data.getvalue()


def prepared(count: int) -> datasets.Dataset:
    rows = [{"image": {"bytes": png(n), "path": None}} for n in range(count)]
    return datasets.Dataset.from_list(rows, FEATURES)


def stream(shards: int = 3, **settings) -> Streamed:
    return Streamed(prepared(20).to_iterable_dataset(num_shards=shards), **settings)


def pixels(sample) -> tuple[int, str]:
    """Which picture it is, and its key."""
    return round(float(sample.image[0, 0, 0]) * 255), sample.key


def keys(samples) -> list[str]:
    return [sample.key for sample in samples]


def test_a_stream_gives_every_image_in_order():
    taken = list(stream())
    assert keys(taken) == [f"photos/{n:09d}" for n in range(20)]
    assert [pixels(sample) for sample in taken] == [
        (n, sample.key) for n, sample in enumerate(taken)
    ]


@pytest.mark.parametrize("shards", [1, 3, 4])
def test_nodes_share_a_stream_without_loss(shards: int):
    parts = [keys(stream(shards, node=node, nodes=2)) for node in range(2)]
    assert sorted(parts[0] + parts[1]) == keys(stream(shards))
    assert parts[0]
    assert parts[1]


@pytest.mark.parametrize("settings", [{}, {"seed": 3, "buffer": 8}, {"node": 1, "nodes": 2}])
@pytest.mark.parametrize("done", [0, 1, 7])
def test_a_stream_goes_on_where_it_was(done: int, settings: dict):
    whole = [pixels(sample) for sample in stream(**settings)]
    first = stream(**settings)
    taken = [pixels(sample) for sample in itertools.islice(first, done)]
    state = json.loads(json.dumps(first.state_dict()))
    second = stream(**settings)
    second.load_state_dict(state)
    assert taken + [pixels(sample) for sample in second] == whole


def test_a_shuffled_stream_is_the_same_for_the_same_seed():
    one, same, other = ([pixels(s)[0] for s in stream(seed=n, buffer=8)] for n in (1, 1, 2))
    assert one == same
    assert one != other
    assert sorted(one) == list(range(20))


@pytest.mark.parametrize("settings", [{}, {"seed": 3, "buffer": 8}])
def test_a_stream_left_and_taken_up_again_goes_on_and_then_starts_anew(settings: dict):
    one = stream(**settings)
    whole = [pixels(sample) for sample in stream(**settings)]
    parts = [pixels(sample) for sample in itertools.islice(one, 5)]
    one.load_state_dict(json.loads(json.dumps(one.state_dict())))
    assert one.state_dict()["next"] == 5
    parts += [pixels(sample) for sample in itertools.islice(one, 2)]
    assert parts + [pixels(sample) for sample in one] == whole
    assert [pixels(sample) for sample in one] == whole


def test_a_stream_goes_on_behind_a_damaged_image():
    rows = [{"image": {"bytes": png(n) if n != 2 else b"none", "path": None}} for n in range(5)]
    one = Streamed(datasets.Dataset.from_list(rows, FEATURES).to_iterable_dataset())
    assert keys(itertools.islice(one, 2)) == ["photos/000000000", "photos/000000001"]
    with pytest.raises(ValueError, match="photos/000000002: damaged"):
        next(iter(one))
    assert [pixels(sample) for sample in one] == [(n, f"photos/{n:09d}") for n in (3, 4)]


@pytest.mark.parametrize("settings", [{}, {"seed": 3, "buffer": 8}])
@pytest.mark.parametrize("shards", [1, 3])
def test_workers_and_nodes_share_a_stream_without_loss(shards: int, settings: dict):
    """Whatever the shards: `datasets` would give each worker some of them."""
    taken = []
    for node in range(2):
        part = stream(shards, node=node, nodes=2, **settings)
        taken += map(pixels, torch.utils.data.DataLoader(part, batch_size=None, num_workers=2))
    assert sorted(taken) == sorted(map(pixels, stream(shards, **settings)))


def test_a_stream_of_files_goes_on_in_another_process(tmp_path: Path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    for n in range(3):
        prepared(5).to_parquet(str(tmp_path / f"set/{n}.parquet"), batch_size=2)

    def of_files() -> Streamed:
        files = str(tmp_path / "set/*.parquet")
        return Streamed(
            datasets.load_dataset("parquet", data_files=files, split="train", streaming=True)
        )

    first = of_files()
    taken = [pixels(sample) for sample in itertools.islice(first, 7)]
    second = pickle.loads(pickle.dumps(of_files()))
    second.load_state_dict(first.state_dict())
    whole = [(n % 5, f"photos/{n:09d}") for n in range(15)]
    assert taken + [pixels(sample) for sample in second] == whole


def test_members_of_an_archive_are_streamed(tmp_path: Path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.png", png(7))
    rows = [{"image": {"bytes": None, "path": f"zip://a.png::{tmp_path / 'a.zip'}"}}]
    one = Streamed(datasets.Dataset.from_list(rows, FEATURES).to_iterable_dataset())
    assert [pixels(sample) for sample in one] == [(7, "photos/000000000")]


def test_only_the_column_is_read():
    features = datasets.Features({"image": datasets.Image(), "depth": datasets.Image()})
    row = {"image": {"bytes": png(3), "path": None}, "depth": {"bytes": b"none", "path": None}}
    rows = datasets.Dataset.from_list([row], features)
    assert pixels(next(iter(Streamed(rows.to_iterable_dataset()))))[0] == 3


def test_columns_of_bytes_and_of_structs():
    plain = datasets.Dataset.from_dict({"image": [png(1)]}).to_iterable_dataset()
    struct = datasets.Dataset.from_dict({"image": [{"bytes": png(1), "id": 4}]})
    nobody_knows = datasets.IterableDataset.from_generator(lambda: iter([{"image": png(1)}]))
    for source in (plain, struct.to_iterable_dataset(), nobody_knows):
        assert pixels(next(iter(Streamed(source)))) == (1, "photos/000000000")
    texts = datasets.IterableDataset.from_generator(lambda: iter([{"image": "a"}]))
    with pytest.raises(ValueError, match="photos/000000000: the row holds no image but str"):
        next(iter(Streamed(texts)))


def test_a_wrong_column_or_node_is_named():
    with pytest.raises(ValueError, match=r"photos: no column 'depth' of images; there are image"):
        stream(column="depth")
    with pytest.raises(ValueError, match="node 2 of 2; nodes count from 0"):
        stream(node=2, nodes=2)
