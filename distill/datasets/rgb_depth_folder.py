"""Images and depth maps as pairs of files: KITTI's form, and that of most people's own data."""

import re
from collections.abc import Callable, Collection, Iterable
from pathlib import Path, PurePosixPath

import numpy as np

from distill.datasets import depth_files, depth_maps, images
from distill.datasets.folders import files_below
from distill.types import Sample, Space

_KITTI = 256.0


class RgbDepthFolder:
    """Pairs `rgb/a/b.jpg` with `depth/a/b.png`. Keys: `"<name>/rgb/a/b.jpg"`.

    Args:
        root: the folder that holds both.
        name: of the data set.
        rgb: folder of images, any format; or a pattern such as `*/rgb_*` (the suffix left out),
            of which `*` stands for a part of one name: the same parts make a pair.
        depth: folder of depth maps, or a pattern; along the optical axis, 16-bit PNG or any other
            form of `depth_files`. 0, negative and not finite numbers are no measurement.
        units_per_metre: 256 for KITTI, 1000 for millimetres. None: 256 for integers, and floats
            are metres.
        invalid: numbers, as stored, that are no measurement either, such as 65535.
        allow_8bit: take depth of 8 bits, too: at most 256 levels, from which little is learnt.
        space: what the numbers mean, if not depth in metres; `units_per_metre` is then left out.

    Raises:
        FileNotFoundError: a folder is missing.
        ValueError: the files do not pair up, or `units_per_metre` is not positive or makes no
            sense for `space`.
    """

    def __init__(
        self,
        root: Path,
        *,
        name: str,
        rgb: str = "rgb",
        depth: str = "depth",
        units_per_metre: float | int | None = None,
        invalid: Collection[float | int] = (),
        allow_8bit: bool = False,
        space: Space = Space.METRIC_DEPTH,
    ) -> None:
        if units_per_metre is not None and space is not Space.METRIC_DEPTH:
            raise ValueError(f"{name}: {space.value} has no metres; leave units_per_metre out")
        if units_per_metre is not None and not units_per_metre > 0:
            raise ValueError(f"{name}: units_per_metre must be positive, got {units_per_metre}")
        self.root, self.name, self.units_per_metre = root, name, units_per_metre
        self.invalid, self.allow_8bit, self.space = tuple(invalid), allow_8bit, space
        pictures = _found(root, rgb, images.suffixes_of_images())
        depths = _found(root, depth, depth_files.suffixes())
        alone = sorted(pictures.keys() ^ depths.keys())
        if alone or not pictures:
            first = f", first {'/'.join(alone[0])!r}" if alone else ""
            raise ValueError(
                f"{name}: {len(pictures)} images in {root / rgb} and {len(depths)} depth maps in "
                f"{root / depth}, {len(alone)} without a partner{first}; names must pair up"
            )
        self._pairs = [(pictures[part], depths[part]) for part in sorted(pictures)]

    def __len__(self) -> int:
        return len(self._pairs)

    def key(self, index: int) -> str:
        """The key of sample `index`, without reading it."""
        return f"{self.name}/{self._pairs[index][0]}"

    def __getitem__(self, index: int) -> Sample:
        """Read one pair; `valid` where there is a measurement of at least a millimetre.

        Raises:
            ValueError: a file is damaged, the depth has 8 bits, or differs in size.
        """
        rgb, depth = self._pairs[index]
        stored = depth_files.read_stored(self.root / depth)
        if stored.dtype.itemsize == 1 and not self.allow_8bit:
            raise ValueError(
                f"{self.root / depth}: expected 16-bit grey or floats, got 8 bits: export the "
                "numbers, or pass allow_8bit=True"
            )
        whole = stored.dtype.kind in "iu" and self.space is Space.METRIC_DEPTH
        units = self.units_per_metre or (_KITTI if whole else 1.0)
        numbers = (stored / units).astype(np.float32)
        image = images.read_image(self.root / rgb)
        valid = (stored > 0) & ~np.isin(stored, self.invalid)
        return depth_maps.depth_sample(self.key(index), image, numbers, valid, space=self.space)


def matcher(pattern: str) -> Callable[[str], tuple[str, ...] | None]:
    """What the stars of `pattern` stand for in a path without suffix; None where it does not fit.

    A folder stands for all that lies below it.
    """
    if "*" not in pattern:
        folder = f"{pattern}/" if pattern not in ("", ".") else ""
        return lambda path: (path.removeprefix(folder),) if path.startswith(folder) else None
    parts = (re.escape(part) for part in pattern.split("*"))
    fits = re.compile("([^/]*)".join(parts)).fullmatch

    def match(path: str) -> tuple[str, ...] | None:
        found = fits(path)
        return found.groups() if found else None

    return match


def _found(root: Path, pattern: str, suffixes: Iterable[str]) -> dict[tuple[str, ...], str]:
    """Relative paths by what the pattern's stars stand for."""
    literal = [part for part in pattern.split("/") if part]
    if "*" in pattern:
        literal = literal[: next(i for i, part in enumerate(literal) if "*" in part)]
    folder, match, ends = root.joinpath(*literal), matcher(pattern), tuple(suffixes)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder; name the one that holds it with --data")
    found: dict[tuple[str, ...], str] = {}
    for path in files_below(folder, of=root):
        part = match(str(PurePosixPath(path).with_suffix("")))
        if part is None or not path.lower().endswith(ends):
            continue
        if part in found:
            names = " and ".join(sorted(Path(p).name for p in (found[part], path)))
            raise ValueError(f"{folder}: {names} have one name; remove one")
        found[part] = path
    return found
