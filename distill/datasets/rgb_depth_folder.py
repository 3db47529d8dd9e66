"""Two folders, images and 16-bit depth PNGs of the same names: KITTI's form, and many others'."""

from pathlib import Path, PurePosixPath

import numpy as np

from distill.datasets import depth_maps, images
from distill.types import Sample


class RgbDepthFolder:
    """Pairs `rgb/a/b.jpg` with `depth/a/b.png`. Keys: `"<name>/rgb/a/b.jpg"`.

    Args:
        root: the folder that holds both.
        name: of the data set.
        rgb: folder of images, any format.
        depth: folder of 16-bit PNGs, depth along the optical axis; 0 where nothing was measured.
        units_per_metre: of the PNGs: 256 for KITTI, 1000 for millimetres.

    Raises:
        FileNotFoundError: a folder is missing.
        ValueError: the folders do not pair up, or `units_per_metre` is not positive.
    """

    def __init__(
        self,
        root: Path,
        *,
        name: str,
        rgb: str = "rgb",
        depth: str = "depth",
        units_per_metre: float = 256.0,
    ) -> None:
        if not units_per_metre > 0:
            raise ValueError(f"{name}: units_per_metre must be positive, got {units_per_metre}")
        self.root, self.name, self.units_per_metre = root, name, units_per_metre
        pictures, depths = _by_stem(root / rgb), _by_stem(root / depth)
        alone = sorted(pictures.keys() ^ depths.keys())
        if alone or not pictures:
            first = f", first {alone[0]!r}" if alone else ""
            raise ValueError(
                f"{name}: {len(pictures)} images in {root / rgb} and {len(depths)} depth maps in "
                f"{root / depth}, {len(alone)} without a partner{first}; names must pair up"
            )
        self._pairs = [(f"{rgb}/{pictures[s]}", f"{depth}/{depths[s]}") for s in sorted(pictures)]

    def __len__(self) -> int:
        return len(self._pairs)

    def key(self, index: int) -> str:
        """The key of sample `index`, without reading it."""
        return f"{self.name}/{self._pairs[index][0]}"

    def __getitem__(self, index: int) -> Sample:
        """Read one pair; `valid` where the stored number is not 0 and at least a millimetre.

        Raises:
            ValueError: a file is damaged, no 16-bit PNG, or image and depth differ in size.
        """
        rgb, depth = self._pairs[index]
        stored = depth_maps.read_png16(self.root / depth)
        metres = (stored / self.units_per_metre).astype(np.float32)
        image = images.read_image(self.root / rgb)
        return depth_maps.depth_sample(self.key(index), image, metres, stored > 0)


def _by_stem(folder: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    for path in images.list_images(folder):
        stem = str(PurePosixPath(path).with_suffix(""))
        if stem in found:
            raise ValueError(f"{folder}: {found[stem]} and {path} have one name; remove one")
        found[stem] = path
    return found
