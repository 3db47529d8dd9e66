"""Images in Parquet files, as Hugging Face writes them, near and far."""

import io
import pickle
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import datasets
import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from contracts import check_dataset
from PIL import Image
from range_server import serving
from scenes import ball, pinhole, room

from distill.datasets import parquet_file, remote
from distill.datasets.parquet_images import ParquetImages

H, W = 24, 40
SCENES = (room(H, W, pinhole(H, W)), ball(H, W, pinhole(H, W)))


def png(number: int = 0) -> bytes:
    pixels = (SCENES[number].image.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "PNG")
    return data.getvalue()


def write(path: Path, values: list[bytes | None], *, group: int = 2, column: str = "image") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    structs = [
        None if v is None else {"bytes": v, "path": f"{n}.png"} for n, v in enumerate(values)
    ]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = pa.table({column: pa.array(structs, kind), "text": ["x"] * len(values)})
    pq.write_table(table, path, row_group_size=group)
    return path


def test_the_contract(tmp_path: Path):
    write(tmp_path / "b/00.parquet", [png(0), png(1), png(0)])
    write(tmp_path / "a/00.parquet", [png(1)])
    scenes = {f"photos/b/00.parquet/{n:09d}": SCENES[n % 2] for n in range(3)}
    scenes["photos/a/00.parquet/000000000"] = SCENES[1]
    check_dataset(lambda: ParquetImages(tmp_path), scenes, space=None)
    keys = [ParquetImages(tmp_path).key(n) for n in range(4)]
    assert keys == sorted(keys)


def test_what_hugging_face_wrote_comes_back_untouched(tmp_path: Path):
    """16-bit PNG too: nothing is decoded on the way."""
    depth = Image.fromarray(np.arange(600, dtype=np.uint16).reshape(20, 30) * 100)
    data = io.BytesIO()
    depth.save(data, "PNG")
    features = datasets.Features({"image": datasets.Image(), "n": datasets.Value("int32")})
    rows = {"image": [{"bytes": data.getvalue(), "path": None}] * 3, "n": [1, 2, 3]}
    datasets.Dataset.from_dict(rows, features).to_parquet(str(tmp_path / "train.parquet"))
    images = ParquetImages(tmp_path / "train.parquet")
    assert [images.encoded(n) for n in range(3)] == [data.getvalue()] * 3
    assert len(images[0].image.unique()) == 600


def test_a_column_of_plain_bytes(tmp_path: Path):
    pq.write_table(pa.table({"jpg": [png(), b"none"]}), tmp_path / "a.parquet")
    images = ParquetImages(tmp_path / "a.parquet", column="jpg", name="web")
    assert images.encoded(0) == png()
    with pytest.raises(ValueError, match=r"^web/a\.parquet/000000001: damaged"):
        images[1]


def test_any_order_with_few_row_groups_in_memory(tmp_path: Path):
    values = [bytes([n]) * (n + 1) for n in range(23)]
    images = ParquetImages(write(tmp_path / "a.parquet", list(values), group=4))
    for n in np.random.default_rng(0).permutation(23).tolist():
        assert images.encoded(n) == values[n]
        assert images._read is not None
        assert len(images._read.groups) <= 2
    assert pickle.loads(pickle.dumps(images)).encoded(-1) == values[-1]
    loader = torch.utils.data.DataLoader(  # the parent has row groups open
        range(23),  # type: ignore[arg-type]  # any __getitem__ will do
        batch_size=None,
        num_workers=2,
        collate_fn=images.encoded,  # type: ignore[arg-type]  # of one index
    )
    assert list(loader) == values
    with pytest.raises(IndexError):
        images.encoded(23)


def test_threads_share_a_row_group(tmp_path: Path, monkeypatch):
    """Those of a label job, which read neighbours at once."""
    path = tmp_path / "a.parquet"
    values = [bytes([n]) * (n + 1) for n in range(24)]
    images, reads = ParquetImages(write(path, list(values), group=4)), []
    once = parquet_file.read_group
    monkeypatch.setattr(
        parquet_file, "read_group", lambda *of: (reads.append(of), time.sleep(0.01), once(*of))[-1]
    )
    with ThreadPoolExecutor(4) as pool:
        for first in range(0, 24, 4):  # a slow thread may not want what the others have left
            at_once = range(first, first + 4)
            assert list(pool.map(images.encoded, at_once)) == values[first : first + 4]
    assert len(reads) == 6


def test_far_away(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(remote, "_PAUSE", 0.01)
    data = write(tmp_path / "a.parquet", [png(n % 2) for n in range(6)]).read_bytes()
    store = fsspec.filesystem("memory")
    for number in range(2):
        store.pipe(f"/set/data/train-{number:05d}.parquet", data)
    images = ParquetImages("memory://set/data/train-{00000..00001}.parquet")
    assert images.key(7) == "photos/train-00001.parquet/000000001"
    assert images.encoded(7) == png(1)
    with serving(tmp_path) as (address, trouble):
        images = ParquetImages(f"{address}/a.parquet")
        trouble.requests = 3
        assert images.encoded(5) == png(1)


def test_what_is_wrong_is_named(tmp_path: Path):
    path = write(tmp_path / "a.parquet", [png(), None])
    with pytest.raises(ValueError, match=r"a\.parquet/000000001: no bytes; embed the images"):
        ParquetImages(path).encoded(1)
    with pytest.raises(
        ValueError, match=r"no column 'text' of image bytes; there are image \(stru"
    ):
        ParquetImages(path, column="text")
    with pytest.raises(ValueError, match=r"no column 'depth' of image bytes; .*text \(string\)"):
        ParquetImages(path, column="depth")
    with pytest.raises(ValueError, match="photos: no row in 1 files"):
        ParquetImages(write(tmp_path / "b.parquet", []))
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"no file ending with \.parquet"):
        ParquetImages(tmp_path / "empty")
    for damage in (b"", b"nothing", path.read_bytes()[:-30]):
        path.write_bytes(damage)
        with pytest.raises(ValueError, match=r"a\.parquet: damaged or no Parquet file"):
            ParquetImages(path)


def test_a_damaged_or_other_file_is_named_never_another_image(tmp_path: Path):
    values: list[bytes | None] = [bytes([n]) * 2000 for n in range(12)]
    path = write(tmp_path / "a.parquet", values, group=4)
    whole, images = path.read_bytes(), ParquetImages(path)
    path.write_bytes(whole[:2] + b"\xff" * 300 + whole[302:])
    with pytest.raises(ValueError, match=r"a\.parquet: row group 0 is damaged"):
        images.encoded(0)
    write(path, values, group=6)  # its second group begins elsewhere
    with pytest.raises(ValueError, match=r"a\.parquet: has changed since the start"):
        images.encoded(5)
    write(path, values[:4], group=4)
    with pytest.raises(ValueError, match=r"a\.parquet: has changed since the start"):
        images.encoded(11)
    write(path, values, group=4, column="other")
    with pytest.raises(ValueError, match=r"a\.parquet: has changed since the start"):
        images.encoded(0)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"a\.parquet"):
        images.encoded(0)


def test_checksums_are_heeded(tmp_path: Path):
    path = tmp_path / "a.parquet"
    plain: dict = {"use_dictionary": False, "compression": "none", "write_page_checksum": True}
    pq.write_table(pa.table({"image": [b"x" * 5000]}), path, **plain)
    path.write_bytes(path.read_bytes().replace(b"x" * 50, b"y" * 50, 1))
    with pytest.raises(ValueError, match=r"a\.parquet: row group 0 is damaged"):
        ParquetImages(path).encoded(0)


def test_a_struct_of_texts_is_no_image(tmp_path: Path):
    kind = pa.struct([("bytes", pa.string())])
    pq.write_table(pa.table({"image": pa.array([{"bytes": "x"}], kind)}), tmp_path / "a.parquet")
    with pytest.raises(ValueError, match="no column 'image' of image bytes"):
        ParquetImages(tmp_path)
