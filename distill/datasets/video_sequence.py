"""Frames of videos in their order, with their neighbours: for learning from motion, without labels.

A folder of numbered frames is a clip; `ffmpeg -i drive.mp4 -fps_mode passthrough drive/%06d.png`
makes one.
"""

import logging
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from distill.datasets import images, video_clips
from distill.types import Sample, View

_log = logging.getLogger(__name__)


class VideoSequence:
    """Clips `<folder>/<any name><number>.jpg`; keys end in the path of the frame.

    Beside the frames of a clip, or in a folder above it, lies `intrinsics.txt`: fx fy cx cy in
    pixels of the frames, integer coordinates being pixel centres. The commonest distance of two
    numbers is one frame (videos are often thinned), and a neighbour is at its own number: nothing
    is learned across a gap, nor from one clip to the next. That a clip is one shot is for its owner
    to see to: a file `cuts.txt` beside the frames holds the number of the first frame of each
    further shot (`video_clips.find_cuts` proposes them), and no sample reaches across it.

    Args:
        root: the folder of all clips, or a clip.
        offsets: of the `views`, frames after the sample.
        intrinsics: fx, fy, cx, cy of all frames, in place of the files.
        name: of the data set.

    Raises:
        FileNotFoundError: `root` is not a folder, or a clip has no intrinsics.
        ValueError: no frame has its neighbours; frames have no number, or two have one; offsets,
            intrinsics or cuts are not what they should be.
    """

    def __init__(
        self,
        root: Path,
        *,
        offsets: Sequence[int] = (-1, 1),
        intrinsics: Sequence[float] | None = None,
        name: str = "video_sequence",
    ) -> None:
        if 0 in offsets or len(set(offsets)) != len(offsets):
            raise ValueError(f"{name}: offsets {tuple(offsets)}; give each once, and not 0")
        self.root, self.name, self.offsets = root, name, tuple(offsets)
        given = None if intrinsics is None else _K(" ".join(map(str, intrinsics)), "intrinsics")
        self._frames: list[tuple[str, tuple[str, ...]]] = []
        self._cameras: dict[str, Float[Tensor, "3 3"]] = {}
        clips, total = video_clips.clips(root), 0
        for clip, frames in clips.items():
            self._cameras[clip] = _camera(root, clip, name) if given is None else given
            total += len(frames)
            for shot in video_clips.shots(root / clip, frames):
                self._frames += video_clips.with_neighbours(shot, self.offsets)
        if not self._frames:
            raise ValueError(
                f"{name}: {total} frames in {len(clips)} clips of {root}, none with neighbours at "
                f"{self.offsets}; give the folder of folders of numbered frames"
            )
        if left_out := total - len(self._frames):
            _log.info("%s: %d of %d frames lack a neighbour, left out", name, left_out, total)

    def __len__(self) -> int:
        return len(self._frames)

    def key(self, index: int) -> str:
        """The key of sample `index`, without reading it."""
        return f"{self.name}/{self._frames[index][0]}"

    def __getitem__(self, index: int) -> Sample:
        """Read a frame and its neighbours, whose poses nobody knows.

        Raises:
            ValueError: a file is damaged, or the frames differ in size.
            FileNotFoundError: one is gone.
            IndexError: there is no such sample.
        """
        path, neighbours = self._frames[index]
        K = self._cameras[path.rpartition("/")[0]]
        image = images.read_image(self.root / path)
        views = []
        for offset, other in zip(self.offsets, neighbours, strict=True):
            seen = images.read_image(self.root / other)
            if seen.shape != image.shape:
                sizes = f"{tuple(image.shape[1:])} pixels but {other} {tuple(seen.shape[1:])}"
                raise ValueError(f"{self.key(index)}: {sizes}; a clip has one size")
            views.append(View(key=f"{self.name}/{other}", image=seen, offset=offset, K=K))
        return Sample(key=self.key(index), image=image, K=K, views=tuple(views))


def _camera(root: Path, clip: str, name: str) -> Float[Tensor, "3 3"]:
    """By the nearest `intrinsics.txt`, from the clip up to the root."""
    for folder in (PurePosixPath(clip), *PurePosixPath(clip).parents):
        path = root / folder / "intrinsics.txt"
        if path.is_file():
            return _K(path.read_text(errors="replace"), str(path))
    raise FileNotFoundError(
        f"{name}: no {root / clip / 'intrinsics.txt'}; write `fx fy cx cy` in pixels there"
    )


def _K(text: str, where: str) -> Float[Tensor, "3 3"]:  # noqa: N802 K is its name
    try:
        fx, fy, cx, cy = map(float, text.split())
    except ValueError as error:
        raise ValueError(f"{where}: needs fx fy cx cy in pixels, got {text[:80]!r}") from error
    if not (0 < fx < np.inf and 0 < fy < np.inf and np.isfinite([cx, cy]).all()):
        raise ValueError(f"{where}: fx and fy must be positive, got {text[:80]!r}")
    return torch.tensor([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
