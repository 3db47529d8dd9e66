"""Lists of KITTI raw's frames in monodepth2's form, a line `<date>/<drive> <number> <l|r>` each.

A line may hold several numbers. `kitti_splits` has the test images of Eigen et al. 2014 in their
published order: 697, and the 652 of them with annotated truth, as the lists of Depth Anything
(Apache-2.0), Marigold (Apache-2.0) and, for the 697, SfMLearner (MIT) name them.
"""

import logging
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from distill.datasets import published

SHIPPED = Path(__file__).parent / "kitti_splits"
SOURCE = "get synced+rectified data from https://www.cvlibs.net/datasets/kitti/raw_data.php"
_CAMERAS = {"l": 2, "r": 3}
_log = logging.getLogger(__name__)


class Frame(NamedTuple):
    """One image: `drive` is `<date>/<drive>`, `camera` 2 (left) or 3 (right)."""

    drive: str
    number: int
    camera: int

    @property
    def date(self) -> str:
        """A calibration is valid for a date."""
        return self.drive.split("/")[0]

    def file(self, folder: str, suffix: str) -> str:
        """The path of a file of this frame, such as in `image_02` or `velodyne_points`."""
        return f"{self.drive}/{folder}/data/{self.number:010d}{suffix}"


def read_list(root: Path, split: str | Path, part: str) -> list[Frame]:
    """The frames of a list, in its order.

    Args:
        root: of KITTI raw.
        split: a name, for `<root>/splits/<split>/<part>_files.txt`, or the path of such a folder
            or file. `eigen` and `eigen_benchmark` need no file for `test`.
        part: `train`, `val` or `test`.

    Raises:
        FileNotFoundError: there is no such list.
        ValueError: a line is not in that form or a frame there twice, or the list is empty.
    """
    path = _find(root, split, part)
    frames = [frame for line in path.read_text().splitlines() for frame in _frames(path, line)]
    if not frames:
        raise ValueError(f"{path}: no frame; lines are `<date>/<drive> <number> <l|r>`")
    frame, times = Counter(frames).most_common(1)[0]
    if times > 1:
        raise ValueError(f"{path}: there twice: {frame}; remove its second line")
    for row in (*published.published("Kitti"), *published.published("KittiRaw")):
        if row.part == f"{split} {part}" and not row.fits(len(frames)):
            _log.warning("%s: %d frames; the published list has %d", path, len(frames), row.images)
    return frames


class Images:
    """Which images a copy of KITTI raw has; each folder is listed once.

    Args:
        root: the folder that holds the dates.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._found: dict[tuple[str, int], tuple[str, frozenset[int]]] = {}

    def path(self, frame: Frame) -> str:
        """Of an image, relative to `root`.

        Raises:
            FileNotFoundError: there is no folder of its camera.
            ValueError: the folder holds no image, or both PNG and JPEG.
        """
        suffix, _ = self._numbers(frame)
        return frame.file(f"image_{frame.camera:02d}", suffix)

    def has(self, frame: Frame, others: Sequence[Frame]) -> bool:
        """True with all `others`; False where one lies beyond the first or last of its folder.

        Raises:
            FileNotFoundError: `frame`, or one of `others` that lies within, is missing.
            ValueError: as `path`.
        """
        beyond = False
        for one in (frame, *others):
            _, numbers = self._numbers(one)
            if one.number in numbers:
                continue
            if one == frame or min(numbers) < one.number < max(numbers):
                raise FileNotFoundError(f"{self.root / self.path(one)}: no such file; {SOURCE}")
            beyond = True
        return not beyond

    def _numbers(self, frame: Frame) -> tuple[str, frozenset[int]]:
        place = frame.drive, frame.camera
        if place not in self._found:
            folder = self.root / frame.drive / f"image_{frame.camera:02d}" / "data"
            self._found[place] = _numbers_of_images(folder)
        return self._found[place]


def _find(root: Path, split: str | Path, part: str) -> Path:
    folder = split if isinstance(split, Path) else root / "splits" / split
    path = folder if folder.is_file() else folder / f"{part}_files.txt"
    if path.is_file():
        return path
    shipped = SHIPPED / f"{split}.txt"
    if isinstance(split, str) and part == "test" and shipped.is_file():
        return shipped
    raise FileNotFoundError(
        f"{path}: no such list of frames; copy monodepth2's `splits` to {root}, or give the path "
        "of a file with lines `2011_09_26/2011_09_26_drive_0001_sync 5 l`"
    )


def _frames(path: Path, line: str) -> list[Frame]:
    if not line.strip():
        return []
    drive, *numbers, side = line.split()
    if drive.count("/") != 1 or not numbers or side not in _CAMERAS:
        raise ValueError(f"{path}: not `<date>/<drive> <number> <l|r>`: {line!r}")
    try:
        return [Frame(drive, int(number), _CAMERAS[side]) for number in numbers]
    except ValueError as error:
        raise ValueError(f"{path}: not a number of a frame in {line!r}") from error


def _numbers_of_images(folder: Path) -> tuple[str, frozenset[int]]:
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder; {SOURCE}")
    found = [name.partition(".") for name in os.listdir(folder)]  # noqa: PTH208 40x faster
    numbered = [(f".{suffix}", int(stem)) for stem, _, suffix in found if stem.isdigit()]
    suffixes = sorted({suffix for suffix, _ in numbered} & {".png", ".jpg"})
    if len(suffixes) != 1:
        raise ValueError(f"{folder}: needs either PNG or JPEG images, has {suffixes}")
    return suffixes[0], frozenset(number for suffix, number in numbered if suffix in suffixes)
