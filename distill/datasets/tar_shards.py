"""Photographs in tar files, WebDataset's or any other, read where they lie."""

import tarfile
import zlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from distill.datasets import images, remote
from distill.datasets.manifest import Entry, kept_or_listed
from distill.types import Sample

_PREFERRED = (".jpg", ".jpeg", ".png", ".webp")  # of several pictures of one sample
_UNPACKED = 1 << 28  # bytes; more is no compressed photograph


class TarShards:
    """The images in tar shards, on this machine or far away. Keys: `"<name>/<shard>/<member>"`.

    Each shard's headers are read once; from then on an image is one read of exactly its bytes, so
    that shuffling and resuming are as exact as with files. Of the members that make one WebDataset
    sample (the same name up to its first dot), the plain `.jpg` is the image, else the plain
    `.jpeg`, `.png`, `.webp` or another; `.depth.png` and `.seg.png` beside it are not. A name with
    dots of its own and no plain image beside it is an image, too. Members that are compressed by
    themselves, as in ImageNet-21K, are unpacked.

    Args:
        shards: a file, a folder, a URL, or a pattern: `{000..123}` counts, `*` matches. Or several.
        name: of the data set.

    Raises:
        FileNotFoundError: there is no such shard.
        ValueError: a shard is damaged, cut off or compressed, holds a member twice, or there is no
            image in any of them.
        OSError: a shard cannot be reached.
    """

    def __init__(self, shards: str | Path | Sequence[str | Path], *, name: str = "photos") -> None:
        self.name = name
        given = [shards] if isinstance(shards, str | Path) else shards
        found = [p for one in given for p in remote.expand(one, suffix=".tar")]
        self._names = remote.short_names(found)
        places = tuple(sorted(set(found), key=lambda place: f"{self._names[place]}/"))
        self._manifest = kept_or_listed(
            f"tar_shards {' '.join(places)}",
            fresh=partial(_fresh, places),
            entries=partial(_entries, places),
            containers=places,
            slow=any(map(remote.is_remote, places)),
        )
        if len(self._manifest) == 0:
            raise ValueError(f"{name}: no image in {len(places)} shards, the first is {places[0]}")

    def __len__(self) -> int:
        return len(self._manifest)

    def key(self, index: int) -> str:
        """The key of sample `index`, without reading it."""
        entry = self._manifest[index]
        return f"{self.name}/{self._names[self._manifest.containers[entry.container]]}/{entry.path}"

    def encoded(self, index: int) -> bytes:
        """The image's own bytes.

        Raises:
            ValueError: it is compressed and does not unpack.
            OSError: the shard is gone, cut off, or cannot be reached.
        """
        entry = self._manifest[index]
        place = self._manifest.containers[entry.container]
        data = remote.read_range(place, entry.offset, entry.size)
        return _unpacked(data, self.key(index)) if data[:2] == b"\x1f\x8b" else data

    def __getitem__(self, index: int) -> Sample:
        """Read one image.

        Raises:
            ValueError: it is damaged or too large (`images.read_pil`).
            OSError: as `encoded`.
            IndexError: there is no such sample.
        """
        key = self.key(index)
        return Sample(key=key, image=images.read_image(self.encoded(index), name=key))


def _entries(places: Sequence[str], state: dict[str, str]) -> Iterator[Entry]:
    for number, place in enumerate(places):
        state[place] = remote.version(place)
        members = remote.with_file(place, partial(_members, place=place))
        for path in sorted(_pictures(members)):
            yield Entry(number, path, *members[path])


def _fresh(places: Sequence[str], state: Mapping[str, str]) -> bool:
    try:
        return all(state.get(place) == remote.version(place) for place in places)
    except FileNotFoundError:
        return False


def _members(file: Any, *, place: str) -> dict[str, tuple[int, int]]:
    """Offset and size of each file in a shard, by its path."""
    found: dict[str, tuple[int, int]] = {}
    if file.read(2) == b"\x1f\x8b":
        raise ValueError(f"{place}: is compressed; gunzip it, images compress no further")
    file.seek(0)
    try:
        with tarfile.open(fileobj=file, mode="r:") as tar:
            while (member := tar.next()) is not None:
                tar.members.clear()  # type: ignore[attr-defined]  # or it keeps all headers
                if not member.isreg():
                    continue
                path = member.name.removeprefix("./")
                if path in found:
                    raise ValueError(f"{place}: {path} is there twice; pack it again")
                found[path] = (member.offset_data, member.size)
    except tarfile.TarError as error:
        raise ValueError(f"{place}: damaged or no tar file: {error}") from error
    return found


def _pictures(paths: Mapping[str, object]) -> Iterator[str]:
    """The members that are photographs."""
    suffixes = images.suffixes_of_images()
    samples: dict[str, dict[str, str]] = defaultdict(dict)
    for path in paths:
        folder, _, base = path.rpartition("/")
        stem, dot, rest = base.partition(".")
        hidden = base.startswith(".") or "__MACOSX" in folder.split("/")
        if not hidden and PurePosixPath(base).suffix.lower() in suffixes:
            samples[f"{folder}/{stem}"][(dot + rest).lower() + f"\0{path}"] = path
    for members in samples.values():
        plain = {name.split("\0")[0]: path for name, path in sorted(members.items())}
        alone = {name: path for name, path in plain.items() if name in suffixes}
        if not alone:
            yield from members.values()
            continue
        preferred = [name for name in _PREFERRED if name in alone]
        yield alone[(preferred or sorted(alone))[0]]


def _unpacked(data: bytes, key: str) -> bytes:
    try:
        unpacker = zlib.decompressobj(wbits=31)
        image = unpacker.decompress(data, _UNPACKED)
    except zlib.error as error:
        raise ValueError(f"{key}: compressed and damaged: {error}") from error
    if not unpacker.eof:
        raise ValueError(f"{key}: compressed, and cut off or larger than {_UNPACKED} bytes")
    return image
