"""MPI Sintel (Butler et al. 2012; Wulff et al. 2012): an animated film with the renderer's depth.

1064 frames of 23 sequences (sintel.is.tue.mpg.de), 1024 x 436. Terms of its own, for research.
"""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from distill.datasets import depth_maps, images
from distill.types import Sample

_RENDERINGS = ("final", "clean")
_SOURCE = (
    "get MPI-Sintel-complete.zip and MPI-Sintel-depth-training-20150305.zip from "
    "http://sintel.is.tue.mpg.de/downloads and unpack both in one folder"
)


class Sintel:
    """`training/{final,clean,depth,camdata_left}/<sequence>/frame_0001.{png,dpt,cam}`.

    Depth is along the optical axis, in units that everybody takes for metres. Nothing is marked:
    the sky is only very far (thousands of metres), so it is `valid`, and whoever evaluates must
    cap, at 70 to 80 m in the published tables. `K` is the file's, which changes from frame to frame
    as the lens zooms; its principal point is (511.5, 217.5), the middle of 1024 x 436 pixels that
    are counted from 0 at their centres.

    Args:
        root: the folder that holds `training`.
        rendering: `final`, with motion blur, depth of field and fog, or `clean` without.
        name: of the data set. Keys: `"<name>/training/<rendering>/<sequence>/frame_0001.png"`.

    Raises:
        FileNotFoundError: there is no such folder, or no frame in it.
        ValueError: no such rendering, or frames and depth do not pair up.
    """

    def __init__(self, root: Path, *, rendering: str = "final", name: str = "sintel") -> None:
        if rendering not in _RENDERINGS:
            raise ValueError(f"{name}: rendering is one of {_RENDERINGS}, got {rendering!r}")
        self.root, self.name, self._frames = root, name, f"training/{rendering}"
        self._items = _stems(root / self._frames, ".png")
        if not self._items:
            raise FileNotFoundError(
                f"{name}: no {self._frames}/<sequence>/frame_0001.png in {root}; {_SOURCE}, or "
                "give as --data the folder that holds `training/`"
            )
        if alone := sorted({*self._items} ^ {*_stems(root / "training/depth", ".dpt")}):
            raise ValueError(
                f"{name}: {len(alone)} frames of {root} have no depth, or depth has no frame in "
                f"{self._frames}, first {alone[0]}; {_SOURCE}"
            )

    def __len__(self) -> int:
        return len(self._items)

    def key(self, index: int) -> str:
        """The key of sample `index`, without reading it."""
        return f"{self.name}/{self._frames}/{self._items[index]}.png"

    def __getitem__(self, index: int) -> Sample:
        """Read one frame; `valid` everywhere, the sky too.

        Raises:
            ValueError: a file is damaged, or image and depth differ in size.
            FileNotFoundError: a file is missing.
        """
        item = self._items[index]
        depth = depth_maps.read_dpt(self.root / f"training/depth/{item}.dpt")
        K, _ = read_cam(self.root / f"training/camdata_left/{item}.cam")
        return depth_maps.depth_sample(
            self.key(index),
            images.read_image(self.root / f"{self._frames}/{item}.png"),
            depth,
            np.isfinite(depth),
            K=torch.from_numpy(K),
        )


def read_cam(path: Path) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Intrinsics K (3, 3) and `cam_from_world` (3, 4) of a `.cam` file; OpenCV axes.

    Raises:
        ValueError: the tag is wrong, it is not of 21 numbers, or K is no pinhole's.
        FileNotFoundError: there is no such file.
    """
    data = path.read_bytes()
    if data[:4] != depth_maps.SINTEL_TAG or len(data) != 4 + 21 * 8:
        raise ValueError(
            f"{path}: begins {data[:4]!r}, and {len(data[4:])} bytes follow; expected the tag "
            f"{depth_maps.SINTEL_TAG!r} and 21 float64; {_SOURCE}"
        )
    numbers = np.frombuffer(data, "<f8", offset=4).astype(np.float64)
    K, cam_from_world = numbers[:9].reshape(3, 3), numbers[9:].reshape(3, 4)
    if not (K[0, 0] > 0 and K[1, 1] > 0 and K[2].tolist() == [0, 0, 1]):
        raise ValueError(f"{path}: no camera has these intrinsics: {K.tolist()}; {_SOURCE}")
    return K, cam_from_world


def _stems(folder: Path, suffix: str) -> list[str]:
    """`<sequence>/frame_0001` of all frames, in order."""
    found = folder.glob(f"*/frame_*{suffix}")
    return sorted(path.relative_to(folder).with_suffix("").as_posix() for path in found)
