"""Whether a shard still holds the bytes that were written, and if not, which label is damaged."""

import hashlib
import io
import tarfile
from pathlib import Path
from typing import Any

from distill.labels import shards
from distill.labels.shards import CorruptShard


def fault(root: Path, number: int) -> CorruptShard | None:
    """What is wrong with shard `number` of a store; None where every byte is as it was written.

    The label whose bytes changed is named; where every label is whole, the damage lies in the
    tar's own headers or descriptions. The index is compared with what the tar itself says.
    """
    path = shards.tar_path(root, number)
    try:
        report = shards.read_report(root, number)
        rows = shards.read_rows(root, number).to_pylist()
        data = path.read_bytes()
    except CorruptShard as found:
        return found
    except FileNotFoundError:
        return CorruptShard(None, path, "the file is gone")
    if (len(data), hashlib.sha256(data).hexdigest()) == (report.size, report.sha256):
        return _contradiction(root, number, rows, data)
    for row in rows:
        part = data[row["offset"] : row["offset"] + row["size"]]
        if hashlib.sha256(part).digest() != row["sha256"]:
            return CorruptShard(row["key"], path, "checksum differs")
    return CorruptShard(None, path, "checksum differs, outside the labels")


def cache_agrees(table: Any, root: Path) -> bool:
    """Whether the joined index that a store hands out says what its sound index files say.

    The table is mapped from a file that has no checksums of its own.
    """
    start = 0
    for number in shards.committed(root):
        rows = shards.read_rows(root, number)
        if table.slice(start, len(rows)).to_pylist() != rows.to_pylist():
            return False
        start += len(rows)
    return start == len(table)


def _contradiction(
    root: Path, number: int, rows: list[dict[str, Any]], data: bytes
) -> CorruptShard | None:
    try:
        same = shards.rows_of_tar(io.BytesIO(data), number) == rows
    except (tarfile.TarError, KeyError, ValueError):
        same = False
    path = shards.index_path(root, number)
    return None if same else CorruptShard(None, path, "index and shard contradict each other")
