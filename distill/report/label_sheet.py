"""How the labels of a store look: one, or a sheet of them, beside their photographs."""

import difflib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageOps

from distill import atomic
from distill.colour import colourise
from distill.datasets.photographs import open_photographs
from distill.datasets.pseudo_labelled import PseudoLabelled
from distill.labels.store import Label, LabelStore

_LABELS = 24  # on a sheet
_WIDTH = 1600  # of a sheet, at most, pixels
_HEIGHT, _CAPTION, _GAP = 160, 28, 6  # pixels; of a picture, of what stands below it, between two
_SKY = (190, 190, 190)


def show(
    path: Path, out: Path, *, key: str | None = None, photos: Path | str | None = None
) -> Path:
    """Write one label, or a sheet of labels spread evenly over the store, as a colour picture.

    Near is warm whatever the space, sky and pixels without a value are grey. A label that has a
    confidence of each pixel is followed by it, surer being brighter. On the sheet each label has
    the end of its key and its confidence below it.

    Args:
        path: the store; it may be unfinished.
        out: the PNG to write.
        key: of the label; a sheet if not given.
        photos: what was labelled; each label is then shown behind its photograph.

    Raises:
        ValueError: there is no such label, or none at all, or a label has no photograph.
        FileNotFoundError: `photos` is not there.
    """
    store = LabelStore(path, allow_incomplete=True)
    keys = store.keys()
    if len(keys) == 0:
        raise ValueError(f"{path} holds no label yet; run the label job")
    if key is not None and key not in store:
        near = difflib.get_close_matches(key, keys, 1, 0.0)
        raise ValueError(
            f"{path} holds no label {key!r}; the nearest is {near[0] if near else None!r}"
        )
    photo = _photographs(path, photos) if photos is not None else None
    if key is not None:
        picture = _strip(store.read(key), photo(key) if photo else None)
    else:
        picture = _sheet(store, photo)
    with atomic.replacing_file(out) as temporary:
        picture.save(temporary, format="PNG")
    return out


def _photographs(path: Path, photos: Path | str) -> Callable[[str], Image.Image]:
    """From a key to its photograph at the label's size."""
    name = LabelStore(path, allow_incomplete=True).meta.dataset
    labelled = PseudoLabelled(open_photographs(photos, name=name), path, partial=True)
    places = {labelled.key(place): place for place in range(len(labelled))}

    def photo(key: str) -> Image.Image:
        if key not in places:
            raise ValueError(f"{photos} holds no image {key}; give what was labelled")
        pixels = labelled[places[key]].image.permute(1, 2, 0).numpy()
        return Image.fromarray((pixels * 255).round().astype(np.uint8))

    return photo


def _sheet(store: LabelStore, photo: Callable[[str], Image.Image] | None) -> Image.Image:
    """Rows of strips, each as wide as its pictures are."""
    keys, count = store.keys(), min(len(store), _LABELS)
    placed: list[tuple[int, int, Image.Image, tuple[str, str]]] = []
    left, top, right = _GAP, _GAP, 0
    for n in range(count):
        key = keys[n * len(keys) // count]
        label = store.read(key)
        strip = _strip(label, photo(key) if photo else None)
        strip = ImageOps.contain(strip, (_WIDTH - 2 * _GAP, _HEIGHT))
        if left + strip.width + _GAP > _WIDTH and left > _GAP:
            left, top = _GAP, top + _HEIGHT + _CAPTION
        sure = label.prediction.confidence
        room = max(4, strip.width // 6)  # letters
        placed.append((left, top, strip, (key[-room:], "" if sure is None else f"{sure:.3f}")))
        left += strip.width + _GAP
        right = max(right, left)
    sheet = Image.new("RGB", (right, top + _HEIGHT + _CAPTION), "white")
    pen = ImageDraw.Draw(sheet)
    for x, y, strip, (name, sure) in placed:
        sheet.paste(strip, (x, y))
        pen.text((x, y + strip.height + 1), _ascii(name), fill="black")
        pen.text((x, y + strip.height + 13), sure, fill="black")
    return sheet


def _strip(label: Label, photo: Image.Image | None) -> Image.Image:
    """The photograph, the label and its confidence, side by side, as far as they are there."""
    pictures = [_coloured(label)]
    if photo is not None:
        pictures.insert(0, np.asarray(photo))
    if label.planes.confidence is not None:
        grey = (label.planes.confidence.numpy() * 255).round().astype(np.uint8)
        pictures.append(np.repeat(grey[..., None], 3, axis=2))
    return Image.fromarray(np.concatenate(pictures, axis=1))


def _coloured(label: Label) -> UInt8[np.ndarray, "h w 3"]:
    values = label.prediction.values
    if not label.prediction.space.is_inverse:
        values = 1 / values.clamp(min=1e-6)
    far = label.planes.far
    if far is None:
        return colourise(values.numpy())
    picture = colourise(torch.where(far, torch.nan, values).numpy())
    picture[far.numpy()] = _SKY
    return picture


def _ascii(text: str) -> str:
    """Pillow's built-in font has little more."""
    return text.encode("ascii", "replace").decode()
