"""One shard of a label store: a tar that any WebDataset reader opens, and its index.

`labels-00042.tar` holds for each key, in order, `<escaped key>.jxl`, its planes as
`<escaped key>.confidence.jxl` and so on, and `<escaped key>.json`; `index/labels-00042.parquet`
holds where each label lies, its checksums and its figures. Both are renamed into place, the index
last: its presence is the commit. Nothing in either depends on when, where or by whom it was
written.
"""

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from distill import atomic
from distill.labels import index
from distill.labels.encoded import EncodedLabel, escape
from distill.labels.planes import NAMES


class CorruptShard(ValueError):
    """A shard whose bytes are not the ones that were written.

    Attributes:
        key: of the damaged label; None where the damage lies outside every label.
        path: of the file.
    """

    def __init__(self, key: str | None, path: Path, reason: str) -> None:
        self.key, self.path, self.reason = key, path, reason
        label = "" if key is None else f" at {key}"
        super().__init__(
            f"{path}{label}: {reason}; run `distill labels repair` on the store and resume its job"
        )

    def __reduce__(self) -> tuple[type["CorruptShard"], tuple[str | None, Path, str]]:
        return type(self), (self.key, self.path, self.reason)


@dataclass(frozen=True, kw_only=True)
class ShardReport:
    """What a shard's index says of the shard as a whole.

    Attributes:
        pixels: of all labels together; 0 in stores that do not tell.
        zeros: those of them that are exactly 0.
    """

    labels: int
    size: int
    sha256: str
    quarantined: Mapping[str, str]
    pixels: int = 0
    zeros: int = 0


def tar_path(root: Path, number: int) -> Path:
    """Where shard `number` lies."""
    return root / f"labels-{number:05d}.tar"


def index_path(root: Path, number: int) -> Path:
    """Where the index of shard `number` lies."""
    return root / "index" / f"labels-{number:05d}.parquet"


def write_shard(
    root: Path,
    number: int,
    labels: Sequence[EncodedLabel],
    *,
    quarantined: Mapping[str, str] | None = None,
) -> None:
    """Write and commit shard `number`; an older one of that number is replaced.

    Args:
        root: the store.
        number: of the shard.
        labels: in the order of their keys.
        quarantined: keys of this shard that got no label, each with its reason.
    """
    root.mkdir(parents=True, exist_ok=True)
    atomic.remove(index_path(root, number))
    path = tar_path(root, number)
    data = _tar_bytes(labels)
    atomic.write_bytes(path, data)
    summary = {
        "labels": len(labels),
        "size": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
        "quarantined": dict(sorted((quarantined or {}).items())),
        "pixels": sum(label.height * label.width for label in labels),
        "zeros": sum(label.zeros for label in labels),
    }
    rows = rows_of_tar(io.BytesIO(data), number)
    atomic.write_bytes(index_path(root, number), index.to_bytes(rows, summary))


def discard_shard(root: Path, number: int) -> None:
    """Take the commit of a shard back, so that the next run of the label job writes it again."""
    atomic.remove(index_path(root, number))


def committed(root: Path) -> list[int]:
    """The numbers of the shards that are complete, ascending."""
    found = (root / "index").glob("labels-*.parquet")
    return sorted(int(path.stem.removeprefix("labels-")) for path in found)


def read_report(root: Path, number: int) -> ShardReport:
    """The summary in the index of shard `number`.

    Raises:
        CorruptShard: the index cannot be read.
    """
    path = index_path(root, number)
    try:
        return ShardReport(**index.read_summary(path))
    except (ValueError, TypeError) as error:
        raise CorruptShard(None, path, str(error)) from error


def read_rows(root: Path, number: int) -> Any:
    """The index of shard `number` as an Arrow table.

    Raises:
        CorruptShard: the index cannot be read.
    """
    path = index_path(root, number)
    try:
        return index.read_rows(path)
    except ValueError as error:
        raise CorruptShard(None, path, str(error)) from error


def rows_of_tar(file: io.BufferedIOBase, number: int) -> list[dict[str, Any]]:
    """The index rows of a shard, from the shard itself.

    Raises:
        tarfile.TarError, KeyError, ValueError: it is not a shard.
    """
    rows: list[dict[str, Any]] = []
    with tarfile.open(fileobj=file, mode="r:", encoding="utf-8") as archive:
        pictures: list[tuple[str, dict[str, Any]]] = []
        for member in archive:
            data = cast(Any, archive.extractfile(member)).read()
            if not member.name.endswith(".json"):
                place = {"offset": member.offset_data, "size": member.size}
                pictures.append((member.name, place | {"sha256": hashlib.sha256(data).digest()}))
                continue
            rows.append(_row(number, member.name, json.loads(data), pictures))
            pictures = []
        if pictures:
            raise ValueError(f"{pictures[0][0]} has no description")
    return rows


def _row(
    number: int, name: str, said: dict[str, Any], pictures: Sequence[tuple[str, dict[str, Any]]]
) -> dict[str, Any]:
    stem = escape(said["key"])
    known = {f"{stem}.{plane}.jxl": plane for plane in NAMES}
    (first, values), *others = pictures
    if name != f"{stem}.json" or first != f"{stem}.jxl" or any(n not in known for n, _ in others):
        raise ValueError(f"{first} and {name} describe {said['key']}")
    digest = said.pop("image_sha256")
    agreement = dict.fromkeys(index.AGREEMENT) | said.pop("agreement")
    return {
        **said,
        **agreement,
        "shard": number,
        **values,
        "image_sha256": None if digest is None else bytes.fromhex(digest),
        "planes": [{"name": known[n], **place} for n, place in others],
    }


def _tar_bytes(labels: Sequence[EncodedLabel]) -> bytes:
    """Plain ustar; only a name that needs more (long, not ASCII) gets an extended header."""
    sink = io.BytesIO()
    with tarfile.open(
        fileobj=sink, mode="w", format=tarfile.PAX_FORMAT, encoding="utf-8"
    ) as archive:
        for label in labels:
            planes = {f"{name}.jxl": data for name, data in label.planes.items()}
            text = json.dumps(label.description()).encode()
            for suffix, data in {"jxl": label.data, **planes, "json": text}.items():
                member = tarfile.TarInfo(f"{escape(label.key)}.{suffix}")
                member.size = len(data)
                member.mode = 0o644
                archive.addfile(member, io.BytesIO(data))
    return sink.getvalue()
