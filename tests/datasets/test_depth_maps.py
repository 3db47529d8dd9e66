"""Depth as files hold it: exact, or an error that names the file."""

import io
import pickle
import struct

import h5py
import numpy as np
import OpenEXR
import pytest
import torch
from contracts import unchecked
from PIL import Image

from distill.datasets import depth_maps
from distill.types import Space


def saved(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def test_missing_files_stay_missing(tmp_path):
    readers = (
        *(depth_maps.read_png16, depth_maps.read_hdf5, depth_maps.read_npy, depth_maps.read_npz),
        *(depth_maps.read_pfm, depth_maps.read_dpt),
        lambda path: depth_maps.read_exr(path, channel="R"),
    )
    for read in readers:
        with pytest.raises(FileNotFoundError):
            read(tmp_path / "none.png")


def test_png16_is_exact(tmp_path):
    values = np.random.default_rng(0).integers(0, 65536, (37, 53), dtype=np.uint16)
    depth_maps.write_png16(tmp_path / "d.png", values[::-1])
    read = depth_maps.read_png16(tmp_path / "d.png")
    assert read.dtype == np.uint16
    assert np.array_equal(read, values[::-1])
    assert np.array_equal(np.asarray(Image.open(tmp_path / "d.png")), values[::-1])


@pytest.mark.parametrize("values", [np.zeros((2, 2), np.uint8), np.zeros((2, 2, 3), np.uint16)])
def test_png16_takes_nothing_else(values, tmp_path):
    with pytest.raises(ValueError, match=r"needs uint16 \(h, w\)"):
        unchecked(depth_maps.write_png16)(tmp_path / "d.png", values)


def test_png16_refuses_other_files(tmp_path):
    path = tmp_path / "d.png"
    for mode, words in (("L", "8 bits, PNG colour type 0"), ("RGB", "type 2")):
        path.write_bytes(saved(Image.new(mode, (3, 2))))
        with pytest.raises(ValueError, match=rf"d\.png: expected 16-bit grey, got .*{words}"):
            depth_maps.read_png16(path)
    path.write_bytes(b"")
    with pytest.raises(ValueError, match=r"d\.png: not a PNG file \(0 bytes\)"):
        depth_maps.read_png16(path)
    depth_maps.write_png16(
        path, np.random.default_rng(0).integers(0, 9999, (64, 64), dtype=np.uint16)
    )
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(ValueError, match=r"d\.png: damaged PNG"):
        depth_maps.read_png16(path)
    header = saved(Image.fromarray(np.zeros((1, 1), np.uint16)))
    path.write_bytes(header[:16] + struct.pack(">II", 60000, 60000) + header[24:])
    with pytest.raises(ValueError, match=r"d\.png: 60000 x 60000 = 3600000000 pixels"):
        depth_maps.read_png16(path)


def test_hdf5(tmp_path):
    path = tmp_path / "d.hdf5"
    with h5py.File(path, "w") as file:
        file["dataset"] = np.array([[1.5, np.nan]], np.float16)
    read = depth_maps.read_hdf5(path)
    assert read.dtype == np.float16
    np.testing.assert_array_equal(read, [[1.5, np.nan]])
    path.chmod(0o444)
    assert depth_maps.read_hdf5(path).shape == (1, 2)


def test_hdf5_damage_names_the_file(tmp_path):
    path = tmp_path / "d.hdf5"
    path.write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"d\.hdf5: damaged or no HDF5"):
        depth_maps.read_hdf5(path)
    with h5py.File(path, "w") as file:
        file["other"] = np.zeros(3)
        file.create_group("dataset")
    with pytest.raises(
        ValueError, match=r"d\.hdf5: no array named `dataset`, only \['dataset', 'o"
    ):
        depth_maps.read_hdf5(path)
    with h5py.File(path, "w") as file:
        file.create_dataset(
            "dataset", data=np.random.default_rng(0).random(9000), compression="gzip"
        )
    path.write_bytes(path.read_bytes()[:9000])
    with pytest.raises(ValueError, match=r"d\.hdf5: damaged"):
        depth_maps.read_hdf5(path)


def test_sizes_that_differ_are_named():
    with pytest.raises(ValueError, match=r"set/a\.png: depth \(4, 6\) but image \(2, 3\); export"):
        depth_maps.depth_sample(
            "set/a.png", torch.zeros(3, 2, 3), np.ones((4, 6), np.float32), np.ones((4, 6), bool)
        )


def test_what_is_nearer_than_a_millimetre_is_not_valid():
    depth = np.array([[1e-4, 0.00099, 0.001, 2.0, np.nan]], np.float32)
    said = np.array([[True, True, True, True, False]])
    sample = depth_maps.depth_sample("k", torch.zeros(3, 1, 5), depth, said)
    assert sample.valid is not None
    assert sample.target is not None
    assert sample.valid.tolist() == [[False, False, True, True, False]]
    assert torch.equal(sample.target.isnan(), ~sample.valid)
    assert said.tolist() == [[True, True, True, True, False]]  # the caller's array is its own


def test_the_sky_and_what_is_no_number_is_never_valid():
    depth = np.array([[-1.0, 0.0, np.inf, np.nan, 1e-9, 5.0, 6.0]], np.float32)
    everything = np.ones_like(depth, bool)
    far = np.array([[False] * 6 + [True]])
    sample = depth_maps.depth_sample(
        "k",
        torch.zeros(3, 1, 7),
        depth,
        everything,
        space=Space.SCALE_INVARIANT_DEPTH,
        far=far,
    )
    assert sample.valid is not None
    assert sample.valid.tolist() == [[False] * 4 + [True, True, False]]
    assert sample.space is Space.SCALE_INVARIANT_DEPTH


def pfm(values: np.ndarray, *, order: str = "<", scale: float = 1.0) -> bytes:
    h, w = values.shape[:2]
    kind = "Pf" if values.ndim == 2 else "PF"
    sign = "-" if order == "<" else ""
    header = f"{kind}\n{w} {h}\n{sign}{scale}\n".encode()
    return header + values[::-1].astype(f"{order}f4").tobytes()


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("shape", [(3, 5), (5, 3, 3)])
def test_pfm_has_its_first_row_at_the_top(tmp_path, order, shape):
    values = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    values[0, 0] = np.inf
    path = tmp_path / "d.pfm"
    path.write_bytes(pfm(values, order=order, scale=0.003922))  # no factor
    read = depth_maps.read_pfm(path)
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read, values)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "no PFM file; it begins b''"),
        (b"Pf\n2 x\n-1\n" + bytes(16), "no PFM file"),
        (b"P5\n2 2\n-1\n" + bytes(16), "no PFM file"),
        (b"Pf\n2 2\n-1\n" + bytes(15), "15 bytes behind the header, 2 x 2 pixels"),
        (b"Pf\n0 0\n-1\n", "0 x 0 pixels"),
        (b"Pf\n60000 60000\n-1\n", "more than the bound"),
    ],
)
def test_pfm_damage_names_the_file(tmp_path, data, words):
    path = tmp_path / "d.pfm"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=rf"d\.pfm: .*{words}"):
        depth_maps.read_pfm(path)


def write_exr(path, channels: dict[str, np.ndarray]) -> None:
    header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
    OpenEXR.File(header, channels).write(str(path))


@pytest.mark.parametrize("dtype", ["f2", "f4"])
def test_exr_gives_the_named_channel_or_the_only_one(tmp_path, dtype):
    values = np.arange(12, dtype=dtype).reshape(3, 4) / 8
    write_exr(tmp_path / "d.exr", {"R": values, "G": values * 2, "B": values * 3})
    np.testing.assert_array_equal(depth_maps.read_exr(tmp_path / "d.exr", channel="R"), values)
    with pytest.raises(ValueError, match=r"d\.exr: no channel 'Z', only \['B', 'G', 'R'\]"):
        depth_maps.read_exr(tmp_path / "d.exr", channel="Z")
    write_exr(tmp_path / "y.exr", {"Y": values})
    np.testing.assert_array_equal(depth_maps.read_exr(tmp_path / "y.exr", channel="R"), values)


def test_exr_damage_names_the_file(tmp_path):
    path = tmp_path / "d.exr"
    write_exr(path, {"R": np.random.default_rng(0).random((64, 64), np.float32)})
    whole = path.read_bytes()
    for data in (b"", b"nothing", whole[: len(whole) // 2]):
        path.write_bytes(data)
        with pytest.raises(ValueError, match=r"d\.exr: damaged or no OpenEXR"):
            depth_maps.read_exr(path, channel="R")


def test_npy_is_exact_and_never_unpickles(tmp_path):
    path = tmp_path / "d.npy"
    values = np.array([[1.5, np.nan]], np.float16)
    np.save(path, values)
    read = depth_maps.read_npy(path)
    assert read.dtype == np.float16
    np.testing.assert_array_equal(read, values)
    whole = path.read_bytes()
    np.save(path, np.array([print], dtype=object))
    pickled = path.read_bytes()
    np.savez(tmp_path / "d.npz", values)
    archive = (tmp_path / "d.npz").read_bytes()
    header = whole.replace(b"{", b" ")
    for data in (b"", b"nothing", whole[:-2], pickled, pickle.dumps(values), archive, header):
        path.write_bytes(data)
        with pytest.raises(ValueError, match=r"d\.npy: damaged or no \.npy file"):
            depth_maps.read_npy(path)


def test_npz_is_exact_and_never_unpickles(tmp_path):
    path = tmp_path / "d.npz"
    values = np.arange(600, dtype=np.float16).reshape(30, 20)
    np.savez_compressed(path, depth=values, K=np.eye(3))
    read = depth_maps.read_npz(path)
    assert list(read) == ["depth", "K"]
    assert read["depth"].dtype == np.float16
    np.testing.assert_array_equal(read["depth"], values)
    whole = path.read_bytes()
    method = whole.index(b"PK\x01\x02") + 10  # how it is packed, in the archive's directory
    scratched = [whole[:at] + b"\xff\xff" + whole[at + 2 :] for at in (60, method)]
    np.save(tmp_path / "d.npy", values)
    np.savez(path, np.array([print], dtype=object))
    others = (path.read_bytes(), (tmp_path / "d.npy").read_bytes(), b"PK" + bytes(50))
    for data in (b"", whole[:100], whole[:-30], *scratched, *others):
        path.write_bytes(data)
        with pytest.raises(ValueError, match=r"d\.npz: damaged or no \.npz file"):
            depth_maps.read_npz(path)


def dpt(width: int, height: int, numbers: int) -> bytes:
    return b"PIEH" + struct.pack("<ii", width, height) + bytes(4 * numbers)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", r"begins b'', not with Sintel's tag b'PIEH'"),
        (b"HEIP" + dpt(1, 1, 1)[4:], r"begins b'HEIP'"),
        (b"PIEH" + bytes(7), "0 bytes behind a header that says 0 x 0 pixels"),
        (dpt(2, 3, 5), "20 bytes .* says 2 x 3 pixels"),
        (dpt(-2, -3, 6), "24 bytes .* says -2 x -3 pixels"),
    ],
)
def test_dpt_damage_names_the_file(data, words, tmp_path):
    path = tmp_path / "d.dpt"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=rf"d\.dpt: {words}"):
        depth_maps.read_dpt(path)
