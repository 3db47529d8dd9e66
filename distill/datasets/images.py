"""Photographs from files as they come, and the listing of a folder.

Everything a file can do wrong becomes a `ValueError` that names it; a missing file stays a
`FileNotFoundError`.
"""

import contextlib
import io
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from distill.datasets.folders import files_below

MAX_PIXELS = 89_478_485  # Pillow's own warning threshold; as float32 RGB this is 1 GiB
# raster formats of photographs; above all not EPS, for which Pillow starts Ghostscript
FORMATS = (
    *("AVIF", "BMP", "DIB", "GIF", "JPEG", "JPEG2000", "PCX", "PNG", "PPM"),
    *("QOI", "SGI", "TGA", "TIFF", "WEBP"),
)
_UPRIGHT = {  # EXIF orientation -> what turns the stored pixels upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_LYING = (5, 6, 7, 8)  # stored with rows for columns
# what Pillow's decoders raise on damaged files
_DAMAGE = (
    *(OSError, SyntaxError, ValueError, TypeError, KeyError, IndexError, EOFError),
    *(AssertionError, OverflowError, RuntimeError, struct.error, zlib.error),
    *(Image.DecompressionBombError, Image.DecompressionBombWarning),
)


def read_image(source: Path | bytes, *, name: str | None = None) -> Float[Tensor, "3 h w"]:
    """A photograph as RGB in [0, 1], upright; see `read_pil`. 16-bit grey keeps its 16 bits.

    Raises:
        ValueError: see `read_pil`.
        FileNotFoundError: there is no such file.
    """
    return planes(_pixels(_open(source, _name(source, name)), _name(source, name)))


def read_sized(
    source: Path | bytes, height: int, width: int, *, name: str | None = None, reduced: bool = True
) -> tuple[Float[Tensor, "3 {height} {width}"], tuple[int, int]]:
    """A photograph as RGB in [0, 1] at another size, and its (height, width) in the file, upright.

    By OpenCV's bicubic kernel without antialiasing, as upstream prepares its images, on 8 bits
    where the file has 8.

    Args:
        source: a path, or the bytes of a file.
        height: wanted, pixels.
        width: wanted, pixels.
        name: what errors call it; the path by default.
        reduced: decode a JPEG of at least twice the wanted size at 1/2, 1/4 or 1/8 of its own,
            never below what is wanted: less to decode, and less aliasing than the bicubic kernel
            alone would leave.

    Raises:
        ValueError: see `read_pil`.
        FileNotFoundError: there is no such file.
    """
    name = _name(source, name)
    image, full = _open_sized(source, name, (height, width) if reduced else None)
    pixels = _pixels(image, name)
    if pixels.shape[:2] != (height, width):
        pixels = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_CUBIC)
    return planes(pixels).clamp_(0, 1), full


def read_pil(source: Path | bytes, *, name: str | None = None) -> Image.Image:
    """A photograph as an 8-bit RGB Pillow image.

    Turned upright by its EXIF orientation; transparency is laid over white; grey, palette, CMYK
    and 16-bit grey become RGB; of an animation the first frame. Colour profiles are not applied.

    Args:
        source: a path, or the bytes of a file.
        name: what errors call it; the path by default.

    Raises:
        ValueError: it is empty, cut off or damaged, no known format, more than `MAX_PIXELS`, or
            its numbers have no fixed range.
        FileNotFoundError: there is no such file.
    """
    image = _open(source, _name(source, name))
    if not _is_16_bit(image):
        return _rgb(image)
    grey = np.round(_grey_16(image, _name(source, name)) / 257).astype(np.uint8)
    return Image.fromarray(grey).convert("RGB")


def read_size(source: Path | bytes, *, name: str | None = None) -> tuple[int, int]:
    """Height and width as a file's head tells them, perhaps exchanged: nothing is turned upright.

    Raises:
        ValueError: it begins as no known format, or has more than `MAX_PIXELS`.
        FileNotFoundError: there is no such file.
    """
    with _opened(source, _name(source, name)) as image:
        return image.height, image.width


def resized(
    image: Float[Tensor, "3 _ _"], height: int, width: int
) -> Float[Tensor, "3 {height} {width}"]:
    """As upstream prepares its images: bicubic, without antialiasing; clipped to [0, 1]."""
    pixels = np.ascontiguousarray(image.permute(1, 2, 0).numpy())
    new = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_CUBIC)
    return torch.from_numpy(new).permute(2, 0, 1).clamp_(0, 1).contiguous()


def planes(pixels: NDArray[Any]) -> Float[Tensor, "3 h w"]:
    """RGB pixels (h, w, 3), of 8 bits or in [0, 1], as a tensor in [0, 1]."""
    values = torch.from_numpy(pixels.transpose(2, 0, 1).astype(np.float32, order="C"))
    return values.div_(255) if pixels.dtype == np.uint8 else values


def check_size(name: str, width: int, height: int) -> None:
    """Refuse a picture of more than `MAX_PIXELS`.

    Raises:
        ValueError: it is larger.
    """
    if width * height > MAX_PIXELS:
        raise _Refused(
            f"{name}: {width} x {height} = {width * height} pixels, more than the bound of "
            f"{MAX_PIXELS}; make it smaller first"
        )


def list_images(root: Path, *, times: dict[str, str] | None = None) -> Iterator[str]:
    """Relative posix paths of all images below `root`; see `folders.files_below`.

    What is empty or damaged is listed, and fails when it is read.

    Raises:
        FileNotFoundError: `root` is not a folder.
        ValueError: a file name is not valid UTF-8.
    """
    if not root.is_dir():
        raise FileNotFoundError(f"{root}: no such folder of images; name yours with --data DIR")
    return files_below(root, suffixes=tuple(suffixes_of_images()), times=times)


def suffixes_of_images() -> set[str]:
    """What names of images end with, in lower case, the dot in front."""
    Image.init()
    return {s for s, name in Image.registered_extensions().items() if name in FORMATS}


def _name(source: Path | bytes, name: str | None) -> str:
    return name or (str(source) if isinstance(source, Path) else f"<{len(source)} bytes>")


def _open(source: Path | bytes, name: str) -> Image.Image:
    """Decoded and upright, in the file's own mode."""
    return _open_sized(source, name, None)[0]


def _open_sized(
    source: Path | bytes, name: str, at_least: tuple[int, int] | None
) -> tuple[Image.Image, tuple[int, int]]:
    """Decoded and upright, a JPEG perhaps reduced to `at_least`; and its whole (height, width)."""
    with _opened(source, name) as image:
        width, height = image.size
        if at_least is not None:  # a JPEG knows its orientation already
            rows, columns = at_least
            lying = _orientation(image) in _LYING
            image.draft(None, (rows, columns) if lying else (columns, rows))
        image.load()
        if image.mode == "F":
            raise _Refused(f"{name}: float pixels have no range; save it with 16 bits")
        orientation = _orientation(image)  # read late: TIFF turns itself while loading
        if image.format not in ("JPEG", "MPO"):  # what `draft` may have reduced
            width, height = image.size
        if orientation in _UPRIGHT:
            image = image.transpose(_UPRIGHT[orientation])
            for told in ("exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif"):
                image.info.pop(told, None)  # or whoever asks next turns it once more
        return image, (width, height) if orientation in _LYING else (height, width)


@contextlib.contextmanager
def _opened(source: Path | bytes, name: str) -> Iterator[Image.Image]:
    """Its head is read; whatever goes wrong in the block becomes an error that names the file."""
    if isinstance(source, Path) and not source.is_file():
        raise FileNotFoundError(f"{name}: no such file")
    try:
        stream = io.BytesIO(source) if isinstance(source, bytes) else source
        with Image.open(stream, formats=FORMATS) as image:
            check_size(name, *image.size)
            yield image
    except _Refused:
        raise
    except _DAMAGE as error:
        raise ValueError(f"{name}: damaged, or not an image: {_reason(source, error)}") from error


def _reason(source: Path | bytes, error: Exception) -> str:
    """Pillow's own, but for the address in memory by which it calls bytes."""
    if not isinstance(error, UnidentifiedImageError):
        return str(error)
    size = len(source) if isinstance(source, bytes) else source.stat().st_size
    return "it begins as no image format that is read" if size else "an empty file, 0 bytes"


class _Refused(ValueError):
    """So that a sentence about what we do not take is not wrapped in another about damage."""


def _orientation(image: Image.Image) -> int:
    try:
        return image.getexif().get(0x0112, 1)
    except _DAMAGE:
        return 1  # as other viewers do: what is unreadable in the metadata turns nothing


def _is_16_bit(image: Image.Image) -> bool:
    return image.mode == "I" or image.mode.startswith("I;16")


def _grey_16(image: Image.Image, name: str) -> NDArray[np.integer]:
    grey = np.asarray(image)
    if grey.min() < 0 or grey.max() > 65535:
        raise ValueError(f"{name}: grey from {grey.min()} to {grey.max()}; save it with 16 bits")
    return grey


def _pixels(image: Image.Image, name: str) -> NDArray[Any]:
    """(h, w, 3): 8 bits, or float32 in [0, 1] of a 16-bit file."""
    if not _is_16_bit(image):
        return np.asarray(_rgb(image))
    grey = _grey_16(image, name).astype(np.float32) / 65535
    return np.repeat(grey[..., None], 3, axis=2)


def _rgb(image: Image.Image) -> Image.Image:
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")
