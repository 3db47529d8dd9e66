"""Photographs in Parquet files, as Hugging Face stores them, near and far."""

import bisect
import itertools
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from distill.datasets import images, parquet_file, remote
from distill.types import Sample

_KEPT = 2  # row groups that a process keeps


class ParquetImages:
    """One column of images in Parquet files. Keys: `"<name>/<file>/<row>"`.

    Only the files' footers are read at the start; then a sample is read with its row group, of
    which the last two are kept. That suits reading in order (labelling); to shuffle them costs a
    row group a sample, so that tar shards or a folder are better for training.

    Args:
        files: a file, a folder, a URL (hf://datasets/..., https://, s3://), or a pattern: `{0..9}`
            counts, `*` matches. Or several.
        column: of structs with `bytes` (Hugging Face's `Image`), or of bytes.
        name: of the data set.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a file is damaged or has no such column of image bytes; or there is no row.
        OSError: a file cannot be reached.
    """

    def __init__(
        self,
        files: str | Path | Sequence[str | Path],
        *,
        column: str = "image",
        name: str = "photos",
    ) -> None:
        self.name, self.column = name, column
        self._names = remote.short_names(remote.expand(files, suffix=".parquet"))
        self._places = list(self._names)
        self._groups: list[list[int]] = []  # of each file: where its row groups end
        for place in self._places:
            rows = remote.with_file(
                place, partial(parquet_file.row_groups, place=place, column=column)
            )
            self._groups.append(list(itertools.accumulate(rows)))
        self._ends = list(itertools.accumulate(ends[-1] if ends else 0 for ends in self._groups))
        if self._ends[-1] == 0:
            raise ValueError(f"{name}: no row in {len(self._places)} files of {self._places[0]}")
        self._read: _Read | None = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_read": None}

    def __len__(self) -> int:
        return self._ends[-1]

    def key(self, index: int) -> str:
        """The key of sample `index`, without reading it."""
        file, row = self._locate(index)
        return f"{self.name}/{self._names[self._places[file]]}/{row:09d}"

    def encoded(self, index: int) -> bytes:
        """The image's own bytes.

        Raises:
            ValueError: the row holds none, or the file is damaged or has changed.
            OSError: the file is gone or cannot be reached.
        """
        file, row = self._locate(index)
        group = bisect.bisect_right(self._groups[file], row)
        first = self._groups[file][group - 1] if group else 0
        value = self._group(file, group, self._groups[file][group] - first)[row - first].as_py()
        if isinstance(value, dict):
            value = value["bytes"]
        if value is None:
            raise ValueError(f"{self.key(index)}: no bytes; embed the images when writing the file")
        return value

    def __getitem__(self, index: int) -> Sample:
        """Read one image.

        Raises:
            ValueError: it is damaged or too large (`images.read_pil`), or as `encoded`.
            OSError: as `encoded`.
            IndexError: there is no such sample.
        """
        key = self.key(index)
        return Sample(key=key, image=images.read_image(self.encoded(index), name=key))

    def _locate(self, index: int) -> tuple[int, int]:
        index = range(len(self))[index]  # IndexError, and negative indices, as a list has them
        file = bisect.bisect_right(self._ends, index)
        return file, index - (self._ends[file - 1] if file else 0)

    def _group(self, file: int, group: int, rows: int) -> Any:
        if self._read is None or self._read.process != os.getpid():
            self._read = _Read()  # a child must not share what its parent had open
        read = self._read
        with read.lock:  # threads of a label job: one reads, the others find it
            if (file, group) not in read.groups:
                while len(read.groups) >= _KEPT:
                    read.groups.pop(next(iter(read.groups)))
                place = self._places[file]
                read.groups[file, group] = remote.with_file(
                    place,
                    lambda source: parquet_file.read_group(source, place, group, rows, self.column),
                )
            return read.groups[file, group]


@dataclass
class _Read:
    """The row groups that one process holds."""

    process: int = field(default_factory=os.getpid)
    lock: Any = field(default_factory=threading.Lock)
    groups: dict[tuple[int, int], Any] = field(default_factory=dict)
