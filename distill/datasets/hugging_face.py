"""Photographs from Hugging Face `datasets`: at random from a prepared set, or as a stream."""

import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import datasets
from torch.utils.data import IterableDataset, get_worker_info

from distill.datasets import images, remote
from distill.types import Sample


class HuggingFace:
    """A column of images of a `datasets.Dataset`. Keys: `"<name>/<row>"`.

    Args:
        source: the data set; or a folder that `save_to_disk` wrote; or a hub id or folder for
            `load_dataset`, which downloads and prepares all of it.
        column: of type `Image`, of structs with `bytes`, or of bytes.
        split: of a hub id, or of what was saved with several.
        name: of the data set.

    Raises:
        ValueError: no such column of images, no such split, or no row.
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


class Streamed(IterableDataset[Sample]):
    """A column of images of a `datasets.IterableDataset`, in order. Keys: `"<name>/<number>"`.

    For what has no random access. The number is the place in the stream, the same on every node and
    in every worker of a `DataLoader`: each reads the whole stream and decodes its share, and all
    together get every sample once. `state_dict` is where the stream is; `load_state_dict` puts
    another one there, in another process too. A stream that was read to its end starts anew. What
    is in Parquet files is better read by `ParquetImages`, by its rows and in any order.

    Args:
        rows: the stream.
        column: of type `Image`, of structs with `bytes`, or of bytes.
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
        self._shuffled = seed is not None
        plain = _undecoded(rows, column, name)
        self._rows = plain if seed is None else plain.shuffle(seed=seed, buffer_size=buffer)
        self._next: int = 0
        self._place: dict[str, Any] | None = None  # of `_rows`, always that of `_next`

    def __iter__(self) -> Iterator[Sample]:
        """The samples from where the stream is.

        Raises:
            ValueError: an image is damaged or too large, or a row holds none.
            FileNotFoundError: the file that a row names is gone.
            OSError: it cannot be reached.
        """
        worker = get_worker_info()
        part, parts = (worker.id, worker.num_workers) if worker else (0, 1)
        part, parts = self._node * parts + part, self._nodes * parts
        if not self._shuffled:
            self._rows.load_state_dict(self._place)
        rows = self._rows.iter(batch_size=1)  # unlike `iter`, the same in every worker
        for row in itertools.islice(rows, self._next if self._shuffled else 0, None):
            number, self._next = self._next, self._next + 1
            if not self._shuffled:
                self._place = self._rows.state_dict()
            if number % parts == part:
                key = f"{self.name}/{number:09d}"
                data = _bytes(row[self.column][0], key)
                yield Sample(key=key, image=images.read_image(data, name=key))
        self._next, self._place = 0, None

    def state_dict(self) -> dict[str, Any]:
        """Where the stream is, as plain JSON; of a worker's copy only the worker knows."""
        return {"next": self._next, "rows": self._place}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`."""
        self._next, self._place = state["next"], state["rows"]


def _load(source: str | Path, split: str) -> "datasets.Dataset":
    folder = Path(source)
    if (folder / "dataset_info.json").is_file() or (folder / "dataset_dict.json").is_file():
        loaded = datasets.load_from_disk(str(folder))
        if not isinstance(loaded, datasets.DatasetDict):
            return loaded
        if split not in loaded:
            raise ValueError(
                f"{folder}: no split {split!r}; there are {', '.join(map(str, loaded))}"
            )
        return loaded[split]
    return datasets.load_dataset(str(source), split=split)


def _undecoded(rows: Any, column: str, name: str) -> Any:
    """The column alone, its bytes as they are: Pillow would make 8 bits of 16."""
    features = rows.features or {}  # of some streams nobody knows them before reading
    if features and not _holds_bytes(features.get(column)):
        there = ", ".join(f"{key} ({value})" for key, value in features.items())
        raise ValueError(f"{name}: no column {column!r} of images; there are {there}")
    plain = rows.with_format(None).select_columns([column])
    if isinstance(features.get(column), datasets.Image):
        return plain.cast_column(column, datasets.Image(decode=False))
    return plain


def _holds_bytes(kind: Any) -> bool:
    if isinstance(kind, Mapping):
        return _holds_bytes(kind.get("bytes"))
    binary = isinstance(kind, datasets.Value) and kind.dtype in ("binary", "large_binary")
    return binary or isinstance(kind, datasets.Image)


def _bytes(value: Any, key: str) -> bytes:
    if isinstance(value, Mapping):
        path = value.get("path")
        value = value.get("bytes")
        if value is None and path:
            if remote.is_remote(path):  # also zip://a.jpg::https://..., as streams name members
                return remote.patiently(path, lambda fs, inner: fs.cat_file(inner))
            return Path(path).read_bytes()
    if not isinstance(value, bytes):
        raise ValueError(f"{key}: the row holds no image but {type(value).__name__}")
    return value
