"""One Parquet file with a column of image bytes: its footer, and a row group of the column."""

from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from distill.datasets import remote


def row_groups(source: Any, place: str, column: str) -> list[int]:
    """The number of rows in each row group, by the file's footer.

    Raises:
        ValueError: it is damaged, or has no such column of image bytes.
    """
    try:
        with pq.ParquetFile(source) as file:
            schema, about = file.schema_arrow, file.metadata
            rows = [about.row_group(n).num_rows for n in range(about.num_row_groups)]
    except pa.ArrowInvalid as error:
        raise ValueError(f"{place}: damaged or no Parquet file: {error}") from error
    if column not in schema.names or not _holds_bytes(schema.field(column).type):
        there = ", ".join(f"{field.name} ({field.type})" for field in schema)
        raise ValueError(f"{place}: no column {column!r} of image bytes; there are {there}")
    return rows


def read_group(source: Any, place: str, group: int, rows: int, column: str) -> Any:
    """The values of one row group of `rows` rows: bytes, or structs with `bytes` alone.

    Raises:
        ValueError: it is damaged, or the file is not the one whose footer was read.
        OSError: the file is gone or cannot be reached.
    """
    try:
        with pq.ParquetFile(source, page_checksum_verification=True) as file:
            schema, about = file.schema_arrow, file.metadata
            there = column in schema.names and group < about.num_row_groups
            if not there or about.row_group(group).num_rows != rows:  # or a key gets another image
                raise ValueError(f"{place}: has changed since the start; start the run again")
            wanted = f"{column}.bytes" if pa.types.is_struct(schema.field(column).type) else column
            return file.read_row_group(group, columns=[wanted], use_threads=False).column(column)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OSError) as error:
        if isinstance(error, OSError) and (error.errno or remote.is_remote(place)):
            raise  # the way to the file, not what is in it
        raise ValueError(f"{place}: row group {group} is damaged: {error}") from error


def _holds_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        place = kind.get_field_index("bytes")
        return place >= 0 and _holds_bytes(kind.field(place).type)
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)
