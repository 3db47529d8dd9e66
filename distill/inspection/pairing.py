"""Which files below a folder are images, which are depth, and which belongs to which.

By what the files are (floats and 16-bit grey hold depth, JPEGs do not), then by the words in their
paths. Partners have the same path but for one folder, or for a word at an end of their names.
"""

import itertools
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from PIL import Image

from distill.datasets import depth_files, images
from distill.datasets.folders import files_below
from distill.datasets.rgb_depth_folder import matcher

_DEPTH = {
    *("depth", "depths", "depthmap", "depthmaps", "disp", "disparity", "disparities"),
    *("gt", "groundtruth", "range", "lidar", "inverse", "sparse", "d"),
}
_IMAGE = {
    *("rgb", "image", "images", "img", "imgs", "color", "colour", "colors", "input", "inputs"),
    *("photo", "photos", "frame", "frames", "left", "picture", "pictures"),
}
_OTHER = {
    *("mask", "masks", "seg", "segmentation", "semantic", "semantics", "instance", "instances"),
    *("normal", "normals", "flow", "confidence", "conf", "uncertainty", "valid", "albedo", "sky"),
    *("pose", "poses", "camera", "cam", "calib", "intrinsics"),
}
MOST = 500_000  # files that are looked at; more are like these, or pairs of a size for lists
_NUMBERS = {".npy", ".npz", ".h5", ".hdf5", ".exr", ".pfm", ".dpt"}  # never photographs
_NAMES = 1  # place of the number of fitting names in what `_likeness` gives
_WORD = re.compile(r"[A-Za-z]+")


@dataclass(frozen=True)
class _Series:
    """Files of one folder that are alike.

    `files` are relative paths by what is left of their names without a leading and a trailing word.
    `kind` is `numbers` (floats or 16 bits), `grey` or `colour`.
    """

    folder: tuple[str, ...]
    begin: str
    end: str
    files: Mapping[str, str]
    kind: str

    @property
    def words(self) -> set[str]:
        """In the folder and the names' ends, lower case."""
        return {w.lower() for w in _WORD.findall(" ".join((*self.folder, self.begin, self.end)))}


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """What was found, as sorted relative paths.

    Attributes:
        pairs: an image and its depth.
        images: those without depth, where others of their kind have it.
        depths: those without an image, likewise.
        rgb: pattern of the images for `RgbDepthFolder`; None where one pattern does not do.
        depth: of the depth.
        cut: there are more than `MOST` files, and the rest was not looked at.
    """

    pairs: list[tuple[str, str]]
    images: list[str]
    depths: list[str]
    rgb: str | None
    depth: str | None
    cut: bool


def find_pairs(root: Path) -> Pairs | None:
    """Images and their depth below `root`; None where nothing looks like depth."""
    names = list(itertools.islice(files_below(root), MOST + 1))
    series = [s for s in _all_series(root, names[:MOST]) if not s.words & _OTHER]
    depths = [s for s in series if s.kind == "numbers"]
    eight_bits = not depths
    if eight_bits:
        depths = [s for s in series if s.words & _DEPTH and not _ends(s) & _IMAGE]
        depths = depths or [s for s in series if s.kind == "grey"]
    pictures = [s for s in series if s not in depths and s.kind != "numbers"]
    joined = _join(pictures, depths)
    named = any(s.words & _DEPTH for s in depths)
    if not joined and (eight_bits or (pictures and not named)):
        return None
    if not depths:
        return None
    return _pairs(joined, pictures, depths, cut=len(names) > MOST)


def _all_series(root: Path, names: Iterable[str]) -> Iterator[_Series]:
    wanted = {*depth_files.suffixes(), *images.suffixes_of_images()}
    found: dict[tuple[tuple[str, ...], str, str, str], dict[str, str]] = defaultdict(dict)
    for name in names:
        path = PurePosixPath(name)
        if (suffix := path.suffix.lower()) in wanted:
            begin, core, end = _without_words(path.stem)
            found[path.parts[:-1], suffix, begin, end][core] = name
    for (folder, suffix, begin, end), files in sorted(found.items()):
        yield _Series(folder, begin, end, files, _kind(root, sorted(files.values()), suffix))


def _without_words(stem: str) -> tuple[str, str, str]:
    """A stem in three parts: known words in front, what tells files apart, known words behind."""
    known = _DEPTH | _IMAGE | _OTHER
    parts = re.split(r"([_\-. ]+|(?<=[A-Za-z])(?=\d)|(?<=\d)(?=[A-Za-z]))", stem)
    first, last = 0, len(parts)
    while last - first > 0 and parts[first].lower() in known:
        first = min(first + 2, last)
    while last - first > 2 and parts[last - 1].lower() in known:
        last -= 2
    return "".join(parts[:first]), "".join(parts[first:last]), "".join(parts[last:])


def _kind(root: Path, paths: Sequence[str], suffix: str) -> str:
    """By the headers of the first, the middle and the last file."""
    if suffix in _NUMBERS:
        return "numbers"
    some = {paths[0], paths[len(paths) // 2], paths[-1]}
    modes = {_mode(root / path) for path in some} - {""}
    if modes and all(m in ("F", "I") or m.startswith("I;16") for m in modes):
        return "numbers"
    return "grey" if modes == {"L"} else "colour"


def _mode(path: Path) -> str:
    try:
        with Image.open(path, formats=images.FORMATS) as image:
            return image.mode
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return ""


def _ends(series: _Series) -> set[str]:
    """The words that are nearest to the file's own name."""
    own = f"{series.begin} {series.end}"
    words = _WORD.findall(own) or _WORD.findall(series.folder[-1] if series.folder else "")
    return {word.lower() for word in words}


def _places(folder: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """What partners' folders have in common: all but one of them, or all but the known words."""
    for i in range(len(folder)):
        yield (*folder[:i], "*", *folder[i + 1 :])
    yield (*folder, "")
    words = _DEPTH | _IMAGE
    yield ("plain", *(f for f in folder if not {w.lower() for w in _WORD.findall(f)} & words))


def _join(
    pictures: Sequence[_Series], depths: Sequence[_Series]
) -> list[tuple[_Series, _Series, dict[str, str]]]:
    """Each series of images with one of depth, and which name of the one is which of the other."""
    near: dict[tuple[str, ...], list[_Series]] = defaultdict(list)
    for picture in pictures:
        for place in set(_places(picture.folder)):
            near[place].append(picture)
    found: dict[int, list[tuple[tuple[int, ...], _Series, _Series, dict[str, str]]]]
    found = defaultdict(list)
    for depth in depths:
        candidates = {id(s): s for place in set(_places(depth.folder)) for s in near[place]}
        if len(pictures) + len(depths) > 2 and f"{depth.begin}{depth.end}":
            # names that say what they are need no folder that does: this one is a scene's
            candidates = {n: s for n, s in candidates.items() if _likeness(s, depth)[0]}
        ranked = [(_likeness(s, depth), s) for s in candidates.values()]
        ranked = [entry for entry in ranked if entry[0][_NAMES]]
        if ranked:
            score, picture = max(ranked, key=lambda entry: entry[0])
            found[id(picture)].append((score, picture, depth, _common(picture, depth)))
    best = [max(some, key=lambda e: ("depth" in e[2].words, e[0])) for some in found.values()]
    return [(picture, depth, common) for _, picture, depth, common in best]


def _likeness(picture: _Series, depth: _Series) -> tuple[int, ...]:
    """One folder but for known words, how many names fit, how many words they share."""
    plain = list(_places(picture.folder))[-1] == list(_places(depth.folder))[-1]
    shared = picture.words & depth.words
    names = len(_common(picture, depth))
    return plain, names, len(shared), len(picture.words & _IMAGE)


def _common(picture: _Series, depth: _Series) -> dict[str, str]:
    """Names of the picture that are names of the depth; else what all of each begin with cut."""
    same = {name: name for name in picture.files if name in depth.files}
    if same or min(len(picture.files), len(depth.files)) < 2:
        return same
    cut = [{n[len(_shared(s.files)) :]: n for n in s.files} for s in (picture, depth)]
    return {name: cut[1][core] for core, name in cut[0].items() if core in cut[1]}


def _shared(names: Collection[str]) -> str:
    """What all names begin with, without digits at its end."""
    first, last = min(names), max(names)  # in order, so that all between share what these do
    same = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(first, last, strict=False))
    return "".join(a for a, _ in same).rstrip("0123456789")


def _pairs(
    joined: Sequence[tuple[_Series, _Series, dict[str, str]]],
    pictures: Sequence[_Series],
    depths: Sequence[_Series],
    *,
    cut: bool,
) -> Pairs:
    pairs = sorted((p.files[a], d.files[b]) for p, d, common in joined for a, b in common.items())
    rgb, depth = (_pattern(files) for files in zip(*pairs, strict=True)) if pairs else (None, None)
    if rgb is None or depth is None or not _fits(pairs, rgb, depth):
        rgb = depth = None
    used = [[p for p, _, _ in joined] or pictures, [d for _, d, _ in joined] or depths]
    paired = {path for pair in pairs for path in pair}
    alone = [_alone(some, of, paired) for some, of in zip(used, (pictures, depths), strict=True)]
    return Pairs(
        pairs=pairs,
        images=alone[0],
        depths=alone[1],
        rgb=rgb,
        depth=depth,
        cut=cut,
    )


def _alone(used: Sequence[_Series], of: Sequence[_Series], paired: set[str]) -> list[str]:
    """Files without partner, in series that have some or that are named like one that has."""
    words = _DEPTH | _IMAGE
    named = {(s.begin, s.end, frozenset(s.words & words)) for s in used if s.words & words}
    like = [s for s in of if s in used or (s.begin, s.end, frozenset(s.words & words)) in named]
    return sorted({path for s in like for path in s.files.values()} - paired)


def _pattern(paths: Sequence[str]) -> str | None:
    """What these files' paths have in common, `*` for what tells them apart, without suffix."""
    parts = [PurePosixPath(path).with_suffix("").parts for path in paths]
    if len({len(p) for p in parts}) > 1:
        tops = {p[0] for p in parts}
        return next(iter(tops)) if len(tops) == 1 else None
    folders = [next(iter(s)) if len(s) == 1 else "*" for s in map(set, zip(*parts, strict=True))]
    ends = {_without_words(p[-1])[::2] for p in parts}
    begin, end = next(iter(ends)) if len(ends) == 1 else ("", "")
    if len(folders) == 2 and not begin and not end and folders[0] != "*":
        return folders[0]
    return "/".join((*folders[:-1], f"{begin}*{end}"))


def _fits(pairs: Sequence[tuple[str, str]], rgb: str, depth: str) -> bool:
    """Whether the patterns find the partner of each, and nothing else."""
    both = [matcher(rgb), matcher(depth)]
    for pair in itertools.islice(pairs, 10_000):
        found = [
            match(str(PurePosixPath(p).with_suffix("")))
            for match, p in zip(both, pair, strict=True)
        ]
        if found[0] is None or found[0] != found[1]:
            return False
    return True
