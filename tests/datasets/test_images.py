"""Files as people have them: formats, orientations, damage."""

import io
import os
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from distill.datasets import images

COLOURS = np.zeros((8, 12, 3), np.uint8)
COLOURS[:, :6] = (200, 40, 20)
COLOURS[:4, 6:] = (30, 160, 60)
COLOURS[4:, 6:] = (20, 50, 210)


def saved(image: Image.Image, form: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def close(pixels: torch.Tensor, expected: np.ndarray, tolerance: float = 1e-6) -> None:
    wanted = torch.from_numpy(expected.astype(np.float32) / 255).permute(2, 0, 1)
    torch.testing.assert_close(pixels, wanted, atol=tolerance, rtol=0)


@pytest.mark.parametrize("form", ["PNG", "BMP", "TIFF", "PPM", "TGA", "WEBP", "GIF", "JPEG2000"])
def test_formats_without_loss(form):
    options = {"lossless": True} if form == "WEBP" else {}
    close(images.read_image(saved(Image.fromarray(COLOURS), form, **options)), COLOURS, 0.01)


def test_white_is_one():
    assert images.read_image(saved(Image.new("RGB", (3, 2), "white"))).unique().tolist() == [1.0]


def test_jpeg_keeps_red_red(tmp_path):
    path = tmp_path / "a.jpg"
    path.write_bytes(saved(Image.fromarray(COLOURS), "JPEG", quality=95, subsampling=0))
    close(images.read_image(path), COLOURS, 0.05)
    assert images.read_pil(path).mode == "RGB"


@pytest.mark.parametrize("form", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize(
    ("orientation", "stored"),
    [
        (1, COLOURS),
        (2, COLOURS[:, ::-1]),
        (3, COLOURS[::-1, ::-1]),
        (4, COLOURS[::-1]),
        (5, COLOURS.transpose(1, 0, 2)),
        (6, np.rot90(COLOURS)),  # the camera was turned; EXIF says: turn it back clockwise
        (7, COLOURS[::-1, ::-1].transpose(1, 0, 2)),
        (8, np.rot90(COLOURS, -1)),
    ],
)
def test_exif_turns_the_picture_upright(orientation, stored, form):
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"JPEG": {"quality": 98, "subsampling": 0}, "WEBP": {"lossless": True}}
    data = saved(Image.fromarray(stored.copy()), form, exif=exif, **options.get(form, {}))
    close(images.read_image(data), COLOURS, 0.03)
    assert images.read_pil(data).size == (12, 8)


@pytest.mark.parametrize("told", ["exif", "xmp"])
def test_a_picture_is_turned_only_once(told):
    exif = Image.Exif()
    exif[0x0112] = 6
    about = {"exif": exif, "xmp": b'<rdf:Description tiff:Orientation="6"/>'}
    stored = io.BytesIO()
    Image.new("RGB", (40, 30)).save(stored, "JPEG", **{told: about[told]})
    image = images.read_pil(stored.getvalue())
    assert image.size == (30, 40)
    assert ImageOps.exif_transpose(image).size == (30, 40)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_broken_exif_turns_nothing():
    tag = b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + b"\xff" * 20
    assert images.read_pil(saved(Image.fromarray(COLOURS), "JPEG", exif=tag)).size == (12, 8)


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "YCbCr", "I;16"])
def test_other_modes_become_rgb(mode):
    grey = np.full((4, 5), 255, np.uint8)
    image = (
        Image.fromarray(grey).convert(mode)
        if mode != "I;16"
        else Image.fromarray(grey.astype(np.uint16) * 257)
    )
    form = "TIFF" if mode in ("CMYK", "YCbCr") else "PNG"
    close(images.read_image(saved(image, form)), np.full((4, 5, 3), 255, np.uint8), 0.01)


def test_cmyk_jpeg_is_not_inverted():
    image = Image.fromarray(COLOURS).convert("CMYK")
    close(images.read_image(saved(image, "JPEG", quality=98, subsampling=0)), COLOURS, 0.06)


def photo(height: int, width: int) -> np.ndarray:
    """Smooth colours, so that a correct resize of any kind gives the same."""
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    waves = [0.5 + 0.4 * np.sin(3 * x + 2 * y), 0.2 + 0.6 * y, 0.9 - 0.7 * x * y]
    return (255 * np.stack(waves, -1)).round().astype(np.uint8)


@pytest.mark.parametrize("reduced", [True, False])
@pytest.mark.parametrize("form", ["JPEG", "MPO", "PNG"])
def test_at_another_size(form, reduced):
    picture = Image.fromarray(photo(411, 619))
    more = {"save_all": True, "append_images": [picture]} if form == "MPO" else {}
    data = saved(picture, form, quality=97, **more)
    image, full = images.read_sized(data, 100, 150, reduced=reduced)
    assert full == (411, 619)
    close(image, photo(100, 150), 0.02)
    assert image.is_contiguous()
    same, full = images.read_sized(data, 411, 619, reduced=reduced)
    assert torch.equal(same, images.read_image(data))


def test_a_reduced_jpeg_is_never_smaller_than_wanted(monkeypatch):
    sizes = []
    resize = images.cv2.resize
    monkeypatch.setattr(
        images.cv2, "resize", lambda p, *a, **k: sizes.append(p.shape[:2]) or resize(p, *a, **k)
    )
    data = saved(Image.fromarray(photo(411, 619)), "JPEG")
    for wanted in ((300, 400), (205, 309), (206, 309), (52, 300), (51, 77)):
        images.read_sized(data, *wanted)
    assert sizes == [(411, 619), (206, 310), (411, 619), (206, 310), (52, 78)]
    sizes.clear()
    images.read_sized(data, 52, 77, reduced=False)
    assert sizes == [(411, 619)]


@pytest.mark.parametrize("form", ["JPEG", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_at_another_size_it_is_upright_too(orientation, form):
    """What is wanted is the size of the upright picture, also of a file that lies on its side."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    upright = photo(120, 400)
    turn = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = Image.fromarray(upright)
    if orientation in turn:
        stored = stored.transpose(turn[orientation])
    image, full = images.read_sized(saved(stored, form, exif=exif), 60, 200)
    assert full == (120, 400)
    close(image, photo(60, 200), 0.03)


def test_sixteen_bits_at_another_size_keep_their_bits():
    grey = np.repeat(np.arange(400, dtype=np.uint16)[None] * 3, 40, 0)
    image, full = images.read_sized(saved(Image.fromarray(grey)), 20, 200)
    assert full == (40, 400)
    assert len(image[0, 0].unique()) == 200, "8 bits would leave five values"
    edge = np.repeat(np.repeat(np.array([[0, 65535]], np.uint16), 9, 1), 4, 0)
    image, _ = images.read_sized(saved(Image.fromarray(edge)), 8, 36)
    assert (float(image.min()), float(image.max())) == (0, 1), "the kernel overshoots at an edge"


def test_sixteen_bit_grey_keeps_its_bits():
    grey = (np.arange(1000, dtype=np.uint16) * 65).reshape(20, 50)
    pixels = images.read_image(saved(Image.fromarray(grey)))
    expected = torch.from_numpy(grey.astype(np.float32) / 65535).expand(3, -1, -1)
    torch.testing.assert_close(pixels, expected)
    eight = np.asarray(images.read_pil(saved(Image.fromarray(grey))))
    assert np.array_equal(eight[..., 0], np.round(grey / 257))


def test_sixteen_bit_pgm():
    data = b"P5 2 1 65535\n" + struct.pack(">HH", 0, 32768)
    assert images.read_image(data)[0, 0].tolist() == pytest.approx([0, 0.5], abs=1e-4)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA", "P"])
def test_transparency_lies_over_white(mode):
    """What is hidden under a transparent pixel must not show."""
    if mode == "P":
        image = Image.new("P", (3, 2), 1)
        image.putpalette([0, 0, 0, 9, 9, 9])
        data = saved(image, "PNG", transparency=1)
    else:
        rgba = Image.new("RGBA", (3, 2), (10, 20, 30, 0))
        data = saved(rgba.convert(mode), "TIFF" if mode == "PA" else "PNG")
    assert images.read_image(data).min() > 0.99
    half = Image.new("RGBA", (1, 1), (0, 0, 0, 128))
    assert images.read_image(saved(half)).mean().item() == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("form", ["GIF", "PNG", "WEBP", "TIFF"])
def test_of_an_animation_the_first_frame(form):
    first, second = Image.fromarray(COLOURS), Image.new("RGB", (12, 8), "white")
    options = {"lossless": True} if form == "WEBP" else {}
    data = saved(first, form, save_all=True, append_images=[second], **options)
    close(images.read_image(data), COLOURS, 0.01)


@pytest.mark.parametrize("size", [(1, 1), (1, 700), (2000, 2)])
def test_extreme_shapes(size):
    assert images.read_image(saved(Image.new("RGB", size))).shape == (3, size[1], size[0])


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("form", ["JPEG", "PNG", "TIFF", "WEBP", "GIF", "BMP"])
def test_damage_names_the_file(form, tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    data = saved(Image.fromarray(noise), form)
    path = tmp_path / f"photo.{form.lower()}"
    for damaged in (b"", data[:10], data[: len(data) // 2], b"text" * 40):
        path.write_bytes(damaged)
        for read in (images.read_image, images.read_pil):
            with pytest.raises(ValueError, match=rf"photo\.{form.lower()}: damaged, or not an im"):
                read(path)


@pytest.mark.parametrize("data", [b"", b"<html>404</html>"])
def test_what_is_no_picture_is_told_without_an_address_in_memory(data):
    with pytest.raises(ValueError, match=r"a\.jpg: damaged, or not an image: ") as caught:
        images.read_image(data, name="a.jpg")
    assert ("an empty file" if not data else "no image format") in str(caught.value)
    assert "object at" not in str(caught.value)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_flipped_bits_are_read_or_named():
    """No other exception than ValueError leaves the decoder, whatever the bytes."""
    rng = np.random.default_rng(1)
    for form in ("JPEG", "PNG", "TIFF", "WEBP", "GIF", "BMP", "TGA", "PPM", "PCX", "SGI", "AVIF"):
        data = np.frombuffer(saved(Image.fromarray(COLOURS), form), np.uint8)
        for _ in range(60):
            broken = data.copy()
            broken[rng.integers(0, len(data), 3)] = rng.integers(0, 255, 3)
            try:
                pixels = images.read_image(broken.tobytes(), name="bits")
            except ValueError as error:
                assert str(error).startswith("bits: ")  # noqa: PT017 either outcome is right
            else:
                assert pixels.isfinite().all()


def test_bytes_are_named_on_request():
    with pytest.raises(ValueError, match="<4 bytes>: damaged"):
        images.read_image(b"none")
    with pytest.raises(ValueError, match="kitchen: damaged"):
        images.read_pil(b"none", name="kitchen")


def test_missing_files_stay_missing(tmp_path):
    for read in (images.read_image, images.read_pil):
        with pytest.raises(FileNotFoundError):
            read(tmp_path / "none.png")


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("side", [9460, 20000])
def test_bombs_name_size_and_bound(side):
    """The header of a PNG that would unpack to gigabytes; Pillow itself warns or raises on it."""
    data = bytearray(saved(Image.new("L", (1, 1))))
    data[16:24] = struct.pack(">II", side, side)
    data[29:33] = struct.pack(">I", zlib.crc32(bytes(data[12:29])))
    with pytest.raises(ValueError, match=r"big\.png") as caught:
        images.read_image(bytes(data), name="big.png")
    assert str(side * side) in str(caught.value)
    if side < 13000:
        assert str(images.MAX_PIXELS) in str(caught.value)


def test_numbers_without_a_range_are_refused():
    with pytest.raises(ValueError, match="float pixels have no range"):
        images.read_image(saved(Image.new("F", (3, 2), 0.5), "TIFF"))
    with pytest.raises(ValueError, match="grey from -5 to -5"):
        images.read_image(saved(Image.new("I", (3, 2), -5), "TIFF"))
    with pytest.raises(ValueError, match="grey from 70000 to 70000"):
        images.read_pil(saved(Image.new("I", (3, 2), 70000), "TIFF"))


def test_no_ghostscript(tmp_path):
    """A file that says it is a JPEG and is PostScript starts no other program."""
    path = tmp_path / "a.jpg"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n%%EOF\n")
    with pytest.raises(ValueError, match="no image format that is read"):
        images.read_image(path)
    assert list(images.list_images(tmp_path)) == ["a.jpg"]
    (tmp_path / "b.eps").touch()
    assert list(images.list_images(tmp_path)) == ["a.jpg"]


def test_listing_is_sorted_and_deep(tmp_path):
    names = ["b.JPG", "a/z.png", "a-b/c.webp", "a/b/c.jpeg", "ä/ü.tif", "a.b/c.png", "c d/#1 %.jpg"]
    ignored = ["notes.txt", ".hidden.png", ".cache/x.png", "model.hdf5", "a/._b.jpg", "Thumbs.db"]
    for name in names + ignored:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert list(images.list_images(tmp_path)) == sorted(names)


def test_listing_follows_links_but_not_in_a_circle(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "a.png").touch()
    root = tmp_path / "root"
    root.mkdir()
    (root / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "back").symlink_to(root)
    (root / "self").symlink_to(root)
    (root / "dangling.png").symlink_to(tmp_path / "gone.png")
    assert list(images.list_images(root)) == ["dangling.png", "linked/a.png"]
    with pytest.raises(FileNotFoundError, match=r"dangling\.png: no such file"):
        images.read_image(root / "dangling.png")


def test_listing_needs_a_folder_and_utf8(tmp_path):
    with pytest.raises(FileNotFoundError, match="none: no such folder"):
        list(images.list_images(tmp_path / "none"))
    with open(os.fsencode(tmp_path) + b"/caf\xe9.png", "wb"):  # noqa: PTH123 a name of bytes
        pass
    with pytest.raises(ValueError, match=r"'caf\\udce9.png' is not UTF-8; rename it"):
        list(images.list_images(tmp_path))
