"""The index of a shard as Parquet: a row for each label, and a summary of the shard.

All of a store's index files read as one table, by this module or by any Parquet reader.
"""

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow  # pyright: ignore[reportMissingTypeStubs] - pyarrow ships no types
import pyarrow.parquet  # pyright: ignore[reportMissingTypeStubs]

_pa: Any = pyarrow
_parquet: Any = pyarrow.parquet

_UNREADABLE: Any = (_pa.ArrowException, OSError, ValueError, KeyError, TypeError)

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
    ]
)


def to_bytes(rows: Sequence[Mapping[str, Any]], summary: Mapping[str, Any]) -> bytes:
    """An index file; equal rows and summary give equal bytes."""
    schema = SCHEMA.with_metadata({"distill": json.dumps(summary)})
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
        return json.loads(_parquet.read_schema(path).metadata[b"distill"])
    except _UNREADABLE as error:
        raise ValueError(f"unreadable index ({error})") from error


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


def join(tables: Sequence[Any]) -> Any:
    """Tables of `read_rows`, one behind the other, each column in one piece."""
    return _pa.concat_tables([SCHEMA.empty_table(), *tables]).combine_chunks()
