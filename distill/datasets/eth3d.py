"""ETH3D, high-resolution multi-view (Schöps et al. 2017): a laser scan seen by a DSLR.

454 images of 13 training scenes (eth3d.net), 6048 x 4032. CC BY-NC-SA 4.0.
"""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from distill.datasets import depth_maps, images
from distill.types import Sample

_IMAGES, _DEPTHS = "images/dslr_images", "ground_truth_depth/dslr_images"
_METRES = np.dtype("<f4")
_ORIENTATION = 0x0112  # of EXIF
_QUARTERS_BACK = {1: 0, 3: 2, 6: 1, 8: 3}  # orientation -> quarter turns back to what is stored
_SOURCE = (
    "get <scene>_dslr_jpg.7z and <scene>_dslr_depth.7z from https://www.eth3d.net/datasets and "
    "unpack both in one folder"
)


class Eth3d:
    """`<scene>/images/dslr_images/*.JPG` and their `<scene>/ground_truth_depth/dslr_images/*.JPG`.

    The truth was rendered for the images as the lens bent them: those of `dslr_images_undistorted`
    show other points at the same pixels, up to 150 pixels off, and are never read. A bent image has
    no pinhole (the calibration is THIN_PRISM_FISHEYE), so `K` is None.

    Args:
        root: the folder that holds the scenes, or `rgb/<scene>/` and `depth/<scene>_dslr_depth/
            <scene>/` as Marigold's lists have them.
        name: of the data set. Keys: `"<name>/<scene>/images/dslr_images/<file>"` in both forms.

    Raises:
        FileNotFoundError: `root` holds no scene.
        ValueError: a scene has images without depth, or depth without images.
    """

    def __init__(self, root: Path, *, name: str = "eth3d") -> None:
        self.root, self.name = root, name
        self._images: list[tuple[str, Path, Path]] = []  # path in the key, image, depth
        for folder in sorted({*root.glob(f"*/{_IMAGES}"), *root.glob(f"rgb/*/{_IMAGES}")}):
            scene = folder.parents[1]
            depths = scene / _DEPTHS
            if scene.parent != root:
                depths = root / "depth" / f"{scene.name}_dslr_depth" / scene.name / _DEPTHS
            self._images += [
                (f"{scene.name}/{_IMAGES}/{file}", folder / file, depths / file)
                for file in _paired(folder, depths)
            ]
        if not self._images:
            raise FileNotFoundError(
                f"{name}: no <scene>/{_IMAGES}/*.JPG in {root}; {_SOURCE}, or give that folder as "
                "--data (undistorted images are of no use: the truth fits the distorted ones)"
            )

    def __len__(self) -> int:
        return len(self._images)

    def key(self, index: int) -> str:
        """The key of sample `index`, without reading it."""
        return f"{self.name}/{self._images[index][0]}"

    def __getitem__(self, index: int) -> Sample:
        """Read one image; not valid where the scan has no point (infinity).

        Raises:
            ValueError: an image is damaged, or the depth has not one float32 per pixel of it.
            FileNotFoundError: a file is missing.
        """
        _, path, depth_path = self._images[index]
        image = _as_stored(path)
        h, w = image.shape[1:]
        data = depth_path.read_bytes()  # no JPEG, for all its name: numbers without a header
        if len(data) != h * w * _METRES.itemsize:
            raise ValueError(
                f"{depth_path}: {len(data)} bytes, but {path.name} has {w} x {h} pixels of "
                f"{_METRES.itemsize} bytes; {_SOURCE}"
            )
        depth = np.frombuffer(data, _METRES).reshape(h, w).astype(np.float32)
        return depth_maps.depth_sample(self.key(index), image, depth, np.isfinite(depth))


def _paired(images_folder: Path, depths: Path) -> list[str]:
    pictures, truths = (
        {path.name for path in folder.glob("*.JPG")} for folder in (images_folder, depths)
    )
    if alone := sorted(pictures ^ truths):
        raise ValueError(
            f"{images_folder} has {len(pictures)} images and {depths} {len(truths)} depth maps, "
            f"{len(alone)} without a partner, first {alone[0]}; {_SOURCE}"
        )
    return sorted(pictures)


def _as_stored(path: Path) -> Float[Tensor, "3 h w"]:
    """The image as its pixels lie in the file, for these the truth was rendered."""
    upright = images.read_image(path)
    with Image.open(path) as file:
        orientation = file.getexif().get(_ORIENTATION, 1)
    if orientation not in _QUARTERS_BACK:
        raise ValueError(
            f"{path}: EXIF orientation {orientation} is no camera's; remove the tag: "
            f"exiftool -Orientation= {path}"
        )
    return torch.rot90(upright, _QUARTERS_BACK[orientation], (1, 2)).contiguous()
