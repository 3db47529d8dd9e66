"""DA-2K (Yang et al. 2024, Depth Anything V2): pairs of points, which of the two is closer.

1K images and 2K pairs by its page (github.com/DepthAnything/Depth-Anything-V2, DA-2K.md), 1033 and
2068 as others count. That page names no licence.
"""

import json
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from distill.datasets import images
from distill.types import Sample

_POINTS = ("point1", "point2")
_SOURCE = "get DA-2K.zip from https://huggingface.co/datasets/depth-anything/DA-2K and unpack it"


class Pair(NamedTuple):
    """Two points of an image, (row, column) of its pixels, the first being 0."""

    closer: tuple[int, int]
    farther: tuple[int, int]


class Da2k:
    """`annotations.json`, and the images it names: `images/<scene>/<file>`.

    Scenes: indoor, outdoor, non_real, transparent_reflective, adverse_style, aerial, underwater,
    object. The authors opened the images with OpenCV, which turns them upright by their EXIF tag;
    so does this reader, and points count in what it returns. In the published file `point1` is
    always the closer one; `closer_point` decides here.

    Args:
        root: the folder that holds `annotations.json`, or `DA-2K/annotations.json`.
        name: of the data set. Keys: `"<name>/images/<scene>/<file>"`.

    Raises:
        FileNotFoundError: there is no `annotations.json`, or images that it names are missing.
        ValueError: `annotations.json` is damaged; the message names image and pair.
    """

    def __init__(self, root: Path, *, name: str = "da2k") -> None:
        folders = [folder for folder in (root, root / "DA-2K") if _listing(folder).is_file()]
        if not folders:
            raise FileNotFoundError(
                f"{name}: no annotations.json in {root}; {_SOURCE} there, or give as --data the "
                "folder that holds it"
            )
        self.root, self.name = folders[0], name
        self._images, self._pairs = _read(_listing(self.root))
        missing = [path for path in self._images if not (self.root / path).is_file()]
        if missing:
            raise FileNotFoundError(
                f"{name}: {len(missing)} of {len(self._images)} images that "
                f"{_listing(self.root)} names are missing, first {missing[0]}; {_SOURCE} again"
            )

    def __len__(self) -> int:
        return len(self._images)

    def key(self, index: int) -> str:
        """The key of sample `index`, without reading it."""
        return f"{self.name}/{self._images[index]}"

    def pairs(self, index: int) -> tuple[Pair, ...]:
        """Of image `index`, in the order of the file."""
        return self._pairs[index]

    def scene(self, index: int) -> str:
        """The kind of scene that image `index` shows, one of eight."""
        return PurePosixPath(self._images[index]).parts[1]

    def __getitem__(self, index: int) -> Sample:
        """Read one image, upright; it has no target, only `pairs`.

        Raises:
            ValueError: it is damaged, or a point lies outside it.
            FileNotFoundError: it is missing.
        """
        image = images.read_image(self.root / self._images[index])
        height, width = image.shape[1:]
        for number, pair in enumerate(self._pairs[index]):
            for row, column in pair:
                if row >= height or column >= width:
                    raise ValueError(
                        f"{self.key(index)}: pair {number} has a point at row {row}, column "
                        f"{column} of {height} x {width} pixels; {_SOURCE} again, the images must "
                        "be neither turned nor resized"
                    )
        return Sample(key=self.key(index), image=image)


def _listing(folder: Path) -> Path:
    return folder / "annotations.json"


def _read(path: Path) -> tuple[list[str], list[tuple[Pair, ...]]]:
    """Paths of images in sorted order, and the pairs of each."""
    try:
        found = json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path}: damaged or no JSON: {error}; {_SOURCE} again") from error
    if not isinstance(found, dict) or not found:
        raise ValueError(f"{path}: no images with pairs in it; {_SOURCE} again")
    for image, entries in found.items():
        parts = PurePosixPath(image).parts
        if len(parts) < 3 or parts[0] != "images" or ".." in parts:
            raise ValueError(f"{path}: {image!r} is no images/<scene>/<file>; {_SOURCE} again")
        if not isinstance(entries, list):
            raise ValueError(f"{path}: {image}: {entries!r} is no list of pairs; {_SOURCE} again")
    names = sorted(found)
    return names, [
        tuple(_pair(entry, f"{path}: {image}, pair {number}") for number, entry in enumerate(pairs))
        for image, pairs in ((image, found[image]) for image in names)
    ]


def _pair(entry: Any, where: str) -> Pair:
    if not (
        isinstance(entry, dict)
        and entry.get("closer_point") in _POINTS
        and all(_is_point(entry.get(point)) for point in _POINTS)
    ):
        raise ValueError(
            f"{where}: {entry!r} has not point1 and point2, both [row, column], and as "
            f"closer_point one of them; {_SOURCE} again"
        )
    closer, farther = sorted(_POINTS, key=lambda point: point != entry["closer_point"])
    return Pair(_point(entry[closer]), _point(entry[farther]))


def _point(numbers: list[int]) -> tuple[int, int]:
    row, column = numbers
    return row, column


def _is_point(value: Any) -> bool:
    is_pair = isinstance(value, list) and len(value) == 2
    return is_pair and all(type(number) is int and number >= 0 for number in value)
