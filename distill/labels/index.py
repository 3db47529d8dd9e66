"""The index of a shard as Parquet: a row for each label, and a summary of the shard.

All of a store's index files read as one table, by this module or by any Parquet reader.
"""

import contextlib
import hashlib
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow  # pyright: ignore[reportMissingTypeStubs] - pyarrow ships no types
import pyarrow.ipc  # pyright: ignore[reportMissingTypeStubs]
import pyarrow.parquet  # pyright: ignore[reportMissingTypeStubs]

from distill import atomic

_pa: Any = pyarrow
_parquet: Any = pyarrow.parquet
_ipc: Any = pyarrow.ipc

_FILES_AT_ONCE = 256
_STAMP = "distill index files"
_UNREADABLE: Any = (_pa.ArrowException, OSError, ValueError, KeyError, TypeError)

AGREEMENT = ("flip", "scale", "crop", "teachers", "edges")
"""What the confidence in an image's label may rest on: each a column, in [0, 1] or null."""

SCHEMA: Any = _pa.schema(
    [
        ("key", _pa.large_string()),
        ("shard", _pa.int32()),
        ("offset", _pa.int64()),
        ("size", _pa.int32()),
        ("sha256", _pa.binary(32)),
        ("height", _pa.int32()),
        ("width", _pa.int32()),
        ("image_height", _pa.int32()),
        ("image_width", _pa.int32()),
        ("minimum", _pa.float32()),
        ("maximum", _pa.float32()),
        ("confidence", _pa.float32()),
        *((name, _pa.float32()) for name in AGREEMENT),
        ("far", _pa.float32()),
        ("image_sha256", _pa.binary(32)),
        (
            "planes",
            _pa.list_(
                _pa.struct(
                    [
                        ("name", _pa.string()),
                        ("offset", _pa.int64()),
                        ("size", _pa.int32()),
                        ("sha256", _pa.binary(32)),
                    ]
                )
            ),
        ),
    ]
)


def to_bytes(rows: Sequence[Mapping[str, Any]], summary: Mapping[str, Any]) -> bytes:
    """An index file; equal rows and summary give equal bytes."""
    text = json.dumps(summary)
    schema = SCHEMA.with_metadata({"distill": text, "distill sha256": _sha256(text)})
    table = _pa.Table.from_pylist(rows, schema=schema)
    sink = io.BytesIO()
    _parquet.write_table(table, sink, compression="zstd", write_page_checksum=True)
    return sink.getvalue()


def read_summary(path: Path) -> dict[str, Any]:
    """What the file says of its shard as a whole.

    Raises:
        ValueError: it cannot be read.
    """
    try:
        metadata: dict[bytes, bytes] = _parquet.read_schema(path).metadata
        text = metadata[b"distill"].decode()
        digest = metadata[b"distill sha256"].decode()
    except _UNREADABLE as error:
        raise ValueError(f"unreadable index ({error})") from error
    if _sha256(text) != digest:
        raise ValueError("unreadable index (the checksum of its summary differs)")
    return json.loads(text)


def read_rows(path: Path) -> Any:
    """The rows as an Arrow table.

    Raises:
        ValueError: it cannot be read.
    """
    try:
        with _parquet.ParquetFile(path, page_checksum_verification=True) as file:
            table = file.read()
    except _UNREADABLE as error:
        raise ValueError(f"unreadable index ({error})") from error
    if not table.schema.equals(SCHEMA):
        raise ValueError(f"unreadable index (columns {table.schema.names})")
    return table.replace_schema_metadata(None)


def join(paths: Sequence[Path], cache: Path | None = None) -> Any:
    """The rows of several index files, one behind the other.

    Args:
        paths: index files, in the order of their keys.
        cache: where the table is kept from then on, or was kept for these very files: read by
            memory map, it costs each process no memory of its own, however many labels there are.

    Raises:
        CorruptIndex: one of them cannot be read.
    """
    if cache is None:
        return _pa.Table.from_batches(_batches(paths), schema=SCHEMA)
    stamp = _stamp(paths)
    table = _cached(cache, stamp)
    if table is None:
        with contextlib.suppress(OSError):  # a store on a read-only disk has no cache
            with atomic.replacing_file(cache) as temporary:
                schema = SCHEMA.with_metadata({_STAMP: stamp})
                with _ipc.new_file(str(temporary), schema) as writer:
                    for batch in _batches(paths):
                        writer.write_batch(batch)
            table = _cached(cache, stamp)
    return join(paths) if table is None else table.replace_schema_metadata(None)


class CorruptIndex(ValueError):
    """An index file that cannot be read.

    Attributes:
        path: of the file.
    """

    def __init__(self, path: Path, reason: str) -> None:
        self.path, self.reason = path, reason
        super().__init__(f"{path}: {reason}")


def _batches(paths: Sequence[Path]) -> Iterator[Any]:
    """The rows of many files at a time, since a lookup takes longer for each piece of a table."""
    for start in range(0, len(paths), _FILES_AT_ONCE):
        tables: list[Any] = []
        for path in paths[start : start + _FILES_AT_ONCE]:
            try:
                tables.append(read_rows(path))
            except ValueError as error:
                raise CorruptIndex(path, str(error)) from error
        yield from _pa.concat_tables(tables).combine_chunks().to_batches()


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _stamp(paths: Sequence[Path]) -> str:
    digest = hashlib.sha256(SCHEMA.to_string().encode())
    for path in paths:
        status = path.stat()
        digest.update(f"{path.name} {status.st_size} {status.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def _cached(cache: Path, stamp: str) -> Any:
    try:
        table = _ipc.open_file(_pa.memory_map(str(cache))).read_all()
    except _UNREADABLE:
        return None
    metadata: dict[bytes, bytes] = table.schema.metadata or {}
    return table if metadata.get(_STAMP.encode()) == stamp.encode() else None
