"""One depth raster from a file of any form, as it is stored.

For data that nobody has described: what the numbers mean is not decided here.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import h5py
import imagecodecs
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from distill.datasets import depth_maps, images

_CHANNELS = ("Z", "R", "Y", "V", "depth.Z")  # of OpenEXR files with several
_ARRAYS = ("depth", "dataset", "depths", "disparity")  # of files with several
# what Pillow raises on damaged files
_DAMAGE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)


def read_stored(path: Path) -> NDArray[Any]:
    """The numbers of a depth file, (h, w), in the type in which they are stored.

    PNG of 8 or 16 bits, JPEG, WebP, BMP, TIFF, `.npy`, `.npz`, HDF5, OpenEXR, PFM and Sintel's
    `.dpt`. A colour picture whose channels are equal is a grey one.

    Raises:
        ValueError: it is damaged, of no such form, or holds no single map; a coloured picture of
            depth has lost its numbers.
        FileNotFoundError: there is no such file.
        ImportError: an EXR file, without the extra `[data]`.
    """
    read = _READERS.get(path.suffix.lower())
    if read is None:
        raise ValueError(f"{path}: no depth is read from {path.suffix!r}, only {suffixes()}")
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    return _one_map(read(path), path)


def suffixes() -> tuple[str, ...]:
    """What names of depth files may end with, in lower case."""
    return tuple(_READERS)


def _one_map(array: NDArray[Any], path: Path) -> NDArray[Any]:
    if array.ndim == 3 and 1 in (array.shape[0], array.shape[2]):
        array = array.squeeze(0 if array.shape[0] == 1 else 2)
    if array.ndim == 3 and array.shape[2] in (3, 4) and _is_grey(array):
        array = array[..., 0]
    if array.ndim == 3 and array.shape[2] in (3, 4):
        raise ValueError(
            f"{path}: a picture in colour, {array.shape}; depth has one number a pixel, which a "
            "colour map loses: export the numbers"
        )
    if array.ndim != 2 or array.dtype.kind not in "fiu" or 0 in array.shape:
        raise ValueError(f"{path}: holds {array.dtype} {array.shape}, not one map of numbers")
    return array


def _is_grey(array: NDArray[Any]) -> bool:
    return bool((array[..., 0] == array[..., 1]).all() and (array[..., 0] == array[..., 2]).all())


def _png(path: Path) -> NDArray[Any]:
    with path.open("rb") as file:
        head = file.read(26)
    is_16_bit_grey = head[24:] == b"\x10\x00"
    return depth_maps.read_png16(path) if is_16_bit_grey else _picture(path)


def _opened(path: Path, formats: tuple[str, ...]) -> Image.Image:
    try:
        return Image.open(path, formats=formats)
    except _DAMAGE as error:
        raise ValueError(f"{path}: damaged, or not an image: {error}") from error


def _picture(path: Path) -> NDArray[Any]:
    """Eight bits, as they lie in the file: what belongs to a depth map is never turned."""
    with _opened(path, images.FORMATS) as image:
        images.check_size(str(path), *image.size)
        try:
            return np.asarray(image if image.mode == "L" else image.convert("RGB"))
        except _DAMAGE as error:
            raise ValueError(f"{path}: damaged, or not an image: {error}") from error


def _tiff(path: Path) -> NDArray[Any]:
    with _opened(path, ("TIFF",)) as image:
        images.check_size(str(path), *image.size)
    try:
        return np.asarray(imagecodecs.tiff_decode(path.read_bytes(), index=0))
    except (OSError, ValueError, RuntimeError) as error:
        raise ValueError(f"{path}: damaged TIFF: {error}") from error


def _npz(path: Path) -> NDArray[Any]:
    return _chosen(depth_maps.read_npz(path), path)


def _hdf5(path: Path) -> NDArray[Any]:
    found: dict[str, h5py.Dataset] = {}

    def visit(name: str, entry: Any) -> None:
        if isinstance(entry, h5py.Dataset) and len(entry.shape) in (2, 3):
            found[name] = entry

    try:
        with h5py.File(path, "r", locking=False) as file:
            file.visititems(visit)
            return np.asarray(_chosen(found, path)[()])
    except (OSError, RuntimeError) as error:
        raise ValueError(f"{path}: damaged or no HDF5 file: {error}") from error


def _chosen(arrays: Mapping[str, Any], path: Path) -> Any:
    if len(arrays) == 1:
        return next(iter(arrays.values()))
    for name in _ARRAYS:
        if name in arrays:
            return arrays[name]
    raise ValueError(f"{path}: which array is the depth? It holds {sorted(arrays)}; keep one")


def _exr(path: Path) -> NDArray[Any]:
    for channel in _CHANNELS[:-1]:
        try:
            return depth_maps.read_exr(path, channel=channel)
        except ValueError as error:
            if "no channel" not in str(error):
                raise
    return depth_maps.read_exr(path, channel=_CHANNELS[-1])


_READERS: dict[str, Callable[[Path], NDArray[Any]]] = {
    ".png": _png,
    **dict.fromkeys((".jpg", ".jpeg", ".webp", ".bmp"), _picture),
    **dict.fromkeys((".tif", ".tiff"), _tiff),
    **dict.fromkeys((".h5", ".hdf5"), _hdf5),
    ".npy": depth_maps.read_npy,
    ".npz": _npz,
    ".exr": _exr,
    ".pfm": depth_maps.read_pfm,
    ".dpt": depth_maps.read_dpt,
}
