"""LSUN's LMDB folders."""

import io
import os
import pickle
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import lmdb
import numpy as np
import pytest
import torch
from contracts import check_dataset
from PIL import Image
from scenes import ball, pinhole, room

from distill.datasets import lmdb_images, manifest
from distill.datasets.lmdb_images import LmdbImages

H, W = 24, 40
SCENES = (room(H, W, pinhole(H, W)), ball(H, W, pinhole(H, W)))


def webp(number: int = 0) -> bytes:
    pixels = (SCENES[number].image.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "WEBP", lossless=True)
    return data.getvalue()


def write(folder: Path, values: dict[bytes, bytes]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    with lmdb.open(str(folder), map_size=1 << 22) as database, database.begin(write=True) as all_:
        for key, value in values.items():
            all_.put(key, value)
    return folder


def keys(images: LmdbImages) -> list[str]:
    return [images.key(n) for n in range(len(images))]


def test_the_contract(tmp_path: Path):
    write(tmp_path / "church_outdoor_train_lmdb", {b"00ff": webp(1), b"00aa": webp(0)})
    write(tmp_path / "bedroom_val_lmdb", {b"12ab": webp(1)})
    scenes = {
        "lsun/bedroom_val_lmdb/12ab": SCENES[1],
        "lsun/church_outdoor_train_lmdb/00aa": SCENES[0],
        "lsun/church_outdoor_train_lmdb/00ff": SCENES[1],
    }
    check_dataset(lambda: LmdbImages(tmp_path), scenes, space=None)
    assert keys(LmdbImages(tmp_path)) == sorted(scenes)


def test_one_folder_and_the_bytes_as_they_are(tmp_path: Path):
    images = LmdbImages(write(tmp_path / "x_lmdb", {b"a": webp(), b"b": b"none"}), name="web")
    assert [images.encoded(0), images.encoded(1)] == [webp(), b"none"]
    with pytest.raises(ValueError, match=r"^web/x_lmdb/b: damaged"):
        images[1]
    with pytest.raises(IndexError):
        images[2]


def test_keys_that_are_no_names_are_written_safely_and_in_order(tmp_path: Path):
    raw = [b"a/b.jpg", b".", b"..", b"\x00\xff", b"%41", b"A", "ü".encode()]
    images = LmdbImages(write(tmp_path / "x_lmdb", {key: key for key in raw}))
    assert keys(images) == sorted(keys(images))
    assert all(key.count("/") == 2 for key in keys(images))
    assert not {key.split("/")[2] for key in keys(images)} & {".", ".."}
    assert {images.encoded(n) for n in range(7)} == set(raw)


def test_keys_are_listed_once(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(manifest, "WORTH", 2)
    folder = write(tmp_path / "x_lmdb", {f"{n:03d}".encode(): webp() for n in range(9)})
    before = keys(LmdbImages(folder))
    monkeypatch.setattr("distill.datasets.lmdb_images._paths", None)
    images = LmdbImages(folder)
    assert keys(images) == before
    images[0]  # open in this process, and not in the copy
    assert pickle.loads(pickle.dumps(images)).encoded(3) == webp()


def test_what_is_wrong_is_named(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"lsun: no data\.mdb in .*; give the folder that"):
        LmdbImages(tmp_path)
    with pytest.raises(ValueError, match=r"lsun: nothing in "):
        LmdbImages(write(tmp_path / "empty_lmdb", {}))
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "data.mdb").write_bytes(b"nothing" * 2000)
    with pytest.raises(ValueError, match="bad: damaged or no LMDB folder"):
        LmdbImages(tmp_path / "bad")


def test_a_value_that_went_away(tmp_path: Path):
    folder = write(tmp_path / "x_lmdb", {b"a": webp(), b"b": webp()})
    images = LmdbImages(folder)
    program = (
        "import sys, lmdb\n"
        "with lmdb.open(sys.argv[1], map_size=1 << 22) as database:\n"
        "    with database.begin(write=True) as all_: all_.delete(b'b')"
    )
    subprocess.run([sys.executable, "-c", program, str(folder)], check=True)
    with pytest.raises(OSError, match=r"lsun/x_lmdb/b: is not in .* any more"):
        images[1]


@pytest.mark.parametrize("kept", [0.9, 0.5, 0.01])
def test_a_cut_database_is_named_where_reading_it_would_end_the_process(
    tmp_path: Path, kept: float
):
    folder = write(tmp_path / "x_lmdb", {f"{n:03d}".encode(): b"x" * 9000 for n in range(99)})
    path = folder / "data.mdb"
    with path.open("r+b") as file:
        file.truncate(int(path.stat().st_size * kept))
    with pytest.raises(ValueError, match=r"x_lmdb/data\.mdb: has \d+ of \d+ bytes; fetch it again"):
        LmdbImages(folder)


def test_folders_behind_links(tmp_path: Path):
    folder = write(tmp_path / "disk" / "x_lmdb", {b"a": webp()})
    (tmp_path / "lsun").mkdir()
    (tmp_path / "lsun" / "bedroom_train_lmdb").symlink_to(folder)
    linked = LmdbImages(tmp_path / "lsun")
    assert keys(linked) == ["lsun/bedroom_train_lmdb/a"]
    assert linked.encoded(0) == LmdbImages(folder).encoded(0) == webp()


def test_threads_that_all_come_first(tmp_path: Path):
    images = LmdbImages(write(tmp_path / "x_lmdb", {b"a": webp()}))
    together = threading.Barrier(4)

    def read(index: int) -> bytes:
        together.wait()
        return images.encoded(index)

    with ThreadPoolExecutor(4) as pool:
        for _ in range(200):
            for _, database in lmdb_images._OPEN.values():
                database.close()
            lmdb_images._OPEN.clear()
            assert list(pool.map(read, [0] * 4)) == [webp()] * 4


def test_a_child_opens_its_own(tmp_path: Path):
    images = LmdbImages(write(tmp_path / "x_lmdb", {b"a": webp(), b"b": webp(1)}))
    images[0]  # open in the parent

    def read(index: Any) -> tuple[bytes, int]:
        return images.encoded(index), lmdb_images._OPEN[str(tmp_path / "x_lmdb")][0]

    loader = torch.utils.data.DataLoader(
        range(2),  # type: ignore[arg-type]  # any __getitem__ will do
        batch_size=None,
        num_workers=1,
        collate_fn=read,
    )
    values, owners = zip(*loader, strict=True)
    assert values == (webp(), webp(1))
    assert os.getpid() not in owners
