"""A label store: what made it, which labels it holds, and each of them on request.

On disk: `store.json` (a `StoreMeta`), `labels-00042.tar`, `index/labels-00042.parquet`. Labels are
read where they lie, by offset; nothing is extracted. Every read is checked against its SHA-256.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast, overload

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from distill.labels import audit, index, query, shards
from distill.labels.codec import decode
from distill.labels.meta import read_meta
from distill.labels.planes import Planes, decode_planes
from distill.labels.shards import CorruptShard
from distill.types import Prediction

_AT_ONCE = 10_000  # keys
_QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)


@dataclass(frozen=True, kw_only=True)
class Label:
    """A label as it was stored.

    Attributes:
        prediction: at the teacher's network resolution; NaN where not `valid`.
        valid: where the teacher's number stands for something.
        image_size: (height, width) of the image it belongs to, pixels.
        planes: confidence, sky and classes, where they were looked for.
    """

    prediction: Prediction
    valid: Bool[Tensor, "h w"]
    image_size: tuple[int, int]
    planes: Planes


class LabelStore:
    """Random access to a store. Cheap to pickle: a worker reads the index again when it first asks.

    Raises:
        FileNotFoundError: `path` holds no store.
        ValueError: shards are missing and `allow_incomplete` is False.
        CorruptShard: an index file cannot be read.
    """

    def __init__(self, path: Path, *, allow_incomplete: bool = False) -> None:
        self.path = Path(path)
        self.meta = read_meta(self.path)
        missing = self.missing()
        if missing and not allow_incomplete:
            raise ValueError(
                f"{self.path}: {len(missing)} of {self.meta.shards} shards are missing "
                f"({_some(missing)}); finish the label job with --resume"
            )
        self._index: Any = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_index": None}

    def __len__(self) -> int:
        return len(self.index)

    @property
    def index(self) -> Any:
        """The rows of all shards as one Arrow table, in the order of the keys."""
        if self._index is None:
            paths = [shards.index_path(self.path, n) for n in shards.committed(self.path)]
            whole = len(paths) == self.meta.shards
            try:
                self._index = index.join(paths, self.path / ".index.arrow" if whole else None)
            except index.CorruptIndex as error:
                raise CorruptShard(None, error.path, error.reason) from error
        return self._index

    def keys(self) -> Sequence[str]:
        """All keys, sorted; each becomes a string when it is looked at."""
        return _Keys(self.index["key"])

    def matching(self, where: str) -> Bool[np.ndarray, " n"]:
        """Which labels a condition on the columns of `index` holds for; see `query.matching`."""
        return query.matching(self.index, where)

    def select(self, where: str) -> Any:
        """The rows of `index` that a condition holds for; see `query.matching`."""
        return self.index.filter(self.matching(where))

    def __contains__(self, key: str) -> bool:
        return self._row(key) is not None

    def read(self, key: str) -> Label:
        """The label of `key`.

        Raises:
            KeyError: there is none.
            CorruptShard: its bytes are not the ones that were written.
        """
        row = self._row(key)
        if row is None:
            raise KeyError(f"{self.path} holds no label for {key}")
        path = shards.tar_path(self.path, row["shard"])
        try:
            with path.open("rb") as file:
                values, valid = decode(self._bytes(file, row, key))
                planes = {plane["name"]: self._bytes(file, plane, key) for plane in row["planes"]}
        except FileNotFoundError as error:
            raise CorruptShard(key, path, "the file is gone") from error
        prediction = Prediction(
            values=torch.as_tensor(values), space=self.meta.space, confidence=row["confidence"]
        )
        return Label(
            prediction=prediction,
            valid=torch.as_tensor(valid),
            image_size=(row["image_height"], row["image_width"]),
            planes=decode_planes(planes, *values.shape),
        )

    def _bytes(self, file: BinaryIO, place: dict[str, Any], key: str) -> bytes:
        file.seek(place["offset"])
        data = file.read(place["size"])
        if hashlib.sha256(data).digest() != place["sha256"]:
            raise CorruptShard(key, Path(file.name), "checksum differs")
        return data

    def missing(self) -> list[int]:
        """The numbers of the shards that are still to be written."""
        return sorted(set(range(self.meta.shards)) - set(shards.committed(self.path)))

    def quarantined(self) -> dict[str, str]:
        """Images that got no label, each with its reason."""
        reports = (shards.read_report(self.path, n) for n in shards.committed(self.path))
        return {key: reason for report in reports for key, reason in report.quarantined.items()}

    def damage(self) -> Iterator[CorruptShard]:
        """Every shard that is not as it was written; reads the whole store once."""
        for number in shards.committed(self.path):
            fault = audit.fault(self.path, number)
            if fault is not None:
                yield fault

    def verify(self) -> int:
        """Check every byte of every shard, and each index against its shard.

        Returns:
            The number of labels.

        Raises:
            CorruptShard: the first shard that is not as it was written.
        """
        for fault in self.damage():
            raise fault
        return len(self)

    def stats(self) -> dict[str, Any]:
        """Counts, bytes, range of values, sizes and quantiles of the confidence."""
        table = self.index
        sizes = Counter(zip(table["height"].to_pylist(), table["width"].to_pylist(), strict=True))
        files = [shards.tar_path(self.path, n).stat().st_size for n in shards.committed(self.path)]
        label_bytes = sum(table["size"].to_pylist())
        return {
            "labels": len(table),
            "quarantined": len(self.quarantined()),
            "shards": len(files),
            "missing_shards": len(self.missing()),
            "bytes": sum(files),
            "label_bytes": label_bytes,
            "bytes_per_label": label_bytes / max(1, len(table)),
            "minimum": min(table["minimum"].to_pylist(), default=None),
            "maximum": max(table["maximum"].to_pylist(), default=None),
            "sizes": {f"{height}x{width}": n for (height, width), n in sorted(sizes.items())},
            "confidence": _quantiles(table["confidence"].drop_null().to_numpy()),
        }

    def _row(self, key: str) -> dict[str, Any] | None:
        keys, low, high = self.index["key"], 0, len(self)
        while low < high:
            middle = (low + high) // 2
            low, high = (middle + 1, high) if keys[middle].as_py() < key else (low, middle)
        if low == len(self) or keys[low].as_py() != key:
            return None
        return self.index.slice(low, 1).to_pylist()[0]


class _Keys(Sequence[str]):
    """A column of strings; as a list, a store of millions would take gigabytes."""

    def __init__(self, column: Any) -> None:
        self._column = column

    def __len__(self) -> int:
        return len(self._column)

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[str]: ...
    def __getitem__(self, place: int | slice) -> str | Sequence[str]:
        if isinstance(place, slice):
            return self._column[place].to_pylist()
        return self._column[place].as_py()

    def __iter__(self) -> Iterator[str]:
        for start in range(0, len(self), _AT_ONCE):
            yield from self._column[start : start + _AT_ONCE].to_pylist()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(cast(Sequence[str], other))


def _some(numbers: Sequence[int]) -> str:
    shown = ", ".join(f"{number:05d}" for number in numbers[:5])
    return shown + (", ..." if len(numbers) > 5 else "")


def _quantiles(values: Float[np.ndarray, " n"]) -> dict[str, float]:
    """Empty where no label has a confidence."""
    if len(values) == 0:
        return {}
    return {str(q): float(np.quantile(values, q)) for q in _QUANTILES}
