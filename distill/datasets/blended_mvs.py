"""BlendedMVS and BlendedMVG (Yao et al. 2020): reconstructions rendered into their photographs.

502 projects, 110 000 images of 768 x 576 (BlendedMVS alone: 113, 17 000). CC BY 4.0.
"""

import logging
import os
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from distill.datasets import depth_maps, images
from distill.types import Sample, Space

_LEAST = 0.01  # of the image; less tells neither scale nor shift
_CORNER = 0.5  # MVSNet's code, whose format this is, counts from the corner of the image
_LISTS = {
    "train": ("BlendedMVG_training", "BlendedMVS_training", "training_list"),
    "val": ("validation_list",),
}
_PAGE = "https://github.com/YoYo000/BlendedMVS"
_logger = logging.getLogger(__name__)


class BlendedMvs:
    """`<project>/{blended_images/00000000.jpg,rendered_depth_maps/00000000.pfm,cams/*_cam.txt}`.

    Depth is true up to a scale of each project. Meshes have holes, some maps are empty: where less
    than 1 % of an image has depth, none of it is valid, and no loss sees the image.
    `*_masked.jpg`, black where there is no mesh, is never read.

    Args:
        root: the folder that holds the projects, or one folder for each archive.
        split: `train` or `val`, or the name of one of the authors' lists (`BlendedMVS++`), which
            lie in `root` or in its `project_lists`. Projects of a list that are not there are
            counted in a warning. Without any list every project is `train`.
        name: of the data set.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: no such list, nothing of it is there, or a project is there twice.
    """

    def __init__(self, root: Path, *, split: str = "train", name: str = "blended_mvs") -> None:
        if not root.is_dir():
            raise FileNotFoundError(
                f"{name}: no such folder: {root}; get the low-res sets of BlendedMVS, BlendedMVS+ "
                f"and BlendedMVS++ from {_PAGE} and unpack them there, or give as --data the "
                f"folder that holds `{root.name}/`"
            )
        self.root, self.name = root, name
        self._images: list[str] = []
        for project in _projects(root, split):
            folder = project / "blended_images"
            found = sorted(os.listdir(root / folder))  # noqa: PTH208 40x faster
            files = [f for f in found if f.endswith(".jpg") and f.removesuffix(".jpg").isdigit()]
            self._images += [f"{folder.as_posix()}/{file}" for file in files]
        if not self._images:
            raise ValueError(
                f"{name}: no <project>/blended_images/00000000.jpg of split {split!r} in {root}; "
                f"unpack the low-res sets of {_PAGE} there"
            )

    def __len__(self) -> int:
        return len(self._images)

    def key(self, index: int) -> str:
        """The key of sample `index`, without reading it."""
        return f"{self.name}/{self._images[index]}"

    def __getitem__(self, index: int) -> Sample:
        """Read one image; not valid where the mesh has a hole (0).

        Raises:
            ValueError: a file is damaged, or image and depth differ in size.
            FileNotFoundError: the depth or the camera is missing.
        """
        path = self.root / self._images[index]
        depth = depth_maps.read_pfm(path.parents[1] / f"rendered_depth_maps/{path.stem}.pfm")
        valid = (depth > 0) & (depth < np.inf)
        return depth_maps.depth_sample(
            self.key(index),
            images.read_image(path),
            depth,
            valid & (valid.mean() >= _LEAST),
            space=Space.SCALE_INVARIANT_DEPTH,
            K=_read_camera(path.parents[1] / f"cams/{path.stem}_cam.txt"),
        )


def _projects(root: Path, split: str) -> list[Path]:
    """Relative paths of the projects of `split` that are there, in order."""
    found = {*root.glob("*/blended_images"), *root.glob("*/*/blended_images")}
    there = {path.parent.name: path.parent.relative_to(root) for path in found}
    if len(there) < len(found):
        raise ValueError(f"{root}: {len(found) - len(there)} projects are there twice; remove one")
    listing = _list(root, split)
    if listing is None:
        _logger.warning("%s: no %s.txt, every project is training data", root, _LISTS["train"][0])
        return sorted(there.values())
    listed = set(listing.read_text().split())
    if lacking := len(listed - there.keys()):
        _logger.warning("%s: %d of %d projects are not there", listing, lacking, len(listed))
    return sorted(place for project, place in there.items() if project in listed)


def _list(root: Path, split: str) -> Path | None:
    folders = (root, root / "project_lists")
    for stem in _LISTS.get(split, (split,)):
        for path in (folder / f"{stem}.txt" for folder in folders):
            if path.is_file():
                return path
    if split != "train":
        lists = sorted({path.stem for folder in folders for path in folder.glob("*.txt")})
        raise ValueError(f"{root}: no list for {split!r}, only {lists}; copy them from {_PAGE}")
    return None


def _read_camera(path: Path) -> Float[Tensor, "3 3"]:
    words = path.read_text(errors="replace").split()
    try:
        K = torch.tensor([float(word) for word in words[words.index("intrinsic") + 1 :][:9]])
        K = K.reshape(3, 3)
    except (ValueError, RuntimeError) as error:
        raise ValueError(f"{path}: no 3 x 3 numbers below `intrinsic`: {error}") from error
    K[:2, 2] -= _CORNER
    return K
