"""One shard of a label store: a tar that any WebDataset reader opens, and its index.

`labels-00042.tar` holds `<escaped key>.jxl` and `<escaped key>.json` for each key, in order;
`index/labels-00042.parquet` holds where each label lies, its checksum and its figures. Both are
renamed into place, the index last: its presence is the commit. Nothing in either depends on when,
where or by whom it was written.
"""

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any, cast

import numpy as np
from jaxtyping import Bool
from torch import Tensor

from distill import atomic
from distill.labels import index
from distill.labels.codec import Codec
from distill.types import Prediction


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
            f"{path}{label}: {reason}; delete the shard's index file and resume the label job"
        )

    def __reduce__(self) -> tuple[type["CorruptShard"], tuple[str | None, Path, str]]:
        return type(self), (self.key, self.path, self.reason)


@dataclass(frozen=True, kw_only=True)
class EncodedLabel:
    """A label ready to be written: its bytes and what its `.json` member and index row say.

    Attributes:
        zeros: pixels that are exactly 0; only the shard as a whole tells their number.
    """

    key: str
    data: bytes
    height: int
    width: int
    image_height: int
    image_width: int
    minimum: float
    maximum: float
    confidence: float | None
    zeros: int = 0

    def description(self) -> dict[str, Any]:
        """Everything but the bytes and `zeros`."""
        fields = asdict(self)
        del fields["data"], fields["zeros"]
        return fields


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


def check_key(key: str) -> None:
    """Refuse a key that could not become a path inside an archive.

    Raises:
        ValueError: absolute, empty or `..` parts, control characters, or not Unicode.
    """
    parts = PurePosixPath(key).parts
    wrong = not parts or "/".join(parts) != key or ".." in parts or key == "."
    if wrong or key.startswith("/") or any(ord(c) < 32 or 0xD800 <= ord(c) < 0xE000 for c in key):
        raise ValueError(
            f"key {key!r}: must be a plain relative path in Unicode, as in `photos/a/b.jpg`; "
            "rename the file"
        )


def escape(key: str) -> str:
    """`key` without dots, since WebDataset cuts a name at its first: `%` is %25 and `.` is %2E."""
    return key.replace("%", "%25").replace(".", "%2E")


def unescape(name: str) -> str:
    """The key that `escape` made `name` from."""
    return name.replace("%2E", ".").replace("%25", "%")


def encode_label(
    key: str,
    prediction: Prediction,
    *,
    codec: Codec,
    image_size: tuple[int, int],
    valid: Bool[Tensor, "h w"] | None = None,
) -> EncodedLabel:
    """A prediction as the bytes and the figures that a shard keeps.

    Args:
        key: as in the data set.
        prediction: on any device; non-finite numbers only outside `valid`.
        codec: its declared bound is checked on these very bytes.
        image_size: (height, width) of the image that was labelled, pixels.
        valid: None where every pixel has a value.

    Raises:
        ValueError: a bad key, a confidence outside [0, 1], or a map that the codec refuses.
    """
    check_key(key)
    confidence = prediction.confidence
    if confidence is not None and not 0 <= confidence <= 1:
        raise ValueError(f"{key}: confidence {confidence} lies outside [0, 1]")
    values = prediction.values.detach().float().cpu().numpy()
    mask = None if valid is None else valid.cpu().numpy()
    try:
        data = codec.encode(values, mask)
    except ValueError as error:
        raise ValueError(f"{key}: {error}") from error
    inside = values if mask is None else values[mask]
    return EncodedLabel(
        key=key,
        data=data,
        height=values.shape[0],
        width=values.shape[1],
        image_height=image_size[0],
        image_width=image_size[1],
        minimum=float(inside.min()),
        maximum=float(inside.max()),
        confidence=None if confidence is None else float(np.float32(confidence)),
        zeros=int((inside == 0).sum()),
    )


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
    index_path(root, number).unlink(missing_ok=True)
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
    index_path(root, number).unlink(missing_ok=True)


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
        members = iter(archive)
        for picture, text in zip(members, members, strict=True):
            description = json.loads(cast(Any, archive.extractfile(text)).read())
            data = cast(Any, archive.extractfile(picture)).read()
            if (picture.name, text.name) != _names(description["key"]):
                raise ValueError(f"{picture.name} and {text.name} describe {description['key']}")
            place = {"shard": number, "offset": picture.offset_data, "size": picture.size}
            rows.append(description | place | {"sha256": hashlib.sha256(data).digest()})
    return rows


def _names(key: str) -> tuple[str, str]:
    return f"{escape(key)}.jxl", f"{escape(key)}.json"


def _tar_bytes(labels: Sequence[EncodedLabel]) -> bytes:
    """Plain ustar; only a name that needs more (long, not ASCII) gets an extended header."""
    sink = io.BytesIO()
    with tarfile.open(
        fileobj=sink, mode="w", format=tarfile.PAX_FORMAT, encoding="utf-8"
    ) as archive:
        for label in labels:
            text = json.dumps(label.description()).encode()
            for name, data in zip(_names(label.key), (label.data, text), strict=True):
                member = tarfile.TarInfo(name)
                member.size = len(data)
                member.mode = 0o644
                archive.addfile(member, io.BytesIO(data))
    return sink.getvalue()
