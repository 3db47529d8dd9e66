"""Photographs in LMDB folders, LSUN's form: keys and encoded images."""

import glob as globs
import os
import threading
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote_from_bytes, unquote_to_bytes

from distill.datasets import images, remote
from distill.datasets.manifest import Entry, kept_or_listed
from distill.types import Sample

_DATA = "data.mdb"
_OPEN: dict[str, tuple[int, Any]] = {}
_OPENING = threading.Lock()


class LmdbImages:
    """All values of one or several LMDB folders. Keys: `"<name>/<folder>/<key of the value>"`.

    LSUN has one folder a category, `bedroom_train_lmdb/data.mdb`, whose values are JPEG or WebP.
    The keys are listed once; bytes in them that no path should hold are written as `%2F`.

    Args:
        folder: one with `data.mdb`, or the folder of such folders.
        name: of the data set.

    Raises:
        FileNotFoundError: there is no `data.mdb`.
        ValueError: a database is damaged, or holds nothing.
        ImportError: the package lmdb is missing; it comes with the extra `[data]`.
    """

    def __init__(self, folder: Path, *, name: str = "lsun") -> None:
        self.name = name
        below = f"{globs.escape(str(folder.absolute()))}/**/{_DATA}"
        found = sorted(globs.glob(below, recursive=True))  # noqa: PTH207 it follows links
        if not found:
            raise FileNotFoundError(
                f"{name}: no {_DATA} in {folder}; give the folder that holds LSUN's "
                "bedroom_train_lmdb and the others, unpacked"
            )
        self._names = remote.short_names([str(Path(path).parent) for path in found])
        places = tuple(self._names)
        self._manifest = kept_or_listed(
            f"lmdb_images {' '.join(places)}",
            fresh=remote.unchanged,
            entries=partial(_entries, places),
            containers=places,
        )
        if len(self._manifest) == 0:
            raise ValueError(f"{name}: nothing in {folder}/**/{_DATA}")

    def __len__(self) -> int:
        return len(self._manifest)

    def key(self, index: int) -> str:
        """The key of sample `index`, without reading it."""
        entry = self._manifest[index]
        return f"{self.name}/{self._names[self._manifest.containers[entry.container]]}/{entry.path}"

    def encoded(self, index: int) -> bytes:
        """The image's own bytes.

        Raises:
            OSError: it is not there any more.
        """
        entry = self._manifest[index]
        place = self._manifest.containers[entry.container]
        with _database(place).begin() as reading:
            value = reading.get(unquote_to_bytes(entry.path))
        if value is None:
            raise OSError(f"{self.key(index)}: is not in {place} any more; start the run again")
        return bytes(value)

    def __getitem__(self, index: int) -> Sample:
        """Read one image.

        Raises:
            ValueError: it is no image, damaged or too large (`images.read_pil`).
            OSError: as `encoded`.
            IndexError: there is no such sample.
        """
        key = self.key(index)
        return Sample(key=key, image=images.read_image(self.encoded(index), name=key))


def _database(place: str) -> Any:
    """Open once in each process: LMDB forbids twice, and to use what a parent has open."""
    place = os.path.realpath(place)  # twice would also be by another way
    with _OPENING:
        process, database = _OPEN.get(place, (0, None))
        if process != os.getpid():
            if database is not None:
                database.close()  # this process's copy; without locks the parent's stays open
            _OPEN[place] = os.getpid(), _opened(place)
        return _OPEN[place][1]


def _opened(place: str) -> Any:
    try:
        import lmdb
    except ImportError as error:
        raise ImportError("LMDB folders need lmdb: pip install 'distill[data]'") from error
    try:
        # no lock: it may lie on a read-only disk, and nobody writes to it
        database = lmdb.open(place, readonly=True, lock=False, readahead=False, meminit=False)
    except lmdb.Error as error:
        raise ValueError(f"{place}: damaged or no LMDB folder: {error}") from error
    needed = (database.info()["last_pgno"] + 1) * database.stat()["psize"]
    size = (Path(place) / _DATA).stat().st_size
    if size < needed:  # to read behind the end of a mapped file kills the process
        database.close()
        raise ValueError(f"{place}/{_DATA}: has {size} of {needed} bytes; fetch it again")
    return database


def _entries(places: Sequence[str], state: dict[str, str]) -> Iterator[Entry]:
    for number, place in enumerate(places):
        data = f"{place}/{_DATA}"
        state[data] = remote.version(data)
        with _database(place).begin() as reading:
            # LMDB's order is that of the bytes; writing some as % may change it
            paths = _paths(reading)
            before = ""
            for path in _paths(reading):
                if path < before:
                    paths = iter(sorted(_paths(reading)))
                    break
                before = path
            for path in paths:
                yield Entry(number, path, 0, 0)


def _paths(reading: Any) -> Iterator[str]:
    for key in reading.cursor().iternext(values=False):
        path = quote_from_bytes(key, safe="")
        yield path if path.strip(".") else path.replace(".", "%2E")
