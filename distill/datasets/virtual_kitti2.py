"""Virtual KITTI 2 (Cabon et al. 2020): rendered drives; depth in centimetres, sky marked.

2126 frames in 5 scenes, each in 10 variations, by 2 cameras: 42 520 images, 21 260 of `Camera_0`.
CC BY-NC-SA 3.0.
"""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from distill.datasets import depth_maps, images
from distill.types import Sample

TRAIN, VAL = ("Scene02", "Scene06", "Scene18", "Scene20"), ("Scene01",)
_SKY = 65535  # 655.35 m: the sky, and whatever is farther
_CENTIMETRES = 100.0
_PAGE = "https://europe.naverlabs.com/research/computer-vision/proxy-virtual-worlds-vkitti-2"
_COLUMNS = ["frame", "cameraID", "K[0,0]", "K[1,1]", "K[0,2]", "K[1,2]"]


class VirtualKitti2:
    """`SceneXX/<variation>/frames/{rgb,depth}/Camera_X/`; keys end in the path of the image.

    Variations of a scene share their geometry: split by scene, never by frame. The authors name no
    split; `TRAIN` and `VAL` are the scenes as Marigold (Ke et al. 2024) divides them.

    Args:
        root: the folder that holds `Scene01`, `Scene02`, ...
        scenes: which of them, all by default.
        variations: such as `clone`, `fog`; all by default.
        cameras: `Camera_0` (left), `Camera_1`.
        name: of the data set.

    Raises:
        FileNotFoundError: `root` is not a folder.
        ValueError: something asked for is not there.
    """

    def __init__(
        self,
        root: Path,
        *,
        scenes: Sequence[str] | None = None,
        variations: Sequence[str] | None = None,
        cameras: Sequence[str] = ("Camera_0",),
        name: str = "virtual_kitti2",
    ) -> None:
        if not root.is_dir():
            raise FileNotFoundError(
                f"{name}: no such folder: {root}; get Virtual KITTI 2 from {_PAGE} and unpack it "
                f"there, or give as --data the folder that holds `{root.name}/`"
            )
        self.root, self.name = root, name
        self._cameras: dict[Path, dict[tuple[int, int], Tensor]] = {}
        self._images: list[str] = []
        for scene in _choose(root, scenes, "Scene"):
            for variation in _choose(root / scene, variations, ""):
                frames = f"{scene}/{variation}/frames/rgb"
                for camera in _choose(root / frames, cameras, "Camera_"):
                    found = sorted(os.listdir(root / frames / camera))  # noqa: PTH208 40x faster
                    files = [file for file in found if file.startswith("rgb_")]
                    self._images += [f"{frames}/{camera}/{file}" for file in files]
        if not self._images:
            raise ValueError(
                f"{name}: no SceneXX/<variation>/frames/rgb/Camera_X/rgb_00000.jpg in {root}; "
                "unpack vkitti_2.0.3_rgb.tar, _depth.tar and _textgt.tar.gz there"
            )

    def __len__(self) -> int:
        return len(self._images)

    def key(self, index: int) -> str:
        """The key of sample `index`, without reading it."""
        return f"{self.name}/{self._images[index]}"

    def __getitem__(self, index: int) -> Sample:
        """Read one frame: `far` where the file says 65535, `valid` where it says a depth.

        Raises:
            ValueError: a file is damaged, or image and depth differ in size.
            FileNotFoundError: the depth or `intrinsic.txt` is missing.
        """
        scene, variation, _, _, camera, file = self._images[index].split("/")
        number = file.removeprefix("rgb_").removesuffix(".jpg")
        drive = self.root / scene / variation
        stored = depth_maps.read_png16(drive / "frames/depth" / camera / f"depth_{number}.png")
        return depth_maps.depth_sample(
            self.key(index),
            images.read_image(self.root / self._images[index]),
            (stored / _CENTIMETRES).astype(np.float32),
            (stored > 0) & (stored < _SKY),
            far=stored == _SKY,
            K=self._K(drive / "intrinsic.txt", int(number), int(camera.removeprefix("Camera_"))),
        )

    def _K(self, path: Path, frame: int, camera: int) -> Float[Tensor, "3 3"]:  # noqa: N802 K
        if path not in self._cameras:
            self._cameras[path] = _read_intrinsics(path)
        if (frame, camera) not in self._cameras[path]:
            raise ValueError(f"{path}: no line for frame {frame} of camera {camera}")
        return self._cameras[path][frame, camera]


def _choose(folder: Path, wanted: Sequence[str] | None, prefix: str) -> list[str]:
    there = sorted(e.name for e in folder.iterdir() if e.is_dir() and e.name.startswith(prefix))
    if missing := sorted(set(wanted or ()) - set(there)):
        raise ValueError(f"{folder}: no {', '.join(missing)}; there are {', '.join(there)}")
    return there if wanted is None else sorted(set(wanted))


def _read_intrinsics(path: Path) -> dict[tuple[int, int], Tensor]:
    """K by frame and camera."""
    lines = path.read_text(errors="replace").splitlines()
    if not lines or lines[0].split() != _COLUMNS:
        raise ValueError(f"{path}: the first line must be {' '.join(_COLUMNS)!r}, got {lines[:1]}")
    cameras: dict[tuple[int, int], Tensor] = {}
    for line in filter(str.strip, lines[1:]):
        try:
            frame, camera, fx, fy, cx, cy = map(float, line.split())
        except ValueError as error:
            raise ValueError(f"{path}: not {len(_COLUMNS)} numbers: {line!r}") from error
        K = torch.tensor([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
        cameras[int(frame), int(camera)] = K
    return cameras
