"""Float maps as bytes: 16-bit lossless JPEG XL with the map's own range beside the picture.

The format is ISO/IEC 18181: any JPEG XL decoder shows the picture, and the container's boxes
(18181-2) leave room for the three numbers that turn codes back into values. They travel in a last
box `dmap` that other decoders skip, so a label is complete in itself. Pixels without a value make
the picture grey + alpha: alpha 0, code 0.
"""

import struct
from dataclasses import dataclass
from typing import Any, Protocol, cast, runtime_checkable

import imagecodecs
import numpy as np
from jaxtyping import Bool, Float32, UInt16

_BOX = struct.Struct(">I4sffI")  # length, type, minimum, maximum, levels
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
        values: Float32[np.ndarray, "h w"],
        valid: Bool[np.ndarray, "h w"] | None = None,
    ) -> bytes:
        """`values` as bytes, checked by decoding them again."""
        ...


@dataclass(frozen=True, kw_only=True)
class JpegXl:
    """Uniform quantisation between a map's minimum and maximum, then lossless JPEG XL.

    Attributes:
        levels: codes of a map, 2 to 65536. The minimum is code 0, so a map that starts at exactly 0
            keeps its zeros.
        effort: of the encoder, 1 (fastest) to 9.

    Raises:
        ValueError: a field outside its bounds.
    """

    levels: int = 65536
    effort: int = 1

    def __post_init__(self) -> None:
        if not 2 <= self.levels <= 65536:
            raise ValueError(f"JpegXl: levels={self.levels}; choose 2 to 65536")
        if not 1 <= self.effort <= 9:
            raise ValueError(f"JpegXl: effort={self.effort}; choose 1 to 9")

    @property
    def error_bound(self) -> float:
        """Half a step, relative to the range of the map; float32 rounding comes on top."""
        return 0.5 / (self.levels - 1)

    def encode(
        self,
        values: Float32[np.ndarray, "h w"],
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
        if valid is not None and bool(valid.all()):
            valid = None
        inside = values if valid is None else values[valid]
        if inside.size == 0:
            raise ValueError(f"a {values.shape[0]}x{values.shape[1]} map without a valid pixel")
        minimum, maximum = np.float32(inside.min()), np.float32(inside.max())
        if not (np.isfinite(minimum) and np.isfinite(maximum)):
            bad = int(np.size(inside) - np.isfinite(inside).sum())
            raise ValueError(f"{bad} of {inside.size} values are not finite")
        codes = _quantise(values, valid, float(minimum), float(maximum), self.levels)
        box = _BOX.pack(_BOX.size, _TYPE, minimum, maximum, self.levels)
        data = self._compress(codes, valid) + box
        decoded, mask = decode(data)
        kept = decoded if valid is None else decoded[mask]
        error = np.abs(kept - inside).max() if kept.shape == inside.shape else np.inf
        if not error <= self._tolerance(float(minimum), float(maximum)):
            raise RuntimeError(f"JPEG XL returned a map that is off by {error:.3g}")
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


def decode(data: bytes) -> tuple[Float32[np.ndarray, "h w"], Bool[np.ndarray, "h w"]]:
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
    values *= np.float32((maximum - minimum) / (levels - 1))
    values += np.float32(minimum)
    if planes.ndim == 2:
        return values, np.ones(codes.shape, dtype=bool)
    valid = planes[..., 1] > 0
    values[~valid] = np.nan
    return values, valid


def _quantise(
    values: Float32[np.ndarray, "h w"],
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
