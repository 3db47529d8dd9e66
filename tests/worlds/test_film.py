"""Exposure, haze and noise removal against values worked out by hand."""

import numpy as np
import pytest

from distill.worlds import film
from distill.worlds.denoise import denoised


def test_exposure_puts_the_bright_tenth_at_the_key():
    radiance = np.linspace(0, 50, 3000, dtype=np.float32).reshape(100, 10, 3)
    shown = film.exposed(radiance)
    luminance = shown @ np.array([0.2126, 0.7152, 0.0722])
    np.testing.assert_allclose(np.percentile(luminance, 90), 0.8**2.2, rtol=1e-3)
    np.testing.assert_allclose(film.exposed(radiance, stops=1.0), 2 * shown, rtol=1e-5)
    assert np.isfinite(film.exposed(np.zeros_like(radiance))).all()


def test_display_is_srgb():
    linear = np.array([[[0.0, 0.0031308, 0.2140411], [1.0, 7.0, -1.0]]], dtype=np.float32)
    assert film.displayed(linear).tolist() == [[[0, 10, 127], [255, 255, 0]]]


def test_haze_halves_contrast_at_its_half_length_and_swallows_the_sky():
    radiance = np.ones((1, 2, 3), dtype=np.float32)
    distance = np.array([[np.log(2) / 0.1, np.inf]])
    hazy = film.hazy(radiance, distance, (0.0, 0.0, 0.5), 0.1)
    np.testing.assert_allclose(hazy, [[[0.5, 0.5, 0.75], [0, 0, 0.5]]], atol=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_a_photograph_is_neither_black_nor_white(seed: int):
    radiance = np.random.default_rng(0).uniform(0, 3, (24, 32, 3)).astype(np.float32)
    picture = film.photographed(np.random.default_rng(seed), radiance)
    assert 30 < picture.mean() < 230
    again = film.photographed(np.random.default_rng(seed), radiance)
    np.testing.assert_array_equal(picture, again)


def test_noise_goes_and_texture_and_reflections_stay():
    rng = np.random.default_rng(0)
    x, y = np.meshgrid(np.linspace(-1, 1, 40), np.linspace(-1, 1, 30))
    point = np.stack([x, y, np.ones_like(x)], axis=-1).astype(np.float32) * 3
    albedo = np.repeat(np.where(np.arange(40) % 4 < 2, 0.8, 0.2)[None, :, None], 30, 0)
    albedo = np.repeat(albedo, 3, -1).astype(np.float32)
    truth = albedo.copy()
    noisy = (truth * rng.exponential(1.0, truth.shape)).astype(np.float32)
    hit = np.ones((30, 40), dtype=bool)
    hit[:2] = False
    mirror = np.zeros_like(hit)
    mirror[8:16, 8:16] = True
    albedo[mirror] = 0.0
    noisy[mirror] = 9.0
    clean = denoised(noisy, albedo, point, hit)
    matt = hit & ~mirror
    error, before = (np.abs(image - truth)[matt].mean() for image in (clean, noisy))
    assert error < 0.25 * before
    np.testing.assert_array_equal(clean[~hit], noisy[~hit])
    assert np.ptp(clean[mirror], axis=0).max() < 1e-4  # nothing came in from around


def test_nothing_to_clean_is_returned():
    empty = np.ones((3, 4, 3), dtype=np.float32)
    assert denoised(empty, empty, empty, np.zeros((3, 4), dtype=bool)) is empty
