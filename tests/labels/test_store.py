"""Stores: what is read is what was written, every flipped bit is found, and nothing mixes."""

import json
import pickle
import shutil

import pytest
import torch
from label_stores import KEYS, meta, ramp, teacher, write_store
from torch.utils.data import DataLoader

from distill.labels import encoded, shards
from distill.labels.codec import JpegXl, decode
from distill.labels.encoded import encode_label
from distill.labels.meta import StoreMeta, hash_keys, read_meta
from distill.labels.shards import CorruptShard
from distill.labels.store import LabelStore
from distill.types import Prediction, Space

AWKWARD = ["photos/50%.off.jpg", "photos/%2E.png", "photos/übung/" + "long" * 40 + ".jpeg", "p/ö"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return write_store(tmp_path_factory.mktemp("labels") / "store")


@pytest.fixture
def store(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "store")


def prediction(confidence=None):
    return Prediction(values=ramp(0), space=Space.AFFINE_DISPARITY, confidence=confidence)


def test_reads_what_was_written(finished):
    store = LabelStore(finished)
    assert store.keys() == sorted(KEYS)
    assert len(store) == 8
    for n, key in enumerate(store.keys()):
        label = store.read(key)
        assert (label.prediction.values - ramp(n)).abs().max() <= (n + 1) * 2.5e-4
        assert label.prediction.values[0, 0] == 0
        assert label.valid.all()
        assert label.prediction.confidence == n / 8
        assert label.prediction.space is Space.AFFINE_DISPARITY
        assert label.image_size == (20, 40)


def test_knows_what_it_holds(finished):
    store = LabelStore(finished)
    assert KEYS[0] in store
    for absent in ("", "a", "zzz", KEYS[0] + "x"):
        assert absent not in store
    with pytest.raises(KeyError, match="no label for photos/none"):
        store.read("photos/none")


def test_awkward_keys(tmp_path):
    store = LabelStore(write_store(tmp_path / "s", AWKWARD))
    assert store.keys() == sorted(AWKWARD)
    assert store.verify() == 4
    assert all(store.read(key).valid.all() for key in AWKWARD)


@pytest.mark.parametrize("key", AWKWARD + list(KEYS))
def test_escaping(key):
    assert "." not in encoded.escape(key)
    assert encoded.unescape(encoded.escape(key)) == key


@pytest.mark.parametrize(
    "key", ["", "/etc/passwd", "../x", "a/../b", "a//b", ".", "a\nb", "\udcff"]
)
def test_keys_that_are_no_plain_path(key):
    with pytest.raises(ValueError, match="must be a plain relative path"):
        encoded.check_key(key)
    with pytest.raises(ValueError, match="must be a plain relative path"):
        encode_label(key, prediction(), codec=JpegXl(), image_size=(1, 1))


def test_files_are_plain_and_the_same_every_time(finished, tmp_path):
    again = write_store(tmp_path / "again")
    found = (p.relative_to(finished) for p in finished.rglob("*") if p.is_file())
    files = sorted(path for path in found if not path.name.startswith("."))
    assert [str(path) for path in files] == [
        *(f"index/labels-0000{n}.parquet" for n in range(3)),
        *(f"labels-0000{n}.tar" for n in range(3)),
        "store.json",
    ]
    for path in files:
        assert (finished / path).read_bytes() == (again / path).read_bytes()
    tar = (finished / "labels-00000.tar").read_bytes()
    assert tar[257:265] == b"ustar\x0000"
    assert tar[100:148] == b"0000644\0" + b"0000000\0" * 2 + tar[124:136] + b"0" * 11 + b"\0"


def test_index_says_where_a_label_lies(finished):
    for n, row in enumerate(LabelStore(finished).index.to_pylist()):
        tar = (finished / f"labels-{row['shard']:05d}.tar").read_bytes()
        values, _ = decode(tar[row["offset"] : row["offset"] + row["size"]])
        assert (values.min(), values.max()) == (row["minimum"], row["maximum"]) == (0, n + 1)
        assert (row["height"], row["image_width"]) == (14, 40)


def test_a_shard_counts_its_zeros(store):
    report = shards.read_report(store, 0)
    assert (report.pixels, report.zeros) == (3 * 14 * 28, 3)  # each ramp starts at 0
    older = shards.index.read_summary(shards.index_path(store, 0))
    del older["pixels"], older["zeros"]
    rows = shards.read_rows(store, 0).to_pylist()
    shards.index_path(store, 0).write_bytes(shards.index.to_bytes(rows, older))
    assert shards.read_report(store, 0).pixels == 0
    assert LabelStore(store).verify() == 8


def test_valid_is_kept(tmp_path):
    valid = torch.rand(14, 28, generator=torch.Generator().manual_seed(0)) > 0.5
    values = torch.where(valid, ramp(3), torch.nan)
    label = encode_label(
        "a/b",
        Prediction(values=values, space=Space.METRIC_DEPTH),
        codec=JpegXl(),
        image_size=(14, 28),
        valid=valid,
    )
    meta(["a/b"], space=Space.METRIC_DEPTH).write(tmp_path)
    shards.write_shard(tmp_path, 0, [label])
    read = LabelStore(tmp_path).read("a/b")
    assert (read.valid == valid).all()
    assert (read.prediction.values.isnan() == ~valid).all()
    assert read.prediction.confidence is None


def test_half_precision_predictions(tmp_path):
    values = ramp(0).bfloat16().requires_grad_()
    label = encode_label(
        "a/b",
        Prediction(values=values, space=Space.AFFINE_DISPARITY),
        codec=JpegXl(),
        image_size=(1, 1),
    )
    assert (label.minimum, label.maximum) == (0, 1)


def test_what_cannot_be_stored_is_named():
    broken = Prediction(values=ramp(0) / 0, space=Space.AFFINE_DISPARITY)
    with pytest.raises(ValueError, match=r"a/b: .* not finite"):
        encode_label("a/b", broken, codec=JpegXl(), image_size=(1, 1))
    with pytest.raises(ValueError, match=r"a/b: confidence 1.5 lies outside"):
        encode_label("a/b", prediction(1.5), codec=JpegXl(), image_size=(1, 1))


def _damaged(store):
    return list(LabelStore(store, allow_incomplete=True).damage())


def test_every_flipped_bit_of_a_shard_is_found(store):
    """A bit in each 97th byte: headers, pictures, descriptions, padding, end of archive."""
    path = store / "labels-00001.tar"
    whole, rows = path.read_bytes(), shards.read_rows(store, 1).to_pylist()
    for place in range(0, len(whole), 97):
        torn = bytearray(whole)
        torn[place] ^= 1 << place % 8
        path.write_bytes(bytes(torn))
        (fault,) = _damaged(store)
        inside = [r["key"] for r in rows if r["offset"] <= place < r["offset"] + r["size"]]
        assert (fault.path, fault.key) == (path, inside[0] if inside else None)
    with pytest.raises(CorruptShard, match=r"labels-00001.tar.*run `distill labels repair`"):
        LabelStore(store).verify()


def test_every_flipped_bit_of_an_index_is_found_or_harmless(store):
    path = store / "index" / "labels-00001.parquet"
    whole, rows = path.read_bytes(), shards.read_rows(store, 1).to_pylist()
    found = 0
    for place in range(0, len(whole), 47):
        torn = bytearray(whole)
        torn[place] ^= 1 << place % 8
        path.write_bytes(bytes(torn))
        faults = _damaged(store)
        assert faults or shards.read_rows(store, 1).to_pylist() == rows
        found += bool(faults)
    assert found > 5


def test_read_names_the_damaged_label(store):
    row = shards.read_rows(store, 0).to_pylist()[1]
    path = store / "labels-00000.tar"
    torn = bytearray(path.read_bytes())
    torn[row["offset"] + 50] ^= 4
    path.write_bytes(bytes(torn))
    with pytest.raises(CorruptShard, match=rf"{row['key']}: checksum differs") as caught:
        LabelStore(store).read(row["key"])
    assert (caught.value.key, caught.value.path) == (row["key"], path)
    again = pickle.loads(pickle.dumps(caught.value))  # as a DataLoader worker hands it on
    assert (again.key, str(again)) == (row["key"], str(caught.value))
    LabelStore(store).read(KEYS[0])


def test_torn_and_lost_files(store):
    path = store / "labels-00000.tar"
    path.write_bytes(path.read_bytes()[:3000])
    assert [fault.path for fault in _damaged(store)] == [path]
    path.unlink()
    with pytest.raises(CorruptShard, match="the file is gone"):
        LabelStore(store).read(KEYS[0])
    assert [fault.reason for fault in _damaged(store)] == ["the file is gone"]
    (store / "index" / "labels-00001.parquet").write_bytes(b"")
    with pytest.raises(CorruptShard, match="unreadable index"):
        LabelStore(store).keys()
    assert len(_damaged(store)) == 2


def test_a_swapped_index_is_found(store):
    (store / "index" / "labels-00002.parquet").write_bytes(
        (store / "index" / "labels-00000.parquet").read_bytes()
    )
    assert [fault.path.name for fault in _damaged(store)] == ["labels-00002.tar"]


def test_an_index_that_contradicts_its_shard_is_found(store):
    rows = shards.read_rows(store, 0).to_pylist()
    summary = shards.index.read_summary(shards.index_path(store, 0))
    rows[0]["confidence"] = 0.25
    shards.index_path(store, 0).write_bytes(shards.index.to_bytes(rows, summary))
    assert "contradict" in _damaged(store)[0].reason


def test_unfinished_store(store):
    shards.discard_shard(store, 1)
    with pytest.raises(ValueError, match=r"1 of 3 shards are missing \(00001\); finish"):
        LabelStore(store)
    part = LabelStore(store, allow_incomplete=True)
    assert part.missing() == [1]
    assert len(part) == 5
    assert part.verify() == 5
    assert KEYS[3] not in part


def test_nothing_committed_yet(tmp_path):
    meta(shard_size=1).write(tmp_path)
    with pytest.raises(ValueError, match=r"8 of 8 .* 00004, \.\.\."):
        LabelStore(tmp_path)
    part = LabelStore(tmp_path, allow_incomplete=True)
    assert part.keys() == []
    assert part.stats()["labels"] == 0


def test_stats(finished):
    stats = LabelStore(finished).stats()
    assert (stats["labels"], stats["shards"], stats["missing_shards"]) == (8, 3, 0)
    assert (stats["minimum"], stats["maximum"]) == (0, 8)
    assert stats["sizes"] == {"14x28": 8}
    assert stats["confidence"]["0.5"] == 3.5 / 8
    assert stats["bytes"] == sum(path.stat().st_size for path in finished.glob("*.tar"))
    assert stats["bytes_per_label"] == stats["label_bytes"] / 8
    json.dumps(stats)


def test_quarantine_is_part_of_the_commit(tmp_path):
    meta(["a/b", "a/c"], shard_size=2).write(tmp_path)
    label = encode_label("a/b", prediction(0.5), codec=JpegXl(), image_size=(1, 1))
    shards.write_shard(tmp_path, 0, [label], quarantined={"a/c": "cut off"})
    store = LabelStore(tmp_path)
    assert store.quarantined() == {"a/c": "cut off"}
    assert store.keys() == ["a/b"]


class Labels(torch.utils.data.Dataset):
    def __init__(self, store):
        self.store, self.keys = store, store.keys()

    def __len__(self):
        return len(self.keys)

    def __getitem__(self, index):
        return self.store.read(self.keys[index]).prediction.values


def test_workers_read_the_same(finished):
    labels = Labels(LabelStore(finished))
    loader = DataLoader(labels, batch_size=4, num_workers=2)
    assert torch.equal(torch.cat(list(loader)), torch.stack([labels[n] for n in range(8)]))


def test_pickle_carries_no_index(finished):
    store = LabelStore(finished)
    store.keys()
    assert len(pickle.dumps(store)) < 4000
    assert pickle.loads(pickle.dumps(store)).keys() == store.keys()


def test_meta_survives_and_compares(tmp_path):
    ours = meta()
    ours.write(tmp_path)
    assert read_meta(tmp_path) == ours
    assert ours.differences(read_meta(tmp_path)) == {}
    moved = (teacher("moved/tiny", lineage={"kind": "model"}),)  # of the same hash
    theirs = meta(teachers=moved, space=Space.METRIC_DEPTH)
    assert ours.differences(theirs) == {"space": ("AFFINE_DISPARITY", "METRIC_DEPTH")}
    other = meta(teachers=(teacher("other", "1" * 64),))
    assert set(ours.differences(other)) == {"teacher", "teacher_sha256"}
    unknown, nameless = (meta(teachers=(teacher(name, ""),)) for name in ("tiny", "moved/tiny"))
    assert unknown.differences(nameless) == {"teacher": ("tiny", "moved/tiny")}
    several = meta(teachers=(teacher(), teacher("big", "1" * 64)))
    assert several.differences(ours)["teacher2_sha256"] == ("1" * 64, None)
    assert several.teacher_names == "tiny and big"
    assert [meta(KEYS[:n], shard_size=3).shards for n in (1, 3, 4)] == [1, 1, 2]


def test_a_changed_record_is_refused(store):
    path = store / "store.json"
    text = path.read_text()
    assert "apache-2.0" in text
    path.write_text(text.replace("apache-2.0", "apache-2.1"))
    with pytest.raises(ValueError, match="its checksum differs"):
        LabelStore(store)


def test_what_a_shard_says_of_itself_has_a_checksum(store, monkeypatch):
    path = shards.index_path(store, 1)
    rows, summary = shards.read_rows(store, 1).to_pylist(), shards.index.read_summary(path)
    with monkeypatch.context() as patched:
        patched.setattr(shards.index, "_sha256", lambda text: "0" * 64)
        path.write_bytes(shards.index.to_bytes(rows, summary))
    assert "the checksum of its summary differs" in _damaged(store)[0].reason


def test_what_is_no_store(tmp_path):
    with pytest.raises(FileNotFoundError, match="is not a label store") as caught:
        LabelStore(tmp_path)
    assert f"distill run recipes.labels:plain --data PHOTOS --out {tmp_path}`" in str(caught.value)
    assert "`make pseudolabel`" in str(caught.value)
    for text in ("{", "[]", '{"format": 3}', json.dumps({"format": 2})):
        (tmp_path / "store.json").write_text(text)
        with pytest.raises(ValueError, match="not a store of format 2"):
            LabelStore(tmp_path)


def test_keys_are_hashed_in_order():
    assert hash_keys(["a", "b"]) != hash_keys(["a/b"])
    for wrong in (["b", "a"], ["a", "a"]):
        with pytest.raises(ValueError, match="sort them and keep each once"):
            hash_keys(wrong)


def test_numbers_survive_as_float32(tmp_path):
    values = torch.tensor([[0.1, 0.7]])
    label = encode_label(
        "a/b",
        Prediction(values=values, space=Space.METRIC_DEPTH, confidence=0.3),
        codec=JpegXl(),
        image_size=(1, 2),
    )
    StoreMeta(**vars(meta(["a/b"]))).write(tmp_path)
    shards.write_shard(tmp_path, 0, [label])
    store = LabelStore(tmp_path)
    assert store.verify() == 1
    assert torch.equal(store.read("a/b").prediction.values, values)
