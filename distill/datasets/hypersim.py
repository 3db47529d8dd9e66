"""Hypersim (Roberts et al. 2021): rendered rooms; distance along the ray in HDF5, linear colour."""

import logging
from collections.abc import Collection
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from distill import geometry
from distill.datasets import depth_maps, images
from distill.datasets import hypersim_tables as tables
from distill.types import Sample

_logger = logging.getLogger(__name__)


class Hypersim:
    """`ai_VVV_NNN/images/scene_cam_XX_{final,geometry}_{hdf5,preview}/frame.IIII.*`.

    With `metadata_images_split_scene_v1.csv` in `root`, the released images of `split`, of the
    scenes that are there; without it every frame on the disk is `train`.

    Args:
        root: the folder that holds the scenes.
        split: `train` (59 543 images are released), `val` (7386) or `test` (7690).
        listing: a text file of lines that begin with `ai_001_001/rgb_cam_00_fr0000.png` for these
            frames instead, such as Marigold's `filename_list_train_filtered.txt`.
        skip: cameras to leave out, `ai_004_009/cam_01`; `hypersim_tables.BROKEN` has two that are.
        projection: `canonical` treats every camera as upright with 60 degrees across, as all
            published loaders do (depth off by more than 1 % in 31 scenes of 482); `per_scene`
            is exact and reads `metadata_camera_parameters.csv` in `root`.
        name: of the data set. Keys: `"<name>/<path of color.hdf5>"`, also where a tonemapped
            JPEG stands in for that file.

    Raises:
        FileNotFoundError: `root`, `listing` or a table it needs is missing.
        ValueError: no such split or projection, nothing of it is on the disk, or `listing` or
            `skip` is not as said.
    """

    def __init__(
        self,
        root: Path,
        *,
        split: str = "train",
        listing: Path | None = None,
        skip: Collection[str] = (),
        projection: str = "canonical",
        name: str = "hypersim",
    ) -> None:
        if not root.is_dir():
            raise FileNotFoundError(
                f"{name}: no such folder: {root}; get Hypersim's scenes from "
                "https://github.com/apple/ml-hypersim and unpack them there, or give as --data "
                f"the folder that holds `{root.name}/`"
            )
        if projection not in ("canonical", "per_scene"):
            raise ValueError(f"{name}: projection is canonical or per_scene, got {projection!r}")
        self.root, self.name = root, name
        self._exact = tables.read_cameras(root) if projection == "per_scene" else None
        if listing is not None:
            frames = tables.listed(root, listing)
        else:
            known = (root / tables.SPLITS).is_file()
            frames = tables.frames(root, split) if known else _found(root, split)
        self._frames = tables.without(frames, skip)
        if not self._frames:
            what = f"split {split!r}" if listing is None else listing
            raise ValueError(f"{name}: no frame of {what} in {root}; unpack scenes there")

    def __len__(self) -> int:
        return len(self._frames)

    def key(self, index: int) -> str:
        """The key of sample `index`, without reading it."""
        return f"{self.name}/{_path(*self._frames[index], 'final_hdf5', 'color.hdf5')}"

    def __getitem__(self, index: int) -> Sample:
        """Read one frame; not valid where the ray met nothing (NaN).

        Raises:
            ValueError: a file is damaged, image and depth differ in size, or the scene has no row
                in the table of cameras.
            FileNotFoundError: a file is missing.
        """
        stored = depth_maps.read_hdf5(self._file(index, "geometry_hdf5", "depth_meters.hdf5"))
        if stored.ndim != 2:
            raise ValueError(f"{self.key(index)}: depth_meters is {stored.shape}, not (h, w)")
        ray_distance = torch.from_numpy(stored.astype(np.float64))  # float16 on the disk
        K = tables.camera(self._exact, self._frames[index][0], *stored.shape)
        depth = geometry.ray_distance_to_depth(ray_distance, K).float().numpy()
        valid = np.isfinite(depth) & (depth > 0)
        return depth_maps.depth_sample(
            self.key(index), self._image(index, valid), depth, valid, K=K
        )

    def _file(self, index: int, folder: str, kind: str) -> Path:
        return self.root / _path(*self._frames[index], folder, kind)

    def _image(self, index: int, hit: NDArray[np.bool_]) -> Float[Tensor, "3 h w"]:
        linear = self._file(index, "final_hdf5", "color.hdf5")
        if not linear.is_file():  # a JPEG of the same tone mapping, lossy
            return images.read_image(self._file(index, "final_preview", "tonemap.jpg"))
        entity = self._file(index, "geometry_hdf5", "render_entity_id.hdf5")
        if entity.is_file():
            hit = depth_maps.read_hdf5(entity) != -1
        radiance = depth_maps.read_hdf5(linear).astype(np.float32)
        if radiance.shape != (*hit.shape, 3):
            raise ValueError(f"{self.key(index)}: colour {radiance.shape} but geometry {hit.shape}")
        return torch.from_numpy(tonemap(radiance, hit).transpose(2, 0, 1).copy())


def tonemap(
    radiance: Float[np.ndarray, "h w 3"], hit: NDArray[np.bool_]
) -> Float[np.ndarray, "h w 3"]:
    """The data set's own tone mapping: the 90th percentile of brightness becomes 0.8.

    `scene_generate_images_tonemap.py` of ml-hypersim. Brightness is taken where a surface was
    `hit`; with none the scale is 1; a picture darker than 1e-4 is black. NaN becomes black.
    """
    brightness = radiance[hit] @ np.array([0.3, 0.59, 0.11], np.float32)
    brightness = brightness[np.isfinite(brightness)]
    scale = 1.0
    if brightness.size:
        bright = float(np.percentile(brightness, 90))
        if bright < 1e-4:
            return np.zeros_like(radiance)
        scale = 0.8**2.2 / bright
    linear = np.fmax(radiance * np.float32(scale), 0)  # 0 for NaN, too
    return np.minimum(linear ** np.float32(1 / 2.2), 1)


def _path(scene: str, camera: str, frame: int, folder: str, kind: str) -> str:
    return f"{scene}/images/scene_{camera}_{folder}/frame.{frame:04d}.{kind}"


def _found(root: Path, split: str) -> list[tuple[str, str, int]]:
    if split != "train":
        raise ValueError(f"{root}: no {tables.SPLITS} for {split!r}; {tables.SOURCE}")
    _logger.warning("%s: no %s, every frame on the disk is training data", root, tables.SPLITS)
    files = root.glob("ai_*/images/scene_cam_??_geometry_hdf5/frame.*.depth_meters.hdf5")
    return sorted(
        (f.parts[-4], "_".join(f.parts[-2].split("_")[1:3]), int(f.name.split(".")[1]))
        for f in files
    )
