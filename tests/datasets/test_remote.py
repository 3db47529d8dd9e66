"""Whether files are as they were listed, and what far ones say; the readers hold the rest."""

import os
import socket
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from range_server import serving

from distill.datasets import remote


def test_files_are_unchanged_until_one_is_written_or_gone(tmp_path: Path):
    paths = [tmp_path / "a.tar", tmp_path / "b.tar"]
    for path in paths:
        path.write_bytes(b"x")
    versions = {str(path): remote.version(str(path)) for path in paths}
    assert remote.unchanged(versions)
    then = paths[1].stat().st_mtime_ns
    paths[1].write_bytes(b"xy")
    os.utime(paths[1], ns=(then, then))
    assert not remote.unchanged(versions), "longer, at the same time"
    paths[1].write_bytes(b"x")
    os.utime(paths[1], ns=(then, then + 1))
    assert not remote.unchanged(versions), "later, of the same length"
    os.utime(paths[1], ns=(then, then))
    assert remote.unchanged(versions)
    paths[0].unlink()
    assert not remote.unchanged(versions)


def test_names_come_in_the_order_of_their_keys():
    """`a-b/` is before `a/`, though `a` is before `a-b`."""
    assert list(remote.short_names(["/x/a", "/x/a-b"]).values()) == ["a-b", "a"]
    assert list(remote.short_names(["/y/c", "/x/d", "/x/c"]).values()) == ["x/c", "x/d", "y/c"]


def test_what_is_wrong_with_the_way_is_told(tmp_path: Path, monkeypatch, caplog):
    monkeypatch.setattr(remote, "_PAUSE", 0.0)
    with serving(tmp_path) as (address, _), pytest.raises(FileNotFoundError) as caught:
        remote.read_range(f"{address}/a.tar", 0, 10)
    assert str(caught.value) == f"{address}/a.tar: no such file"
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # and does not listen
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}/a.tar"
        with pytest.raises(OSError, match=rf"^{url}: Cannot connect to host .*, 5 times in a row"):
            remote.read_range(url, 0, 10)
    assert [f"{url}: Cannot connect" in line for line in caplog.messages] == [True] * 4


def test_a_server_that_sends_no_parts_is_told(tmp_path: Path):
    """Once a reader needs the end of a file that is not small."""
    numbers = pa.table({"image": pa.array([os.urandom(1 << 20)] * 12, pa.binary())})
    pq.write_table(numbers, tmp_path / "a.parquet", use_dictionary=False)
    with serving(tmp_path) as (address, trouble):
        trouble.ranges = False
        url = f"{address}/a.parquet"
        with pytest.raises(OSError, match=rf"^{url}: the server does not send parts of a file"):
            remote.with_file(url, pq.ParquetFile)
