"""IRS (Wang et al. 2021): rendered rooms in stereo, 960 x 540, disparity in OpenEXR.

103 316 pairs: 88 554 to train, 14 762 to test, every seventh frame of the same 76 scenes. The
authors name no licence for the data.
"""

import os
from pathlib import Path

import numpy as np
import torch

from distill.datasets import depth_maps, images
from distill.types import Sample

# README: 480 pixels, 0.1 m between the cameras; the centre is that of the authors' disp2pcd.py
_K = ((480, 0, 479.5), (0, 480, 269.5), (0, 0, 1))
_SIZE = (540, 960)
_DEPTH_TIMES_DISPARITY = 48.0  # metres x pixels of an image 960 wide
_FARTHEST = 200.0  # metres; 0.24 pixels, seen through windows, where disparity says little
_PAGE = "https://github.com/HKBU-HPML/IRS"


class Irs:
    """The left images and `d_00001.exr` that `lists/irs_train.list` names, or another list.

    Not valid is a disparity <= 0, one that is not finite, and what lies farther than 200 m, of
    which nobody says that it is sky. The authors give 0.1 m for "most of the data": a few scenes
    may be off by a factor, which no affine-invariant loss sees. Some disparity maps are of another
    size than the image (the authors' issue 3); such a sample is an error when it is read.

    Args:
        root: the folder that holds `Home`, `Office`, `Restaurant`, `Store`; `lists` lies in it or
            beside it.
        split: `train`, `test`, or part of a list's name: `home_train`, `small_test`.
        name: of the data set. Keys: `"<name>/<path of the left image>"`.

    Raises:
        FileNotFoundError: there is no such folder or list, or files it names are missing.
        ValueError: the list is empty, names an image twice, or a line is not of four paths.
    """

    def __init__(self, root: Path, *, split: str = "train", name: str = "irs") -> None:
        if not root.is_dir():
            raise FileNotFoundError(
                f"{name}: no such folder: {root}; get Home, Office, Restaurant and Store from "
                f"{_PAGE} and unpack them there, or give as --data the folder that holds "
                f"`{root.name}/`"
            )
        self.root, self.name = root, name
        listing = _list(root, split)
        self._pairs = _read_list(listing)
        _check_all_there(root, listing, self._pairs)

    def __len__(self) -> int:
        return len(self._pairs)

    def key(self, index: int) -> str:
        """The key of sample `index`, without reading it."""
        return f"{self.name}/{self._pairs[index][0]}"

    def __getitem__(self, index: int) -> Sample:
        """Read one left image and its depth.

        Raises:
            ValueError: a file is damaged, or the disparity is not of 540 x 960 pixels.
            FileNotFoundError: a file is missing.
        """
        image, exr = self._pairs[index]
        disparity_px = depth_maps.read_exr(self.root / exr, channel="R")
        if disparity_px.shape != _SIZE:
            raise ValueError(
                f"{self.root / exr}: disparity {disparity_px.shape}, not {_SIZE}, the only size "
                "whose pixels are known; leave it out of the list"
            )
        least = np.float32(_DEPTH_TIMES_DISPARITY / _FARTHEST)
        valid = (disparity_px >= least) & (disparity_px < np.inf)
        depth = _DEPTH_TIMES_DISPARITY / np.where(valid, disparity_px, 1)
        return depth_maps.depth_sample(
            self.key(index),
            images.read_image(self.root / image),
            depth.astype(np.float32),
            valid,
            K=torch.tensor(_K),
        )


def _list(root: Path, split: str) -> Path:
    folders = (root, root / "lists", root.parent / "lists")
    for folder in folders:
        for path in (folder / f"irs_{split}.list", folder / f"{split}.list"):
            if path.is_file():
                return path
    there = {path.stem.removeprefix("irs_") for f in folders for path in f.glob("*.list")}
    raise FileNotFoundError(
        f"{root}: no lists/irs_{split}.list in or beside it, only {sorted(there)}; "
        f"copy the folder `lists` of {_PAGE} there"
    )


def _read_list(listing: Path) -> list[tuple[str, str]]:
    """Paths of left images and of disparities."""
    pairs: list[tuple[str, str]] = []
    for line in filter(str.strip, listing.read_text().splitlines()):
        if len(paths := line.split()) != 4:
            raise ValueError(f"{listing}: not left, right, disparity, normals: {line!r}")
        pairs.append((paths[0], paths[2]))
    if len({image for image, _ in pairs}) < max(len(pairs), 1):
        raise ValueError(f"{listing}: empty, or names an image twice; get it again from {_PAGE}")
    return pairs


def _check_all_there(root: Path, listing: Path, pairs: list[tuple[str, str]]) -> None:
    there: dict[str, set[str]] = {}
    missing: list[str] = []
    for path in (path for pair in pairs for path in pair):
        folder, _, file = path.rpartition("/")
        if folder not in there:  # 76 folders are listed, not 180 000 files asked for
            exists = (root / folder).is_dir()
            there[folder] = set(os.listdir(root / folder) if exists else ())  # noqa: PTH208
        if file not in there[folder]:
            missing.append(path)
    if missing:
        raise FileNotFoundError(
            f"{root}: {len(missing)} of the {2 * len(pairs)} files that {listing.name} names are "
            f"not there, first {missing[0]}; unpack all archives of {_PAGE} there, or choose a "
            "list of what you have, such as split='home_train'"
        )
