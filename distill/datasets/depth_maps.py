"""Depth from files (16-bit PNG, HDF5, PFM, EXR, NumPy, Sintel's), and the sample made of it.

Everything a file can do wrong becomes a `ValueError` that names it; a missing file stays a
`FileNotFoundError`. Numbers come as they are stored: what they mean is the reader's to say.
"""

import struct
import zlib
from pathlib import Path
from tokenize import TokenError
from typing import Any
from zipfile import BadZipFile

import h5py
import imagecodecs
import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from distill import atomic
from distill.datasets.images import check_size
from distill.types import Sample, Space

NEAREST = 1e-3  # metres; below, 1 / depth would outweigh the rest of its image
SINTEL_TAG = b"PIEH"  # 202021.25 as a little-endian float32, before Sintel's depth and cameras
# what NumPy raises on damaged files
_DAMAGE = (
    *(OSError, ValueError, TypeError, EOFError, SyntaxError, RuntimeError),
    *(TokenError, BadZipFile, zlib.error),
)


def depth_sample(
    key: str,
    image: Float[Tensor, "3 h w"],
    depth: NDArray[np.float32],
    valid: NDArray[np.bool_],
    *,
    space: Space = Space.METRIC_DEPTH,
    far: NDArray[np.bool_] | None = None,
    K: Float[Tensor, "3 3"] | None = None,
) -> Sample:
    """A labelled sample: `depth` along the optical axis, NaN outside `valid`.

    Metres nearer than `NEAREST`, numbers <= 0 and numbers that are not finite are not valid either.

    Args:
        key: of the sample.
        image: RGB in [0, 1].
        depth: in `space`.
        valid: what the data set calls measured; decide it before any unit conversion.
        space: `METRIC_DEPTH` (metres), `SCALE_INVARIANT_DEPTH` of a reconstruction, or disparity.
        far: at infinity; nothing `far` stays valid.
        K: of the image.

    Raises:
        ValueError: image and depth differ in size, as when one was resized alone.
    """
    if depth.shape != image.shape[1:]:
        raise ValueError(
            f"{key}: depth {depth.shape} but image {tuple(image.shape[1:])}; "
            "export both at one size again"
        )
    nearest = NEAREST if space is Space.METRIC_DEPTH else np.finfo(np.float32).tiny
    valid = valid & (depth >= nearest) & (depth < np.inf)
    if far is not None:
        valid &= ~far
    return Sample(
        key=key,
        image=image,
        target=torch.from_numpy(np.where(valid, depth, np.float32(np.nan))),
        valid=torch.from_numpy(valid),
        far=None if far is None else torch.from_numpy(far),
        space=space,
        K=None if K is None else K.float(),
    )


def read_png16(path: Path) -> NDArray[np.uint16]:
    """A 16-bit grey PNG, exactly, (h, w).

    Raises:
        ValueError: it is no PNG, damaged, too large, or not 16-bit grey.
        FileNotFoundError: there is no such file.
    """
    data = path.read_bytes()
    if data[:8] != b"\x89PNG\r\n\x1a\n" or len(data) < 26:
        raise ValueError(f"{path}: not a PNG file ({len(data)} bytes)")
    width, height, depth, colour = struct.unpack(">IIBB", data[16:26])
    check_size(str(path), width, height)
    if (depth, colour) != (16, 0):
        raise ValueError(
            f"{path}: expected 16-bit grey, got {depth} bits, PNG colour type {colour}"
        )
    try:
        return imagecodecs.png_decode(data)
    except imagecodecs.PngError as error:
        raise ValueError(f"{path}: damaged PNG: {error}") from error


def write_png16(path: Path, values: NDArray[np.uint16]) -> None:
    """Write (h, w) as a 16-bit grey PNG, atomically.

    Raises:
        ValueError: `values` is not a two-dimensional uint16 array.
    """
    if values.dtype != np.uint16 or values.ndim != 2:
        raise ValueError(f"{path}: needs uint16 (h, w), got {values.dtype} {values.shape}")
    atomic.write_bytes(path, bytes(imagecodecs.png_encode(np.ascontiguousarray(values))))


def read_hdf5(path: Path) -> NDArray[np.generic]:
    """The array `dataset` of an HDF5 file, in its own type.

    Raises:
        ValueError: it is no HDF5 file, damaged, or holds no array of that name.
        FileNotFoundError: there is no such file.
    """
    try:
        with h5py.File(path, "r", locking=False) as file:  # locks fail on read-only mounts
            found = file.get("dataset")
            if not isinstance(found, h5py.Dataset):
                raise ValueError(f"{path}: no array named `dataset`, only {sorted(file)}")
            return np.asarray(found[()])
    except FileNotFoundError:
        raise
    except (OSError, RuntimeError) as error:
        raise ValueError(f"{path}: damaged or no HDF5 file: {error}") from error


def read_npy(path: Path) -> NDArray[np.generic]:
    """The array of a `.npy` file, in its own type; never a pickled object.

    Raises:
        ValueError: it is no such file, or cut off.
        FileNotFoundError: there is no such file.
    """
    try:
        with path.open("rb") as file:  # `np.load` would open an archive of that name, too
            return np.lib.format.read_array(file, allow_pickle=False)
    except FileNotFoundError:
        raise
    except _DAMAGE as error:
        raise ValueError(f"{path}: damaged or no .npy file: {error}") from error


def read_npz(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of an `.npz` file by name, each in its own type; never a pickled object.

    Raises:
        ValueError: it is no such file, or damaged.
        FileNotFoundError: there is no such file.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: np.asarray(file[name]) for name in file.files}
    except FileNotFoundError:
        raise
    except _DAMAGE as error:
        raise ValueError(f"{path}: damaged or no .npz file: {error}") from error


def read_pfm(path: Path) -> NDArray[np.float32]:
    """A portable float map, (h, w) or (h, w, 3), its first row at the top.

    The file's rows run from the bottom up; the sign of its scale is the byte order, its size is no
    factor (Middlebury's and BlendedMVS's files agree on both).

    Raises:
        ValueError: it is no PFM file, too large, or not as long as its header says.
        FileNotFoundError: there is no such file.
    """
    data = path.read_bytes()
    try:
        kind, size, scale = data[:256].split(b"\n", 3)[:3]
        channels = {b"Pf": 1, b"PF": 3}[kind.strip()]
        width, height = map(int, size.split())
        order = "<" if float(scale) < 0 else ">"
    except (ValueError, KeyError) as error:
        raise ValueError(f"{path}: no PFM file; it begins {data[:24]!r}") from error
    check_size(str(path), width, height)
    start = len(kind) + len(size) + len(scale) + 3
    if len(data) - start != 4 * width * height * channels or min(width, height) < 1:
        raise ValueError(
            f"{path}: {len(data) - start} bytes behind the header, {width} x {height} pixels of "
            f"{channels} float32 need {4 * width * height * channels}; get the file again"
        )
    values = np.frombuffer(data, f"{order}f4", offset=start)
    shape = (height, width) if channels == 1 else (height, width, channels)
    return values.reshape(shape)[::-1].astype(np.float32)


def read_dpt(path: Path) -> NDArray[np.float32]:
    """Sintel's form, (h, w): its tag, width, height, then rows from the top.

    Raises:
        ValueError: the tag is wrong, or it is not as long as its header says.
        FileNotFoundError: there is no such file.
    """
    data = path.read_bytes()
    if data[:4] != SINTEL_TAG:
        raise ValueError(f"{path}: begins {data[:4]!r}, not with Sintel's tag {SINTEL_TAG!r}")
    width, height = struct.unpack("<ii", data[4:12]) if len(data) >= 12 else (0, 0)
    if min(width, height) < 1 or len(data) != 12 + 4 * width * height:
        raise ValueError(
            f"{path}: {len(data[12:])} bytes behind a header that says {width} x {height} pixels "
            "of float32; get the file again"
        )
    return np.frombuffer(data, "<f4", offset=12).reshape(height, width).astype(np.float32)


def read_exr(path: Path, *, channel: str) -> NDArray[np.float32]:
    """One channel of an OpenEXR file, (h, w); a file with a single channel gives that one.

    Raises:
        ValueError: it is no OpenEXR file, damaged, or has several channels and not this one.
        FileNotFoundError: there is no such file.
        ImportError: the package OpenEXR is missing; it comes with the extra `[data]`.
    """
    try:
        import OpenEXR
    except ImportError as error:
        raise ImportError("EXR files need OpenEXR: pip install 'distill[data]'") from error
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        with OpenEXR.File(str(path), separate_channels=True) as file:
            channels = {name: np.asarray(c.pixels) for name, c in file.channels().items()}
    except (RuntimeError, ValueError, TypeError, OSError) as error:
        raise ValueError(f"{path}: damaged or no OpenEXR file: {error}") from error
    if channel not in channels and len(channels) != 1:
        raise ValueError(f"{path}: no channel {channel!r}, only {sorted(channels)}")
    values = channels.get(channel, next(iter(channels.values())))
    return values.astype(np.float32)
