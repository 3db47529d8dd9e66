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
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, cast

import numpy as np
from jaxtyping import Bool
from torch import Tensor

from distill import atomic
from distill.labels import index
from distill.labels.codec import Codec
from distill.labels.planes import NAMES, Planes, encode_planes
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
        data: of the values; see `codec`.
        planes: bytes by name; see `planes`.
        agreement: by name, see `index.AGREEMENT`.
        far: share of the pixels that are sky; None where nobody looked.
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
    agreement: Mapping[str, float] = field(default_factory=dict[str, float])
    far: float | None = None
    image_sha256: bytes | None = None
    planes: Mapping[str, bytes] = field(default_factory=dict[str, bytes])
    zeros: int = 0

    def description(self) -> dict[str, Any]:
        """Everything but the bytes and `zeros`, as plain JSON."""
        fields = asdict(self)
        del fields["data"], fields["zeros"], fields["planes"]
        digest = self.image_sha256
        return fields | {"image_sha256": None if digest is None else digest.hex()}


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
    planes: Planes | None = None,
    agreement: Mapping[str, float] | None = None,
    image_sha256: bytes | None = None,
) -> EncodedLabel:
    """A prediction as the bytes and the figures that a shard keeps.

    Args:
        key: as in the data set.
        prediction: on any device; non-finite numbers only outside `valid`.
        codec: its declared bound is checked on these very bytes.
        image_size: (height, width) of the image that was labelled, pixels.
        valid: None where every pixel has a value.
        planes: of the map's size.
        agreement: by name, see `index.AGREEMENT`.
        image_sha256: of the image's file.

    Raises:
        ValueError: a bad key, an agreement of another name, a confidence or agreement outside
            [0, 1], or a map that the codec refuses.
    """
    check_key(key)
    sure = {name: _rounded(value) for name, value in (agreement or {}).items()}
    confidence = None if prediction.confidence is None else _rounded(prediction.confidence)
    for name, value in {"confidence": confidence, **sure}.items():
        if value is not None and not 0 <= value <= 1:
            raise ValueError(f"{key}: {name} {value} lies outside [0, 1]")
        if name not in ("confidence", *index.AGREEMENT):
            raise ValueError(f"{key}: agreement {name!r} is none of {', '.join(index.AGREEMENT)}")
    values = prediction.values.detach().float().cpu().numpy()
    mask = None if valid is None else valid.cpu().numpy()
    far = None if planes is None or planes.far is None else planes.far
    try:
        data = codec.encode(values, mask)
        pictures = encode_planes(planes or Planes())
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
        confidence=confidence,
        agreement=sure,
        far=None if far is None else _rounded(float(far.float().mean())),
        image_sha256=image_sha256,
        planes=pictures,
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


def _rounded(value: float) -> float:
    """As a float32 column gives it back."""
    return float(np.float32(value))


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
