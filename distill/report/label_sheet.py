"""How the labels of a store look: one, or a sheet of them."""

import difflib
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageOps

from distill import atomic
from distill.colour import colourise
from distill.labels.store import Label, LabelStore

_COLUMNS, _ROWS = 6, 4
_TILE, _CAPTION = 240, 28  # pixels


def show(path: Path, out: Path, *, key: str | None = None) -> Path:
    """Write one label, or a sheet of labels spread evenly over the store, as a colour picture.

    Near is warm whatever the space. On the sheet each label has the end of its key and its
    confidence below it.

    Args:
        path: the store; it may be unfinished.
        out: the PNG to write.
        key: of the label; a sheet if not given.

    Raises:
        ValueError: there is no such label, or none at all.
    """
    store = LabelStore(path, allow_incomplete=True)
    if key is None:
        picture = _sheet(store)
    elif key in store:
        picture = Image.fromarray(_coloured(store.read(key)))
    else:
        near = difflib.get_close_matches(key, store.keys(), 1, 0.0)
        raise ValueError(
            f"{path} holds no label {key!r}; the nearest is {near[0] if near else None!r}"
        )
    with atomic.replacing_file(out) as temporary:
        picture.save(temporary, format="PNG")
    return out


def _sheet(store: LabelStore) -> Image.Image:
    keys = store.keys()
    if not keys:
        raise ValueError(f"{store.path} holds no label yet; run the label job")
    count = min(len(keys), _COLUMNS * _ROWS)
    columns = min(count, _COLUMNS)
    rows = -(-count // columns)
    sheet = Image.new("RGB", (columns * _TILE, rows * (_TILE + _CAPTION)), "white")
    pen = ImageDraw.Draw(sheet)
    for n in range(count):
        key = keys[n * len(keys) // count]
        label = store.read(key)
        tile = ImageOps.contain(Image.fromarray(_coloured(label)), (_TILE - 4, _TILE - 4))
        left, top = n % columns * _TILE, n // columns * (_TILE + _CAPTION)
        sheet.paste(tile, (left + (_TILE - tile.width) // 2, top + (_TILE - tile.height) // 2))
        sure = label.prediction.confidence
        pen.text((left + 4, top + _TILE), _ascii(key[-36:]), fill="black")
        pen.text((left + 4, top + _TILE + 12), "" if sure is None else f"{sure:.3f}", fill="black")
    return sheet


def _coloured(label: Label) -> UInt8[np.ndarray, "h w 3"]:
    values = label.prediction.values.numpy()
    if not label.prediction.space.is_inverse:
        values = 1 / values.clip(min=1e-6)
    return colourise(values)


def _ascii(text: str) -> str:
    """Pillow's built-in font has little more."""
    return text.encode("ascii", "replace").decode()
