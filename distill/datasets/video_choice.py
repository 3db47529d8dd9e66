"""Which frames of a video are kept: at most so many a second, and none that repeats the last."""

from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np

from distill.datasets.video_file import damage, open_video

_SHORT = 1  # seconds that a file may lack of what it says
_SMALL = (64, 36)  # pixels; of frames that are compared


def choose(place: str, fps: float, distinct: float) -> Iterator[tuple[int, int]]:
    """The frames that are kept, in order: the microsecond and the time stamp of each.

    Decodes the whole file. Microseconds count from 0, or from the first frame where it is before.

    Args:
        place: of the file.
        fps: frames a second at most: the first at or behind each multiple of `1 / fps` seconds.
        distinct: mean difference to the small frame kept before, in [0, 1]; 0 keeps all.

    Raises:
        ValueError: it is damaged, cut off, or has no picture.
        FileNotFoundError: there is no such file.
        ImportError: the package av is missing; it comes with the extra `[data]`.
    """
    start, before, due = None, None, -np.inf
    with damage(place), open_video(place) as container:
        stream = container.streams.video[0]
        for frame in _whole(container, place):
            time = frame.pts * stream.time_base
            start = min(time, 0) if start is None else start  # or a minus would break the order
            if time < due:
                continue
            small = _small(frame) if distinct else None
            if before is None or small is None or np.abs(small - before).mean() >= distinct:
                yield round((time - start) * 1_000_000), frame.pts
                before = small
            due = (np.floor(float(time) * fps + 1e-6) + 1) / fps - 1e-6


def _whole(container: Any, place: str) -> Iterator[Any]:
    """All frames, in an order of time, of a file that has all it says it has.

    The end is that of any stream: sound may be longer than pictures.
    """
    end = 0.0
    for packet in container.demux():
        if packet.pts is not None:
            end = max(end, float((packet.pts + (packet.duration or 0)) * packet.time_base))
        if packet.stream != container.streams.video[0]:
            continue
        for frame in packet.decode():
            if frame.pts is None or frame.is_corrupt:
                said = "without a time" if frame.pts is None else "damaged"
                raise ValueError(f"{place}: a frame before {end:.1f} s is {said}; write it anew")
            yield frame
    says = ((container.start_time or 0) + (container.duration or 0)) / 1_000_000
    if says - end > _SHORT:
        raise ValueError(f"{place}: ends at {end:.1f} of {says:.1f} s; it is cut, fetch it again")


def _small(frame: Any) -> np.ndarray:
    pixels = frame.to_ndarray(format="rgb24")
    return cv2.resize(pixels, _SMALL, interpolation=cv2.INTER_AREA).astype(np.float32) / 255
