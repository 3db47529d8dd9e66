"""Photographs out of video files: frames by their time, without those that repeat the last one."""

import glob as globs
import os
import threading
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from distill.datasets import images, remote, video_choice
from distill.datasets.manifest import Entry, Manifest, kept_or_listed
from distill.datasets.video_file import SUFFIXES, Decoder
from distill.types import Sample

_INHERITED: list[Any] = []


class VideoFrames:
    """Frames of all videos below a folder. Keys: `"<name>/<path of the file>/<microseconds>"`.

    Of each video the first frame at or behind each multiple of `1 / fps` seconds, by the times the
    file gives its frames, so that variable frame rates work; left out where it differs from the one
    kept before by less than `distinct`, as in front of a red light. Frames are turned upright.
    Choosing decodes each video once; the choice is kept video by video, and a restart goes on.

    Args:
        source: a video, or a folder of them.
        fps: frames a second at most.
        distinct: mean difference of two small frames in [0, 1] that makes them two; 0 keeps all.
        name: of the data set.

    Raises:
        FileNotFoundError: no video is there.
        ValueError: a video is damaged or has no picture, or a number is out of its range.
        ImportError: the package av is missing; it comes with the extra `[data]`.
    """

    def __init__(
        self, source: Path, *, fps: float = 2.0, distinct: float = 1 / 255, name: str = "video"
    ) -> None:
        if not (fps > 0 and 0 <= distinct < 1):
            raise ValueError(f"{name}: fps {fps}, distinct {distinct}; above 0, and within [0, 1)")
        self.name, self._root = name, source.absolute()
        found = [self._root] if source.is_file() else _videos(self._root)
        if not found:
            kinds = ", ".join(SUFFIXES)
            raise FileNotFoundError(f"{name}: no video in {source}; they end with {kinds}")
        if source.is_file():
            self._root = self._root.parent
        order = sorted(found, key=lambda path: f"{path.relative_to(self._root).as_posix()}/")
        self._places = tuple(map(str, order))
        self._manifest = kept_or_listed(
            f"video_frames {fps!r} {distinct!r} {self._root} {' '.join(self._places)}",
            fresh=remote.unchanged,
            entries=partial(_entries, self._places, fps, distinct),
            containers=self._places,
            slow=True,
        )
        if len(self._manifest) == 0:
            raise ValueError(f"{name}: no frame in {len(found)} videos of {source}")
        self._own = threading.local()

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_own": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ |= state | {"_own": threading.local()}

    def __len__(self) -> int:
        return len(self._manifest)

    def key(self, index: int) -> str:
        """The key of sample `index`, without reading it."""
        entry = self._manifest[index]
        place = Path(self._places[entry.container]).relative_to(self._root).as_posix()
        return f"{self.name}/{place}/{entry.path}"

    def __getitem__(self, index: int) -> Sample:
        """Read one frame. In order it is decoding; else a jump to the key frame before it.

        Raises:
            ValueError: the video is damaged, or not the one that was listed.
            FileNotFoundError: it is gone.
            IndexError: there is no such sample.
        """
        entry = self._manifest[index]
        pixels = self._decoder(self._places[entry.container]).frame(entry.offset)
        return Sample(key=self.key(index), image=images.planes(pixels))

    def _decoder(self, place: str) -> Decoder:
        """Of this thread alone, for a decoder has one place in its file."""
        process, decoder = getattr(self._own, "opened", (-1, None))
        if process != os.getpid():  # a child must not use what its parent has open,
            _INHERITED.append(decoder)  # nor close it: the decoder's threads are not here
            decoder = None
        if decoder is None or decoder.place != place:
            if decoder is not None:
                decoder.close()
            decoder = Decoder(place)
            self._own.opened = os.getpid(), decoder
        return decoder


def _videos(root: Path) -> list[Path]:
    """Also behind links; what is hidden is not looked at."""
    found = map(Path, globs.glob(f"{globs.escape(str(root))}/**/*", recursive=True))  # noqa: PTH207
    return [path for path in found if path.suffix.lower() in SUFFIXES and path.is_file()]


def _entries(
    places: Sequence[str], fps: float, distinct: float, state: dict[str, str]
) -> Iterator[Entry]:
    for number, place in enumerate(places):
        state[place] = remote.version(place)  # first, or a change meanwhile would go unseen
        one = _chosen(place, fps, distinct)
        for index in range(len(one)):
            yield one[index]._replace(container=number)


def _chosen(place: str, fps: float, distinct: float) -> Manifest:
    def entries(state: dict[str, str]) -> Iterator[Entry]:
        state[place] = remote.version(place)
        for microseconds, pts in video_choice.choose(place, fps, distinct):
            yield Entry(0, f"{microseconds:012d}", pts, 0)

    return kept_or_listed(
        f"video {fps!r} {distinct!r} {place}",
        fresh=remote.unchanged,
        entries=entries,
        containers=(place,),
        slow=True,
    )
