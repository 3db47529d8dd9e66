"""Images on their way to a transformers image processor: upright, large enough, quickly decoded."""

import io
import math
from typing import Any

from PIL import Image, ImageOps

_SMALLEST_SIDE = 8  # pixels; ZoeDepth pads by reflection, which needs more pixels than it pads
_JPEG = b"\xff\xd8\xff"
_ORIENTATION, _LYING = 0x0112, (5, 6, 7, 8)  # EXIF: stored with rows for columns


def upright(image: Image.Image) -> Image.Image:
    """RGB, turned by its EXIF orientation."""
    return ImageOps.exif_transpose(image).convert("RGB")


def workable(image: Image.Image, processor: Any) -> Image.Image:
    """`image`, enlarged where the processor would round a side to nothing or cannot pad."""
    least = _SMALLEST_SIDE
    if _keeps_aspect_ratio(processor):
        scale, multiple = _scale(processor, image.height, image.width), processor.ensure_multiple_of
        if min(image.size) * scale <= multiple / 2:
            least = max(least, math.ceil(multiple / scale))
    size = max(image.width, least), max(image.height, least)
    return image if size == image.size else image.resize(size, Image.Resampling.BICUBIC)


def reduced_size(data: bytes, processor: Any) -> tuple[int, int] | None:
    """The (height, width) that the processor makes of a JPEG at least twice as large, upright.

    None for any other file, which had better be decoded whole: less is not possible or no gain.
    """
    if not data.startswith(_JPEG) or not _keeps_aspect_ratio(processor) or not processor.do_resize:
        return None
    try:
        with Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
            width, height = image.size
            lying = image.getexif().get(_ORIENTATION, 1) in _LYING
    except (OSError, ValueError, SyntaxError):
        return None  # whoever reads it whole will say what is wrong
    height, width = (width, height) if lying else (height, width)
    scale, multiple = _scale(processor, height, width), processor.ensure_multiple_of
    rows, columns = (round(scale * side / multiple) * multiple for side in (height, width))
    return (rows, columns) if 0 < 2 * rows <= height and 0 < 2 * columns <= width else None


def _keeps_aspect_ratio(processor: Any) -> bool:
    return bool(getattr(processor, "keep_aspect_ratio", False))


def _scale(processor: Any, height: int, width: int) -> float:
    """Of the side that changes less, which is the processors' choice."""
    scales = processor.size["height"] / height, processor.size["width"] / width
    return min(scales, key=lambda scale: abs(1 - scale))
