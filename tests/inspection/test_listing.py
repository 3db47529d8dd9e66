"""The table of a source's images, against the files themselves."""

import hashlib
import tarfile
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from range_server import serving

from distill.cli import main
from distill.inspection.listing import write_listing
from distill.job import PartialFailure

NAMES = ("a.jpg", "b/c.jpg", "b/d.jpg")


def written(folder: Path) -> Path:
    for number, name in enumerate(NAMES):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"\xff\xd8\xff" + bytes([number]) * (number + 9))
    return folder


def rows(path: Path) -> list[dict[str, object]]:
    return pq.read_table(path).to_pylist()


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder, out = written(tmp_path / "photos"), tmp_path / "list.parquet"
    assert main(["data", "list", str(folder), "--out", str(out)]) == 0
    assert capsys.readouterr().out == f"{out}: 3 images\n"
    assert rows(out) == [
        {
            "key": f"photos/{name}",
            "file": str(folder / name),
            "offset": 0,
            "size": (folder / name).stat().st_size,
            "sha256": None,
        }
        for name in NAMES
    ]
    assert main(["data", "list", str(folder), "--out", str(out), "--sha256"]) == 0
    assert [row["sha256"] for row in rows(out)] == [digest(folder / name) for name in NAMES]


def test_the_bytes_named_are_the_image(tmp_path: Path):
    """In a shard behind HTTP."""
    folder = written(tmp_path / "photos")
    (tmp_path / "shards").mkdir()
    with tarfile.open(tmp_path / "shards/x.tar", "w") as archive:
        for name in NAMES:
            archive.add(folder / name, name)
    whole = (tmp_path / "shards/x.tar").read_bytes()
    with serving(tmp_path / "shards") as (address, _):
        assert write_listing(f"{address}/x.tar", tmp_path / "out.parquet", sha256=True) == 3
    for row, name in zip(rows(tmp_path / "out.parquet"), NAMES, strict=True):
        assert row["file"] == f"{address}/x.tar"
        start, size = row["offset"], row["size"]
        assert isinstance(start, int)
        assert isinstance(size, int)
        assert whole[start : start + size] == (folder / name).read_bytes()
        assert row["sha256"] == digest(folder / name)


def test_what_cannot_be_read_is_named_and_the_others_are_listed(tmp_path: Path):
    folder, out = written(tmp_path / "photos"), tmp_path / "list.parquet"
    (folder / "b/a.jpg").symlink_to(folder / "gone.jpg")
    with pytest.raises(PartialFailure, match=r"photos/b/a\.jpg: .*No such file"):
        write_listing(folder, out, sha256=True)
    assert [row["sha256"] for row in rows(out)].count(None) == 1
    assert len(rows(out)) == 4
