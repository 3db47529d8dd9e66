"""One video file: its frames by their time stamps, upright, as exact as decoding from the start."""

import contextlib
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from distill.datasets import images

SUFFIXES = (".mp4", ".mov", ".mkv", ".avi", ".webm", ".m4v")
_LATE = 1  # seconds behind the wanted frame, after which it does not come any more
_NEAR = 2  # seconds ahead that are decoded through rather than sought for


class Decoder:
    """One open video and where it is.

    Attributes:
        place: of the file.

    Raises:
        ValueError: it is damaged or has no picture.
        FileNotFoundError: there is no such file.
        ImportError: the package av is missing; it comes with the extra `[data]`.
    """

    def __init__(self, place: str) -> None:
        self.place = place
        self._container = open_video(place)
        self._stream = self._container.streams.video[0]
        # AVI holds no times of frames; those that FFmpeg derives differ after a jump
        self._guesses = self._container.format.name == "avi"
        self._frames: Iterator[Any] = iter(())
        self._last: Any = None

    def frame(self, pts: int) -> UInt8[np.ndarray, "h w 3"]:
        """The frame with this time stamp, upright. In order it is decoding, else a jump back.

        Raises:
            ValueError: the file is damaged there, or has no such frame.
        """
        base = self._stream.time_base
        ahead = -1 if self._last is None else (pts - self._last) * base
        self._last = None
        with damage(self.place):
            if ahead <= 0 or (ahead > _NEAR and not self._guesses):
                self._frames = self._from_before(pts)
            for frame in self._frames:
                if frame.pts == pts:
                    self._last = pts
                    return _upright(frame, self.place)
                if frame.pts is not None and (frame.pts - pts) * base > _LATE:
                    break
        raise ValueError(
            f"{self.place}: no frame at {float(pts * base):.3f} s; it has changed since it was "
            "listed, start the run again"
        )

    def close(self) -> None:
        """Give the file back; what refers to a container in a circle keeps it open for long."""
        self._frames = iter(())
        self._container.close()

    def _from_before(self, pts: int) -> Iterator[Any]:
        """All frames from a key frame at or before `pts` on, as decoding from the start gives them.

        A jump may end at a key frame behind `pts`, for it goes by the order in the file: frames
        that are shown before such a key frame but stored behind it need the one before.
        """
        back = 0
        while not self._guesses and pts - back > (self._stream.start_time or 0):
            self._container.seek(pts - back, stream=self._stream, backward=True, any_frame=False)
            frames = self._container.decode(self._stream)
            first = next(frames, None)
            if first and first.key_frame and first.pts is not None and first.pts <= pts:
                return itertools.chain([first], frames)
            back = max(2 * back, int(1 / self._stream.time_base))
        self.close()
        self._container = open_video(self.place)
        self._stream = self._container.streams.video[0]
        return self._container.decode(self._stream)


def open_video(place: str) -> Any:
    """The container of a file with pictures, decoded on one thread: reading processes are many.

    Raises:
        ValueError: it is damaged, has no picture, or pictures that are too large.
        FileNotFoundError: there is no such file.
        ImportError: the package av is missing; it comes with the extra `[data]`.
    """
    try:
        import av
    except ImportError as error:
        raise ImportError("videos need PyAV: pip install 'distill[data]'") from error
    if not Path(place).is_file():
        raise FileNotFoundError(f"{place}: no such file")
    with damage(place):
        container = av.open(place)
    if not container.streams.video:
        raise ValueError(f"{place}: has no picture")
    stream = container.streams.video[0]
    images.check_size(place, stream.width, stream.height)
    stream.thread_type = "NONE"
    return container


@contextlib.contextmanager
def damage(place: str) -> Iterator[None]:
    """What FFmpeg says of a file as a `ValueError` that names it."""
    from av.error import FFmpegError

    try:
        yield
    except FFmpegError as error:
        raise ValueError(f"{place}: damaged or no video: {error}") from error


def _upright(frame: Any, place: str) -> UInt8[np.ndarray, "h w 3"]:
    """The pixels of a decoded frame, turned as its display matrix says."""
    images.check_size(place, frame.width, frame.height)
    pixels = frame.to_ndarray(format="rgb24")
    return np.ascontiguousarray(np.rot90(pixels, round(frame.rotation / 90)))
