"""Depth of any form: the numbers come as they were written, in their own type."""

import io
import re
import struct
from collections.abc import Callable
from pathlib import Path

import h5py
import imagecodecs
import numpy as np
import pytest
from PIL import Image

from distill.datasets import depth_files

WHOLE = np.arange(1, 61, dtype=np.uint16).reshape(6, 10) * 1000
REAL = WHOLE.astype(np.float32) / 7


def tiff(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, format="TIFF")
    return stream.getvalue()


def huge_tiff() -> bytes:
    """Of so many rows, says its header, that Pillow takes it for an attack."""
    six, many = (struct.pack("<HHII", 257, 4, 1, rows) for rows in (6, 2**28))
    return tiff(WHOLE).replace(six, many)


def pfm(array: np.ndarray) -> bytes:
    return b"Pf\n10 6\n-1.0\n" + array[::-1].astype("<f4").tobytes()


def dpt(array: np.ndarray) -> bytes:
    return struct.pack("<fii", 202021.25, 10, 6) + array.astype("<f4").tobytes()


def exr(path: Path, channels: dict[str, np.ndarray]) -> None:
    import OpenEXR

    OpenEXR.File({"type": OpenEXR.scanlineimage}, channels).write(str(path))


def hdf5(path: Path, arrays: dict[str, np.ndarray]) -> None:
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file[name] = array


Write = Callable[[Path], object]
FORMS: dict[str, tuple[Write, np.ndarray]] = {
    "16.png": (lambda p: p.write_bytes(imagecodecs.png_encode(WHOLE)), WHOLE),
    "8.png": (lambda p: Image.fromarray(WHOLE.astype(np.uint8)).save(p), WHOLE.astype(np.uint8)),
    "16.tif": (lambda p: p.write_bytes(tiff(WHOLE)), WHOLE),
    "float.tiff": (lambda p: p.write_bytes(tiff(REAL)), REAL),
    "a.npy": (lambda p: np.save(p, REAL), REAL),
    "half.npy": (lambda p: np.save(p, REAL.astype(np.float16)), REAL.astype(np.float16)),
    "channel.npy": (lambda p: np.save(p, REAL[..., None]), REAL),
    "first.npy": (lambda p: np.save(p, REAL[None]), REAL),
    "one.npz": (lambda p: np.savez(p, x=REAL), REAL),
    "several.npz": (lambda p: np.savez(p, K=np.eye(3), depth=REAL), REAL),
    "a.pfm": (lambda p: p.write_bytes(pfm(REAL)), REAL),
    "a.dpt": (lambda p: p.write_bytes(dpt(REAL)), REAL),
    "a.h5": (lambda p: hdf5(p, {"deep/inside": REAL}), REAL),
    "b.hdf5": (lambda p: hdf5(p, {"depth": REAL, "normals": np.zeros((6, 10, 3))}), REAL),
    "one.exr": (lambda p: exr(p, {"Y": REAL}), REAL),
    "z.exr": (lambda p: exr(p, {"B": REAL * 2, "Z": REAL}), REAL),
    "rgb.exr": (lambda p: exr(p, {"R": REAL, "G": REAL, "B": REAL}), REAL),
}


@pytest.mark.parametrize("name", FORMS)
def test_numbers_come_as_they_are_stored(name: str, tmp_path: Path):
    write, stored = FORMS[name]
    write(tmp_path / name)
    read = depth_files.read_stored(tmp_path / name)
    assert read.dtype == stored.dtype
    np.testing.assert_array_equal(read, stored)


def test_a_grey_picture_in_three_channels_is_one_map(tmp_path: Path):
    grey = np.repeat((WHOLE // 256).astype(np.uint8)[..., None], 3, 2)
    Image.fromarray(grey).save(tmp_path / "a.png")
    np.testing.assert_array_equal(depth_files.read_stored(tmp_path / "a.png"), grey[..., 0])


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize(
    ("name", "write", "message"),
    [
        ("a.txt", lambda p: p.write_text("1"), r"no depth is read from '\.txt'"),
        ("a.png", lambda p: p.write_bytes(b"\x89PNG"), "damaged"),
        ("a.tif", lambda p: p.write_bytes(b"II*"), "damaged"),
        ("a.npz", lambda p: p.write_bytes(b"PK"), r"damaged or no \.npz"),
        ("a.npz", lambda p: np.savez(p, a=REAL, b=REAL), "which array is the depth"),
        ("a.h5", lambda p: p.write_bytes(b"x"), "damaged or no HDF5"),
        (
            "a.tif",
            lambda p: p.write_bytes(huge_tiff()),
            "damaged, or not an image: .* decompression bomb",
        ),
        ("a.png", lambda p: Image.new("1", (9600, 9600)).save(p), "9600 x 9600 = 9"),
        ("a.dpt", lambda p: p.write_bytes(dpt(REAL)[:-1]), "239 bytes behind a header that says"),
        ("a.npy", lambda p: np.save(p, np.zeros(4)), "holds .*, not one map of numbers"),
        ("a.npy", lambda p: np.save(p, np.zeros((0, 4))), "holds .*, not one map of numbers"),
        ("a.exr", lambda p: exr(p, {"A": REAL, "U": REAL}), "no channel"),
        (
            "a.png",
            lambda p: Image.new("RGB", (9, 9), "orange").save(p),
            "a picture in colour",
        ),
    ],
)
def test_what_is_no_depth_is_named(name: str, write: Write, message: str, tmp_path: Path):
    write(tmp_path / name)
    with pytest.raises(ValueError, match=f"^{re.escape(str(tmp_path / name))}: {message}"):
        depth_files.read_stored(tmp_path / name)


def test_a_missing_file_stays_missing(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="no such file"):
        depth_files.read_stored(tmp_path / "a.npy")
