"""The photographs in one tar file: where each lies, by one reading of the headers."""

import tarfile
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from distill.datasets import images

_PREFERRED = (".jpg", ".jpeg", ".png", ".webp")  # of several pictures of one sample
_MAPS = {  # `.depth.png` and the like are about a picture
    *("alpha", "confidence", "depth", "disparity", "edge", "edges", "flow", "instance", "label"),
    *("labels", "mask", "masks", "matte", "normal", "normals", "seg", "segm", "segmentation"),
    "semantic",
}
_END = 1 << 20  # bytes behind the end that are looked at; writers pad with some thousand zeros


def photographs(file: Any, place: str) -> list[tuple[str, int, int]]:
    """Path, offset and size of each, sorted by path.

    Of the members that make one WebDataset sample (the same name up to its first dot), the plain
    `.jpg` is the image, else the plain `.jpeg`, `.png`, `.webp` or another. A name with dots of its
    own and no plain image beside it is an image, too, but never a map such as `.depth.png`.

    Args:
        file: binary, of the tar.
        place: where it is, for errors.

    Raises:
        ValueError: it is damaged, cut off or compressed, holds a member twice, or one whose name
            cannot be a key.
    """
    found = _members(file, place)
    return [(path, *found[path]) for path in sorted(_pictures(found, place))]


def _members(file: Any, place: str) -> dict[str, tuple[int, int]]:
    """Offset and size of each file, by its path."""
    found: dict[str, tuple[int, int]] = {}
    if file.read(2) == b"\x1f\x8b":
        raise ValueError(f"{place}: is compressed; gunzip it, images compress no further")
    file.seek(0)
    try:
        with tarfile.open(fileobj=file, mode="r:") as tar:
            while (member := tar.next()) is not None:
                tar.members.clear()  # type: ignore[attr-defined]  # or it keeps all headers
                if not member.isreg() and not member.islnk():
                    continue
                path = _path(member.name, place)
                if path in found:
                    at = f"at bytes {found[path][0]} and {member.offset_data}"
                    raise ValueError(f"{place}: {path} is there twice, {at}; pack it again")
                found[path] = (member.offset_data, member.size)
                if member.islnk():  # the same file under another name, without its bytes
                    found[path] = _linked(found, member, place)
                if member.issparse():
                    raise ValueError(f"{place}: {path} is sparse; pack it without --sparse")
            _check_end(file, int(tar.offset), place)  # type: ignore[attr-defined]
    except tarfile.TarError as error:
        raise ValueError(f"{place}: damaged or no tar file: {error}") from error
    return found


def _check_end(file: Any, end: int, place: str) -> None:
    """`tarfile` takes a damaged header, and the end of the file, for the end of the archive."""
    file.seek(end)
    rest = file.read(_END)
    if not rest:
        raise ValueError(f"{place}: cut off at byte {end}, the end mark is missing; fetch it again")
    if rest.strip(b"\0"):
        raise ValueError(
            f"{place}: damaged at byte {end}, or several archives in one; fetch or pack it again"
        )


def _linked(
    found: Mapping[str, tuple[int, int]], member: tarfile.TarInfo, place: str
) -> tuple[int, int]:
    target = _path(member.linkname, place)
    if target not in found:
        raise ValueError(f"{place}: {member.name} links to {target}, which is not before it")
    return found[target]


def _path(name: str, place: str) -> str:
    parts = [part for part in name.split("/") if part not in ("", ".")]
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{place}: the name {name!r} is not UTF-8; rename it") from error
    if ".." in parts:
        raise ValueError(f"{place}: the name {name!r} leads out of it; rename it")
    return "/".join(parts)


def _pictures(paths: Mapping[str, object], place: str) -> Iterator[str]:
    suffixes = images.suffixes_of_images()
    samples: dict[str, dict[str, str]] = defaultdict(dict)
    for path in paths:
        folder, _, base = path.rpartition("/")
        stem, _, suffix = base.partition(".")
        *inner, last = suffix.lower().split(".")
        hidden = base.startswith(".") or "__MACOSX" in folder.split("/")
        if hidden or f".{last}" not in suffixes or not _MAPS.isdisjoint(inner[-1:]):
            continue
        same, suffix = samples[f"{folder}/{stem}"], f".{suffix.lower()}"
        if suffix in same:
            raise ValueError(f"{place}: {same[suffix]} and {path} are one image; rename one")
        same[suffix] = path
    for sample in samples.values():
        alone = [suffix for suffix in sample if suffix in suffixes]
        if not alone:
            yield from sample.values()
            continue
        preferred = [suffix for suffix in _PREFERRED if suffix in alone]
        yield sample[(preferred or sorted(alone))[0]]
