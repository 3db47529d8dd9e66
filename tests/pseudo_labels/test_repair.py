"""Damaged shards and shards of changed images are labelled again, and nothing else is touched."""

import os
import shutil

import pytest
from PIL import Image
from tiny_teacher import contents, job

from distill.datasets.image_folder import ImageFolder
from distill.job import Occupied, PartialFailure, exclusive
from distill.labels import account
from distill.labels.store import LabelStore


@pytest.fixture
def store(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "store")


def files(store):
    """What each file of a store's shards is, as far as writing it again would change it."""
    paths = [*store.glob("labels-*"), *store.glob("index/*")]
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in paths}


def flip(path, place, bit=0):
    data = bytearray(path.read_bytes())
    data[place] ^= 1 << bit
    path.write_bytes(bytes(data))


def resume(photos, store, **fields):
    job(photos, **fields).run(store, resume=True)


@pytest.mark.parametrize("name", ["labels-00002.tar", "index/labels-00002.parquet"])
def test_a_flipped_bit_names_its_file(store, name):
    """In each 211th byte: header, picture, plane, description, padding; page, footer, length."""
    path, found = store / name, 0
    whole = path.read_bytes()
    for place in range(0, len(whole), 211):
        flip(path, place, place % 8)
        try:
            account.verify(store)
        except PartialFailure as failure:
            (named,) = failure.failures
            assert "labels-00002." in named
            found += 1
        path.write_bytes(whole)
    assert found == len(range(0, len(whole), 211)) or "index" in name
    assert found > 10


def test_a_flipped_bit_of_the_joined_index_is_found(store):
    assert len(LabelStore(store).index) == 26
    assert account.verify(store) == 26
    path = store / ".index.arrow"
    stamp = path.stat()
    table = LabelStore(store).index
    exact = table["confidence"][3].as_py()
    place = path.read_bytes().index(table["confidence"].combine_chunks().buffers()[1].to_pybytes())
    flip(path, place + 4 * 3 + 2, 6)
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert LabelStore(store).index["confidence"][3].as_py() != exact
    with pytest.raises(PartialFailure, match=r"\.index\.arrow: differs from the index files"):
        account.verify(store)
    assert account.repair(store) == {}
    assert account.verify(store) == 26
    assert LabelStore(store).index["confidence"][3].as_py() == exact


def test_only_what_is_damaged_is_labelled_again(photos, finished, store):
    flip(store / "labels-00001.tar", 1500)
    flip(store / "index" / "labels-00003.parquet", 2000)
    (store / "labels-00005.tar").unlink()
    before = files(store)
    found = account.repair(store)
    assert [os.path.basename(path) for path in found] == [  # noqa: PTH119 keys are text
        "labels-00001.tar",
        "labels-00003.parquet",
        "labels-00005.tar",
    ]
    assert LabelStore(store, allow_incomplete=True).missing() == [1, 3, 5]
    resume(photos, store)
    after = files(store)
    written = {f"labels-0000{n}.{suffix}" for n in (1, 3, 5) for suffix in ("tar", "parquet")}
    assert {name for name in after if after[name] != before.get(name)} == written
    assert contents(store) == contents(finished)
    assert account.repair(store) == {}
    assert files(store) == after


def test_a_store_that_is_being_written_is_not_repaired(store):
    flip(store / "labels-00001.tar", 1500)
    with exclusive(store), pytest.raises(Occupied):
        account.repair(store)
    assert LabelStore(store).missing() == []


@pytest.fixture
def moving(photos, tmp_path):
    return shutil.copytree(photos, tmp_path / "moving")


def test_only_changed_images_are_labelled_again(photos, finished, store, moving):
    path = moving / "trip.1" / "IMG_007.v1.png"
    with Image.open(path) as image:
        image.transpose(Image.Transpose.ROTATE_180).save(path)
    images = ImageFolder(moving)
    assert list(account.changed(store, ImageFolder(photos))) == []
    assert list(account.changed(store, images)) == ["photos/trip.1/IMG_007.v1.png"]
    before = files(store)
    assert account.discard_changed(store, images) == ["photos/trip.1/IMG_007.v1.png"]
    (number,) = LabelStore(store, allow_incomplete=True).missing()
    resume(moving, store)
    after = files(store)
    written = {f"labels-{number:05d}.tar", f"labels-{number:05d}.parquet"}
    assert {name for name in after if after[name] != before[name]} == written
    job(moving).run(store.parent / "anew")
    assert contents(store) == contents(store.parent / "anew") != contents(finished)


def test_an_image_that_is_gone_has_changed(store, moving):
    images = ImageFolder(moving)
    (moving / "trip.0" / "IMG_004.v1.png").unlink()
    (moving / "trip.1" / "IMG_025.v1.png").unlink()
    gone = ["photos/trip.0/IMG_004.v1.png", "photos/trip.1/IMG_025.v1.png"]
    assert list(account.changed(store, images, threads=1)) == gone
    assert list(account.changed(store, ImageFolder(moving), threads=1)) == gone  # listed without


def test_images_that_are_no_files_cannot_be_compared(photos, store):
    class Bare:
        name = "bare"

        def __len__(self):
            return 0

        def __getitem__(self, index):
            raise IndexError

        def key(self, index):
            raise IndexError

    with pytest.raises(ValueError, match="bare: its images are no files"):
        list(account.changed(store, Bare()))
