"""The codec against its declared bound, libjxl's exactness and hand-made maps."""

import imagecodecs
import numpy as np
import pytest

from distill.labels import codec
from distill.labels.codec import Float32, JpegXl, decode


def smooth(height=52, width=70):
    y, x = np.mgrid[0:height, 0:width] / height
    return (3 + np.sin(3 * x + 2 * y * y) + 0.7 * (x > 0.6) * np.cos(4 * y)).astype(np.float32)


@pytest.mark.parametrize("levels", [2, 2048, 65536])
@pytest.mark.parametrize("effort", [1, 3])
@pytest.mark.parametrize(("scale", "shift"), [(1, 0), (1e-6, 0), (160, 0), (1e20, -3), (1, 1000)])
def test_error_within_the_declared_bound(levels, effort, scale, shift):
    values = smooth() * np.float32(scale) + np.float32(shift)
    choice = JpegXl(levels=levels, effort=effort)
    decoded, valid = decode(choice.encode(values))
    span = float(values.max()) - float(values.min())
    rounding = float(np.spacing(np.abs(values).max())) / 2
    error = np.abs(decoded.astype(np.float64) - values).max()
    assert error <= choice.error_bound * span * (1 + 1e-9) + rounding
    assert decoded.dtype == np.float32
    assert valid.all()
    assert decoded.min() == values.min()


def test_bounds():
    assert 2.4e-4 < JpegXl().error_bound <= 2.5e-4
    assert JpegXl(levels=65536).error_bound == pytest.approx(0.5 / 65535)
    assert Float32().error_bound == 0


@pytest.mark.parametrize("masked", [False, True])
def test_float32_keeps_every_bit(masked):
    values = np.random.default_rng(0).normal(size=(33, 20)).astype(np.float32)
    values *= np.float32(10) ** np.random.default_rng(1).integers(-37, 37, values.shape)
    values[0, :4] = 0, -0.0, np.finfo(np.float32).max, np.finfo(np.float32).smallest_subnormal
    valid = np.random.default_rng(2).random(values.shape) < 0.8 if masked else None
    garbage = values if valid is None else np.where(valid, values, np.float32(np.nan))
    decoded, found = decode(Float32().encode(garbage, valid))
    assert (found == (True if valid is None else valid)).all()
    assert (decoded[found] == values[found]).all()
    assert np.isnan(decoded[~found]).all()


def test_zero_stays_exactly_zero():
    values = smooth() - 2.5
    values[values < 0] = 0
    decoded, _ = decode(JpegXl().encode(values))
    assert (decoded[values == 0] == 0).all()


@pytest.mark.parametrize("value", [0.0, -3.25, 1e30])
def test_constant_map_is_exact(value):
    values = np.full((5, 9), value, dtype=np.float32)
    decoded, _ = decode(JpegXl().encode(values))
    assert (decoded == values).all()


def test_one_step_by_hand():
    values = np.array([[0.0, 1.0, 2.0, 4.0]], dtype=np.float32)
    decoded, _ = decode(JpegXl(levels=3).encode(values))
    assert decoded.tolist() == [[0.0, 0.0, 2.0, 4.0]]  # codes 0, rint(0.5) = 0, 1, 2


@pytest.mark.parametrize("levels", [2, 2048, 65536])
def test_invalid_pixels_are_kept_apart(levels):
    values, rng = smooth(), np.random.default_rng(0)
    valid = rng.random(values.shape) < 0.7
    garbage = values.copy()
    garbage[~valid] = rng.choice([np.nan, np.inf, -1e30, 7], (~valid).sum())
    choice = JpegXl(levels=levels)
    data = choice.encode(garbage, valid)
    decoded, mask = decode(data)
    assert (mask == valid).all()
    assert np.isnan(decoded[~valid]).all()
    assert np.abs(decoded[valid] - values[valid]).max() <= 4 * choice.error_bound + 1e-6
    assert data == choice.encode(np.where(valid, values, np.float32(0)), valid)


def test_all_valid_costs_no_plane():
    values = smooth()
    assert JpegXl().encode(values, np.ones(values.shape, bool)) == JpegXl().encode(values)


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (300, 1), (2, 3)])
def test_thin_maps(shape):
    values = np.random.default_rng(0).random(shape, dtype=np.float32)
    decoded, _ = decode(JpegXl().encode(values))
    assert decoded.shape == shape
    assert np.abs(decoded - values).max() <= JpegXl().error_bound + 1e-7


@pytest.mark.parametrize("effort", [1, 2, 3, 7])
def test_the_library_is_bit_exact_on_noise(effort):
    codes = np.random.default_rng(effort).integers(0, 65536, (64, 96), dtype=np.uint16)
    data = imagecodecs.jpegxl_encode(codes, lossless=True, effort=effort, numthreads=1)
    assert (imagecodecs.jpegxl_decode(data) == codes).all()


def test_any_decoder_reads_the_picture():
    """The range box behind the picture does not disturb a plain JPEG XL decoder."""
    values = smooth()
    picture = imagecodecs.jpegxl_decode(JpegXl().encode(values))
    assert picture.dtype == np.uint16
    assert (picture.min(), picture.max()) == (0, 2047)
    assert picture.flat[values.argmax()] == 2047


def test_bytes_are_reproducible():
    assert JpegXl().encode(smooth()) == JpegXl().encode(smooth())


@pytest.mark.parametrize("choice", [JpegXl(), Float32()])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_not_finite_is_refused(choice, value):
    values = smooth()
    values[3, 4] = value
    with pytest.raises(ValueError, match="1 of 3640 values are not finite"):
        choice.encode(values)


def test_nothing_valid_is_refused():
    with pytest.raises(ValueError, match="without a valid pixel"):
        JpegXl().encode(smooth(), np.zeros((52, 70), bool))


def test_foreign_bytes_are_refused():
    picture = imagecodecs.jpegxl_encode(np.zeros((4, 4), np.uint16), lossless=True)
    for data in (bytes(picture), b""):
        with pytest.raises(ValueError, match="`dmap` box is missing"):
            decode(data)


@pytest.mark.parametrize("field", [{"levels": 1}, {"levels": 65537}, {"effort": 0}])
def test_fields_are_checked(field):
    with pytest.raises(ValueError, match=next(iter(field))):
        JpegXl(**field)
    with pytest.raises(ValueError, match="Float32: effort=10"):
        Float32(effort=10)


def test_a_wrong_encoder_is_caught(monkeypatch):
    real = imagecodecs.jpegxl_encode
    monkeypatch.setattr(
        codec.imagecodecs, "jpegxl_encode", lambda image, **options: real(image ^ 64, **options)
    )
    with pytest.raises(RuntimeError, match="off by"):
        JpegXl().encode(smooth())
