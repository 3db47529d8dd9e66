"""A label on its way into a shard: its key, its bytes and what is told about it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from jaxtyping import Bool
from torch import Tensor

from distill.labels import index
from distill.labels.codec import Codec
from distill.labels.planes import Planes, encode_planes
from distill.types import Prediction


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


def _rounded(value: float) -> float:
    """As a float32 column gives it back."""
    return float(np.float32(value))
