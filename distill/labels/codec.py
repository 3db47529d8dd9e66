"""Float maps as bytes: lossless JPEG XL of a map's codes, with its own range beside the picture.

The format is ISO/IEC 18181, which will be readable when its encoders are forgotten: any JPEG XL
decoder shows the picture, and the container's boxes (18181-2) leave room for the three numbers that
turn codes back into values. They travel in a last box `dmap` that other decoders skip, so a label
is complete in itself. Pixels without a value make the picture grey + alpha: alpha 0, code 0.
"""

import struct
from dataclasses import dataclass
from typing import Any, Protocol, cast, runtime_checkable

import imagecodecs
import numpy as np
from jaxtyping import Bool, UInt16
from jaxtyping import Float32 as Float32Array

_BOX = struct.Struct(">I4sffI")  # length, type, minimum, maximum, levels (0: the values themselves)
_TYPE = b"dmap"


@runtime_checkable
class Codec(Protocol):
    """Writes maps as bytes that `decode` reads; `error_bound` is relative to a map's range."""

    @property
    def error_bound(self) -> float:
        """Largest error, relative to the range of a map."""
        ...

    def encode(
        self,
        values: Float32Array[np.ndarray, "h w"],
        valid: Bool[np.ndarray, "h w"] | None = None,
    ) -> bytes:
        """`values` as bytes, checked by decoding them again."""
        ...


@dataclass(frozen=True, kw_only=True)
class JpegXl:
    """Uniform quantisation between a map's minimum and maximum, then lossless JPEG XL.

    Attributes:
        levels: codes of a map, 2 to 65536. The minimum is code 0, so a map that starts at exactly 0
            keeps its zeros. 2048 keep every value within 2.5e-4 of the map's range.
        effort: of the encoder, 1 (fastest) to 9; from 3 on decoding takes more than twice as long.

    Raises:
        ValueError: a field outside its bounds.
    """

    levels: int = 2048
    effort: int = 2

    def __post_init__(self) -> None:
        if not 2 <= self.levels <= 65536:
            raise ValueError(f"JpegXl: levels={self.levels}; choose 2 to 65536")
        _check_effort("JpegXl", self.effort)

    @property
    def error_bound(self) -> float:
        """Half a step, relative to the range of the map; float32 rounding comes on top."""
        return 0.5 / (self.levels - 1)

    def encode(
        self,
        values: Float32Array[np.ndarray, "h w"],
        valid: Bool[np.ndarray, "h w"] | None = None,
    ) -> bytes:
        """`values` as bytes, verified: decoded again and compared with the declared bound.

        Args:
            values: any unit; ignored outside `valid`.
            valid: None where every pixel has a value.

        Raises:
            ValueError: no pixel is valid, or a valid one is not finite.
            RuntimeError: the encoder broke the bound; a defect of the encoder, never of the data.
        """
        valid = None if valid is not None and bool(valid.all()) else valid
        inside = _inside(values, valid)
        minimum, maximum = float(inside.min()), float(inside.max())
        codes = _quantise(values, valid, minimum, maximum, self.levels)
        data = self._compress(codes, valid) + _box(minimum, maximum, self.levels)
        _verify(data, inside, valid, tolerance=self._tolerance(minimum, maximum))
        return data

    def _compress(
        self, codes: UInt16[np.ndarray, "h w"], valid: Bool[np.ndarray, "h w"] | None
    ) -> bytes:
        bits = max(9, (self.levels - 1).bit_length())  # up to 8 libjxl wants uint8
        opaque = (1 << bits) - 1
        planes = codes if valid is None else np.stack([codes, valid * np.uint16(opaque)], axis=-1)
        encode: Any = imagecodecs.jpegxl_encode  # untyped
        return encode(planes, lossless=True, effort=self.effort, bitspersample=bits, numthreads=1)

    def _tolerance(self, minimum: float, maximum: float) -> float:
        """Half a step, and what `decode` rounds in float32: the step, its multiple and the sum."""
        half_ulp = 0.5 * float(np.spacing(np.float32(max(abs(minimum), abs(maximum)))))
        return (self.error_bound + 2.0**-23) * (maximum - minimum) + half_ulp


@dataclass(frozen=True, kw_only=True)
class Float32:
    """Every bit of a float32 map, as lossless JPEG XL of floats; eight times the bytes.

    Attributes:
        effort: of the encoder, 1 (fastest) to 9.

    Raises:
        ValueError: a field outside its bounds.
    """

    effort: int = 1

    def __post_init__(self) -> None:
        _check_effort("Float32", self.effort)

    @property
    def error_bound(self) -> float:
        """None at all."""
        return 0.0

    def encode(
        self,
        values: Float32Array[np.ndarray, "h w"],
        valid: Bool[np.ndarray, "h w"] | None = None,
    ) -> bytes:
        """As `JpegXl.encode`; only the sign of a zero is lost."""
        valid = None if valid is not None and bool(valid.all()) else valid
        inside = _inside(values, valid)
        planes = values + np.float32(0)
        if valid is not None:
            planes = np.stack([np.where(valid, planes, 0), valid], axis=-1, dtype=np.float32)
        encode: Any = imagecodecs.jpegxl_encode  # untyped
        data = encode(planes, lossless=True, effort=self.effort, numthreads=1)
        data += _box(float(inside.min()), float(inside.max()), 0)
        _verify(data, inside, valid, tolerance=0.0)
        return data


def decode(data: bytes) -> tuple[Float32Array[np.ndarray, "h w"], Bool[np.ndarray, "h w"]]:
    """What a codec of this module encoded: values, NaN where not valid, and `valid`.

    Raises:
        ValueError: `data` does not end with the range box.
    """
    if len(data) < _BOX.size or data[4 - _BOX.size : 8 - _BOX.size] != _TYPE:
        raise ValueError(
            f"{len(data)} bytes that are not a label: the `{_TYPE.decode()}` box is missing"
        )
    _, _, minimum, maximum, levels = _BOX.unpack(data[-_BOX.size :])
    decompress: Any = imagecodecs.jpegxl_decode  # untyped
    planes = cast(np.ndarray, decompress(data, numthreads=1))
    codes = planes if planes.ndim == 2 else planes[..., 0]
    values = codes.astype(np.float32)
    if levels > 0:
        values *= np.float32((maximum - minimum) / (levels - 1))
        values += np.float32(minimum)
    if planes.ndim == 2:
        return values, np.ones(codes.shape, dtype=bool)
    valid = planes[..., 1] > 0
    values[~valid] = np.nan
    return values, valid


def _check_effort(codec: str, effort: int) -> None:
    if not 1 <= effort <= 9:
        raise ValueError(f"{codec}: effort={effort}; choose 1 to 9")


def _inside(
    values: Float32Array[np.ndarray, "h w"], valid: Bool[np.ndarray, "h w"] | None
) -> Float32Array[np.ndarray, "..."]:
    """The values that count; refuses a map without any, or with some that are not finite."""
    inside = values if valid is None else values[valid]
    if inside.size == 0:
        raise ValueError(f"a {values.shape[0]}x{values.shape[1]} map without a valid pixel")
    if not (np.isfinite(inside.min()) and np.isfinite(inside.max())):
        bad = int(np.size(inside) - np.isfinite(inside).sum())
        raise ValueError(f"{bad} of {inside.size} values are not finite")
    return inside


def _box(minimum: float, maximum: float, levels: int) -> bytes:
    return _BOX.pack(_BOX.size, _TYPE, minimum, maximum, levels)


def _verify(
    data: bytes,
    inside: Float32Array[np.ndarray, "..."],
    valid: Bool[np.ndarray, "h w"] | None,
    *,
    tolerance: float,
) -> None:
    decoded, mask = decode(data)
    kept = decoded if valid is None else decoded[mask]
    error = np.abs(kept - inside).max() if kept.shape == inside.shape else np.inf
    if not error <= tolerance:
        raise RuntimeError(f"JPEG XL returned a map that is off by {error:.3g}")


def _quantise(
    values: Float32Array[np.ndarray, "h w"],
    valid: Bool[np.ndarray, "h w"] | None,
    minimum: float,
    maximum: float,
    levels: int,
) -> UInt16[np.ndarray, "h w"]:
    """Nearest code of each pixel; 0 where not valid and everywhere in a constant map."""
    if maximum == minimum:
        return np.zeros(values.shape, dtype=np.uint16)
    known = values if valid is None else np.where(valid, values, np.float32(minimum))
    scaled = known.astype(np.float64)
    scaled -= minimum
    scaled *= (levels - 1) / (maximum - minimum)
    return np.rint(scaled, out=scaled).astype(np.uint16)
