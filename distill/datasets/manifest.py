"""What a large source holds, listed once: a table on the disk that all processes map and share.

A row says where an image lies: container, path in it, offset, size. Rows are sorted by container
and path as the keys are, so a key's place never depends on who listed. A listing that was worth it
is kept below `$XDG_CACHE_HOME/distill/manifests` (default `~/.cache`) and taken again as long as
the source says that it is the same; a file there that is damaged is listed again, never trusted.
"""

import hashlib
import itertools
import json
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from distill import atomic

VERSION = 1  # of the rows' meaning; another one is listed again
WORTH = 10_000  # rows; fewer are listed again each time, which is quicker than to ask
_LEFT = 7 * 86_400  # seconds after which nobody is listing any more
_ROWS = 65_536  # of a record batch: what listing holds in memory
_SCHEMA = pa.schema(
    [
        ("container", pa.int32()),
        ("path", pa.large_string()),
        ("offset", pa.int64()),
        ("size", pa.int64()),
    ]
)
_log = logging.getLogger(__name__)


class Entry(NamedTuple):
    """Where one image lies.

    Attributes:
        container: its number in `Manifest.containers`.
        path: within the container, or below the root where each file is its own.
        offset: of its first byte in the container; of a video's frame its time stamp.
        size: bytes; 0 where `path` is enough to find the image.
    """

    container: int
    path: str
    offset: int
    size: int


class Place(NamedTuple):
    """A range of bytes that is one image.

    Attributes:
        file: path or URL.
        offset: of the first byte.
        size: bytes.
    """

    file: str
    offset: int
    size: int


class Manifest:
    """Rows in the order of the keys. Cheap to pickle where it is kept on the disk.

    Attributes:
        containers: what the entries' numbers stand for; a folder of files has one, itself.
    """

    def __init__(self, containers: tuple[str, ...], rows: "pa.Table | Path") -> None:
        self.containers = containers
        self._path = rows if isinstance(rows, Path) else None
        table = _mapped(rows) if isinstance(rows, Path) else rows
        self._table: pa.Table | None = table
        self._count = table.num_rows

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | ({"_table": None} if self._path else {})

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Entry:
        row = range(self._count)[index]  # IndexError, and negative indices, as a list has them
        return Entry(*(column[row].as_py() for column in self._rows().columns))

    def path(self, index: int) -> str:
        """The `path` of entry `index` alone, in a quarter of the time."""
        return self._rows().column("path")[range(self._count)[index]].as_py()

    def _rows(self) -> pa.Table:
        if self._table is None:
            assert self._path is not None
            try:
                self._table = _mapped(self._path)
            except FileNotFoundError as error:
                raise FileNotFoundError(
                    f"{self._path}: another listing has replaced this one, for what was listed "
                    "has changed; start the run again"
                ) from error
        return self._table


def kept_or_listed(
    source: str,
    *,
    fresh: Callable[[Mapping[str, str]], bool],
    entries: Callable[[dict[str, str]], Iterable[Entry]],
    containers: tuple[str, ...],
    slow: bool = False,
) -> Manifest:
    """The manifest of `source`: the one that is kept, if it still holds, or a new one.

    Args:
        source: names the kind of reader and what it reads, for good.
        fresh: whether the source is as it was, by what `entries` noted then.
        entries: lists, sorted; notes in its argument what `fresh` will need.
        containers: of the entries.
        slow: keep also a short listing, of a source that is far away.

    Raises:
        FileNotFoundError: on reading in another process, a listing that was replaced meanwhile.
    """
    place = _folder() / hashlib.sha256(f"{VERSION} {source}".encode()).hexdigest()[:32]
    kept = _kept(place, source, containers, fresh)
    if kept is not None:
        return kept
    state: dict[str, str] = {}
    listed = _batches(entries(state))
    first = list(itertools.islice(listed, 1))
    if not slow and sum(map(len, first)) < WORTH:
        return Manifest(containers, pa.Table.from_batches(first, _SCHEMA))
    try:
        rows = _write(place, _of_source(itertools.chain(first, listed)), source, state, containers)
    except _SourceError as error:
        raise error.error from None
    except OSError as error:
        _log.warning("%s: its listing cannot be kept (%s)", source, error)
        return Manifest(containers, pa.Table.from_batches(_batches(entries({})), _SCHEMA))
    return Manifest(containers, rows)


def _folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "distill/manifests"


def _kept(
    place: Path,
    source: str,
    containers: tuple[str, ...],
    fresh: Callable[[Mapping[str, str]], bool],
) -> Manifest | None:
    try:
        text = place.with_suffix(".json").read_bytes()
    except OSError:
        return None
    try:
        said = json.loads(text)
        if said["source"] != source or tuple(said["containers"]) != containers:
            return None
        if not fresh(said["state"]):
            _log.info("%s has changed and is listed again", source)
            return None
        found = Manifest(containers, place.with_name(said["file"]))
        if len(found) != said["rows"]:
            raise ValueError(f"{len(found)} rows, not {said['rows']}")
        return found
    except (OSError, ValueError, LookupError, TypeError, AttributeError, pa.ArrowInvalid) as error:
        _log.warning("%s: damaged (%s); %s is listed again", place, error, source)
        return None


class _SourceError(Exception):
    """Carries the source's error past those of the cache."""

    def __init__(self, error: OSError) -> None:
        super().__init__(error)
        self.error = error


def _of_source(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    try:
        yield from batches
    except OSError as error:
        raise _SourceError(error) from error


def _write(
    place: Path,
    batches: Iterable[pa.RecordBatch],
    source: str,
    state: Mapping[str, str],
    containers: tuple[str, ...],
) -> Path:
    """The rows' file, named by what is in it: processes may list at once, and none's rows change.

    What says that it holds comes last.
    """
    place.parent.mkdir(parents=True, exist_ok=True)
    for left in place.parent.glob(f".{place.name}.*/"):  # by a process that was killed
        if left.stat().st_mtime < time.time() - _LEFT:
            shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=f".{place.name}.", dir=place.parent) as folder:
        count = 0
        path = Path(folder) / "rows"
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, _SCHEMA) as writer:
            for batch in batches:
                writer.write_batch(batch)
                count += len(batch)
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()[:16]
        atomic.fsync(path)
        rows = place.with_name(f"{place.name}-{digest}.arrow")
        atomic.commit(path, rows)
    about = {"source": source, "file": rows.name, "rows": count, "containers": containers}
    about["state"] = state  # complete only now
    atomic.write_text(place.with_suffix(".json"), json.dumps(about))
    for old in place.parent.glob(f"{place.name}-*.arrow"):
        if old != rows:
            old.unlink(missing_ok=True)
    return rows


def _batches(entries: Iterable[Entry]) -> Iterator[pa.RecordBatch]:
    rows = iter(entries)
    while some := list(itertools.islice(rows, _ROWS)):
        columns = zip(*some, strict=True)
        arrays = [pa.array(c, f.type) for c, f in zip(columns, _SCHEMA, strict=True)]
        yield pa.RecordBatch.from_arrays(arrays, schema=_SCHEMA)


def _mapped(path: Path) -> pa.Table:
    table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
    if table.schema != _SCHEMA:
        raise ValueError(f"columns {table.schema.names}")
    return table
