"""Photographs in tar files, WebDataset's or any other, read where they lie."""

import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from distill.datasets import images, remote, tar_members
from distill.datasets.manifest import Entry, Manifest, Place, kept_or_listed
from distill.types import Sample

_AT_ONCE = 16  # far shards that are asked for at a time
_UNPACKED = 1 << 28  # bytes; more is no compressed photograph


class TarShards:
    """The images in tar shards, on this machine or far away. Keys: `"<name>/<shard>/<member>"`.

    Each shard's headers are read once; from then on an image is one read of exactly its bytes, so
    that shuffling and resuming are as exact as with files. One image is taken of each WebDataset
    sample (`tar_members`). Members that are compressed by themselves, as in ImageNet-21K, are
    unpacked. Of far shards each one's listing is kept, so that a listing that was interrupted goes
    on.

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
        self._names = remote.short_names(remote.expand(shards, suffix=".tar"))
        places = tuple(self._names)
        self._manifest = kept_or_listed(
            f"tar_shards {' '.join(places)}",
            fresh=remote.unchanged,
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

    def place(self, index: int) -> Place:
        """Where the image lies."""
        entry = self._manifest[index]
        return Place(self._manifest.containers[entry.container], entry.offset, entry.size)

    def encoded(self, index: int) -> bytes:
        """The image's own bytes.

        Raises:
            ValueError: it is compressed and does not unpack.
            OSError: the shard is gone, cut off, or cannot be reached.
        """
        data = remote.read_range(*self.place(index))
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
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        near = not any(map(remote.is_remote, places))
        listed = map(_listed, places) if near else pool.map(_listed_far, places)
        for number, (place, (version, rows)) in enumerate(zip(places, listed, strict=True)):
            state[place] = version
            for row in range(len(rows)):
                yield rows[row]._replace(container=number)


def _listed(place: str) -> tuple[str, Sequence[Entry]]:
    version = remote.version(place)  # first, or a change meanwhile would go unseen
    return version, _members(place)


def _listed_far(place: str) -> tuple[str, Manifest]:
    """As `_listed`, once."""
    version = remote.version(place)

    def entries(state: dict[str, str]) -> Sequence[Entry]:
        state["version"] = version
        return _members(place)

    return version, kept_or_listed(
        f"tar_shard {place}",
        fresh=lambda state: state["version"] == version,
        entries=entries,
        containers=(place,),
        slow=True,
    )


def _members(place: str) -> list[Entry]:
    found = remote.with_file(place, partial(tar_members.photographs, place=place))
    return [Entry(0, *member) for member in found]


def _unpacked(data: bytes, key: str) -> bytes:
    try:
        unpacker = zlib.decompressobj(wbits=31)
        image = unpacker.decompress(data, _UNPACKED)
    except zlib.error as error:
        raise ValueError(f"{key}: compressed and damaged: {error}") from error
    if not unpacker.eof:
        raise ValueError(f"{key}: compressed, and cut off or larger than {_UNPACKED} bytes")
    return image
