"""The joined index of a store: conditions on it, and the file it is kept in."""

import shutil

import pytest
from label_stores import KEYS, write_store

from distill.labels import shards
from distill.labels.store import LabelStore


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return write_store(tmp_path_factory.mktemp("labels") / "store")


@pytest.fixture
def store(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "store")


def test_labels_by_a_condition(finished):
    store = LabelStore(finished)
    kept = store.matching("confidence >= 0.5 and image_width = 40")
    assert kept.tolist() == [False] * 4 + [True] * 4
    assert not store.matching("flip > 0").any()  # null is no
    assert store.matching("key like '%day.1%'").sum() == 4


@pytest.mark.parametrize(
    "where",
    ["sharpness > 1", "confidence >", "1) AS kept, (1", "max(confidence) > 0", "key",
     "(select true from read_csv('/etc/passwd'))", "true) FROM range(3"],
)  # fmt: skip
def test_what_is_no_condition(finished, where):
    with pytest.raises(ValueError, match="is no condition on"):
        LabelStore(finished).matching(where)


def test_the_index_is_joined_once(store, monkeypatch):
    first = LabelStore(store)
    assert len(first) == 8
    before = (store / ".index.arrow").stat().st_mtime_ns
    monkeypatch.setattr(shards.index, "read_rows", lambda path: pytest.fail("read again"))
    again = LabelStore(store)
    assert again.index.equals(first.index)
    assert (store / ".index.arrow").stat().st_mtime_ns == before


def test_a_joined_index_of_other_files_is_not_believed(store):
    assert len(LabelStore(store)) == 8
    shards.discard_shard(store, 1)
    assert len(LabelStore(store, allow_incomplete=True)) == 5
    rewritten = write_store(store, KEYS)
    (store / ".index.arrow").write_bytes(b"ARROW1")
    assert LabelStore(rewritten).keys() == sorted(KEYS)


def test_a_store_on_a_read_only_disk(store, monkeypatch):
    def refuse(path):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(shards.index.atomic, "replacing_file", refuse)
    assert LabelStore(store).keys() == sorted(KEYS)
