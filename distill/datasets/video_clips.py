"""Clips: folders of numbered frames; where one shot ends, and which frames are neighbours."""

import itertools
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import cv2
import numpy as np
from jaxtyping import Float

from distill.datasets import images

_SMALL = (64, 36)  # pixels; of frames that are compared


def clips(root: Path) -> dict[str, dict[int, str]]:
    """Of each folder with frames, in sorted order, the paths of these by their numbers.

    Raises:
        ValueError: frames have no number, or two have one.
        FileNotFoundError: `root` is not a folder.
    """
    found: dict[str, dict[int, str]] = {}
    names: dict[str, str] = {}
    for path in images.list_images(root):
        clip, match = path.rpartition("/")[0], re.fullmatch(r"(.*?)(\d+)", PurePosixPath(path).stem)
        if match is None or match[1] != names.setdefault(clip, match[1]):
            raise ValueError(f"{root / path}: frames of a clip have one name and a number behind")
        twin = found.setdefault(clip, {}).setdefault(int(match[2]), path)
        if twin != path:
            raise ValueError(f"{root / path}: {twin} has the same number; remove one")
    return {clip: dict(sorted(found[clip].items())) for clip in sorted(found)}


def shots(folder: Path, frames: dict[int, str]) -> list[dict[int, str]]:
    """The frames of a clip, divided where its `cuts.txt` says so.

    Raises:
        ValueError: the file names a frame that is not there.
    """
    path = folder / "cuts.txt"
    text = path.read_text(errors="replace").split() if path.is_file() else []
    if unknown := [cut for cut in text if not cut.isdecimal() or int(cut) not in frames]:
        raise ValueError(f"{path}: not the number of a frame: {unknown[0]!r}")
    cuts = set(map(int, text))
    divided: list[dict[int, str]] = [{}]
    for number, frame in frames.items():
        if number in cuts:
            divided.append({})
        divided[-1][number] = frame
    return divided


def with_neighbours(
    frames: dict[int, str], offsets: Sequence[int]
) -> list[tuple[str, tuple[str, ...]]]:
    """The frames of a shot that have all their neighbours, in order, and these.

    The commonest distance of two numbers is an offset of 1.
    """
    apart = Counter(b - a for a, b in itertools.pairwise(frames))
    step = apart.most_common(1)[0][0] if apart else 1
    chosen = []
    for number, frame in frames.items():
        others = [frames.get(number + step * offset) for offset in offsets]
        if None not in others:
            chosen.append((frame, tuple(filter(None, others))))
    return chosen


def find_cuts(clip: Path, *, threshold: float = 0.15) -> list[int]:
    """The numbers that look like the first frame of a new shot; look at them before you trust them.

    A cut is a step in small grey frames, on average of more than `threshold` of the range from
    black to white, and of twice a step beside it: in a fast turn all steps are large.

    Args:
        clip: a folder of numbered frames.
        threshold: in [0, 1].

    Raises:
        ValueError: frames have no number, two have one, or one is damaged.
        FileNotFoundError: there is no such folder.
    """
    frames = clips(clip).get("", {})
    small = (_small(clip / path) for path in frames.values())
    steps = [float(np.abs(b - a).mean()) for a, b in itertools.pairwise(small)]
    cuts = []
    for i, number in enumerate(list(frames)[1:]):
        beside = steps[max(i - 1, 0) : i] + steps[i + 1 : i + 2]
        if steps[i] > max(threshold, 2 * min(beside, default=0.0)):
            cuts.append(number)
    return cuts


def _small(path: Path) -> Float[np.ndarray, "h w"]:
    grey = images.read_image(path).mean(0).numpy()
    return cv2.resize(grey, _SMALL, interpolation=cv2.INTER_AREA)
