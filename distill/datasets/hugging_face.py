"""Photographs from a prepared data set of Hugging Face `datasets`, in any order."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import datasets

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
        self._rows = undecoded(loaded, column, name)
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
        return encoded_image(row[self.column], self.key(index))

    def __getitem__(self, index: int) -> Sample:
        """Read one image.

        Raises:
            ValueError: it is damaged or too large (`images.read_pil`), or the row holds none.
            FileNotFoundError: as `encoded`.
            IndexError: there is no such sample.
        """
        key = self.key(index)
        return Sample(key=key, image=images.read_image(self.encoded(index), name=key))


def undecoded(rows: Any, column: str, name: str) -> Any:
    """The column alone of a prepared or streamed set, its bytes as they are.

    Pillow would make 8 bits of 16.

    Raises:
        ValueError: there is no such column of images.
    """
    features = rows.features or {}  # of some streams nobody knows them before reading
    if features and not _holds_bytes(features.get(column)):
        there = ", ".join(f"{key} ({value})" for key, value in features.items())
        raise ValueError(f"{name}: no column {column!r} of images; there are {there}")
    plain = rows.with_format(None).select_columns([column])
    if isinstance(features.get(column), datasets.Image):
        return plain.cast_column(column, datasets.Image(decode=False))
    return plain


def encoded_image(value: Any, key: str) -> bytes:
    """The image's own bytes, of what a row holds in an `undecoded` column.

    Raises:
        ValueError: it holds no image.
        FileNotFoundError: the file that it names is gone.
        OSError: it cannot be reached.
    """
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


def _holds_bytes(kind: Any) -> bool:
    if isinstance(kind, Mapping):
        return _holds_bytes(kind.get("bytes"))
    binary = isinstance(kind, datasets.Value) and kind.dtype in ("binary", "large_binary")
    return binary or isinstance(kind, datasets.Image)
