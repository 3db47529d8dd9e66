"""`distill data list`: every image of a source, where it lies and what it holds, as a table."""

import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from distill import atomic
from distill.datasets.photographs import open_photographs
from distill.job import PartialFailure
from distill.types import Dataset

_SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("file", pa.string()),  # path or URL; null where no range of a file's bytes is the image
        ("offset", pa.int64()),
        ("size", pa.int64()),  # bytes
        ("sha256", pa.string()),  # of the image's own bytes; null unless asked for
    ]
)
_ROWS = 16_384  # of a row group: what is held in memory
_THREADS = 8


def write_listing(source: Path | str, out: Path, *, sha256: bool = False) -> int:
    """Write a row an image, in the order of the keys; names alone are read, unless `sha256`.

    Args:
        source: as `open_photographs` takes it.
        out: the Parquet file.
        sha256: read every image and hash it.

    Returns:
        The number of rows.

    Raises:
        ValueError, FileNotFoundError: as `open_photographs`; or `sha256` of a video's frames.
        PartialFailure: at the end, the images that are gone or cannot be reached, by key.
    """
    images = open_photographs(source)
    if sha256 and not hasattr(images, "encoded"):
        raise ValueError(f"{source}: frames of a video have no bytes of their own to hash")
    failures: dict[str, str] = {}
    row = _row(images, sha256=sha256)
    with (
        atomic.replacing_file(out) as path,
        pq.ParquetWriter(path, _SCHEMA) as file,
        ThreadPoolExecutor(_THREADS) as pool,
        tqdm(total=len(images), unit="image") as bar,
    ):
        for start in range(0, len(images), _ROWS):
            indices = range(start, min(start + _ROWS, len(images)))
            rows = list(pool.map(row, indices))
            failures |= {one["key"]: one.pop("failure") for one in rows if "failure" in one}
            file.write_table(pa.Table.from_pylist(rows, _SCHEMA))
            bar.update(len(rows))
    if failures:
        raise PartialFailure(failures)
    return len(images)


def _row(images: Dataset, *, sha256: bool) -> Callable[[int], dict[str, Any]]:
    place: Any = getattr(images, "place", None)
    encoded: Any = getattr(images, "encoded", None)

    def row(index: int) -> dict[str, Any]:
        found: dict[str, Any] = {"key": images.key(index)}
        try:
            if place is not None:
                found |= place(index)._asdict()
            if sha256:
                data = encoded(index)
                found |= {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        except (OSError, ValueError) as error:
            found["failure"] = str(error)
        return found

    return row
