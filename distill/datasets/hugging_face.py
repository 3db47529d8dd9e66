"""Photographs from Hugging Face `datasets`: at random from a prepared set, or as a stream."""

import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import datasets

from distill.datasets import images
from distill.types import Sample


class HuggingFace:
    """A column of images of a `datasets.Dataset`. Keys: `"<name>/<row>"`.

    Args:
        source: the data set; or a folder that `save_to_disk` wrote; or a hub id or folder for
            `load_dataset`, which downloads and prepares all of it.
        column: of type `Image`.
        split: of a hub id.
        name: of the data set.

    Raises:
        ValueError: no such column of images, or no row.
        FileNotFoundError: nothing is there.
    """

    def __init__(
        self,
        source: "datasets.Dataset | str | Path",
        *,
        column: str = "image",
        split: str = "train",
        name: str = "photos",
    ) -> None:
        self.name, self.column = name, column
        loaded = source if isinstance(source, datasets.Dataset) else _load(source, split)
        self._rows = _undecoded(loaded, column, name)
        if len(self._rows) == 0:
            raise ValueError(f"{name}: no row in {source}")

    def __len__(self) -> int:
        return len(self._rows)

    def key(self, index: int) -> str:
        """The key of sample `index`, without reading it."""
        return f"{self.name}/{range(len(self))[index]:09d}"

    def encoded(self, index: int) -> bytes:
        """The image's own bytes.

        Raises:
            ValueError: the row holds none.
            FileNotFoundError: the file that the row names is gone.
        """
        row = self._rows[range(len(self))[index]]
        return _bytes(row[self.column], self.key(index))

    def __getitem__(self, index: int) -> Sample:
        """Read one image.

        Raises:
            ValueError: it is damaged or too large (`images.read_pil`), or the row holds none.
            FileNotFoundError: as `encoded`.
            IndexError: there is no such sample.
        """
        key = self.key(index)
        return Sample(key=key, image=images.read_image(self.encoded(index), name=key))


class Streamed:
    """A column of images of a `datasets.IterableDataset`, in order. Keys: `"<name>/<number>"`.

    For what has no random access. The number is the place in the stream, the same on every node:
    each reads the whole stream and decodes its share, and all together get every sample once.
    `state` is where the stream is; `resume` puts another one there, in another process too. What is
    in Parquet files is better read by `ParquetImages`, by its rows and in any order.

    Args:
        rows: the stream.
        column: of type `Image`.
        name: of the data set.
        node: this process, from 0.
        nodes: processes that share the stream.
        seed: shuffles within `buffer` samples; None keeps the order. A shuffled stream resumes by
            reading again what it had read, undecoded; one in order jumps.
        buffer: samples that shuffling holds in memory.

    Raises:
        ValueError: no such column of images, or `node` is none of `nodes`.
    """

    def __init__(
        self,
        rows: "datasets.IterableDataset",
        *,
        column: str = "image",
        name: str = "photos",
        node: int = 0,
        nodes: int = 1,
        seed: int | None = None,
        buffer: int = 1000,
    ) -> None:
        if not 0 <= node < nodes:
            raise ValueError(f"{name}: node {node} of {nodes}; nodes count from 0")
        self.name, self.column, self._node, self._nodes = name, column, node, nodes
        self._shuffled, self._next = seed is not None, 0
        plain = _undecoded(rows, column, name)
        self._rows = plain if seed is None else plain.shuffle(seed=seed, buffer_size=buffer)

    def __iter__(self) -> Iterator[Sample]:
        """The samples from where the stream is.

        Raises:
            ValueError: an image is damaged or too large, or a row holds none.
        """
        rows = iter(self._rows)
        if self._shuffled:
            rows = itertools.islice(rows, self._next, None)
        for row in rows:
            number, self._next = self._next, self._next + 1
            if number % self._nodes != self._node:
                continue
            key = f"{self.name}/{number:09d}"
            data = _bytes(row[self.column], key)
            yield Sample(key=key, image=images.read_image(data, name=key))

    def state(self) -> dict[str, Any]:
        """Where the stream is, as plain JSON."""
        place = {} if self._shuffled else {"rows": self._rows.state_dict()}
        return {"next": self._next, **place}

    def resume(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`."""
        self._next = state["next"]
        if not self._shuffled:
            self._rows.load_state_dict(state["rows"])


def _load(source: str | Path, split: str) -> "datasets.Dataset":
    folder = Path(source)
    if (folder / "dataset_info.json").is_file() or (folder / "dataset_dict.json").is_file():
        loaded = datasets.load_from_disk(str(folder))
        return loaded[split] if isinstance(loaded, datasets.DatasetDict) else loaded
    return datasets.load_dataset(str(source), split=split)


def _undecoded(rows: Any, column: str, name: str) -> Any:
    """With the column's bytes as they are: Pillow would make 8 bits of 16."""
    features = rows.features or {}
    if features and not isinstance(features.get(column), datasets.Image):
        there = ", ".join(f"{key} ({value})" for key, value in features.items())
        raise ValueError(f"{name}: no column {column!r} of images; there are {there}")
    return rows.cast_column(column, datasets.Image(decode=False))


def _bytes(value: Any, key: str) -> bytes:
    if value is None or (value["bytes"] is None and not value["path"]):
        raise ValueError(f"{key}: the row holds no image")
    return value["bytes"] if value["bytes"] is not None else Path(value["path"]).read_bytes()
