"""Each contradiction, on closed-form maps: found where it was made, absent where it was not."""

import numpy as np
import pytest
import torch

from distill.labels.codec import JpegXl, decode
from distill.labels.suspicion import contradictions, equalised, quantised
from distill.types import Space
from tests.scenes import pinhole, room


def disparity(h=64, w=84):
    return (1 / room(h, w, pinhole(h, w)).depth).float()


def ranks(values, space=Space.AFFINE_DISPARITY):
    return equalised(values, torch.ones_like(values, dtype=torch.bool), space)


def scores(label, witness=None):
    found = contradictions(ranks(label)[None], ranks(disparity() if witness is None else witness))
    return {name: float(value) for name, value in found.items()}


def test_ranks_ignore_scale_shift_and_bend_and_turn_depth_around():
    values = disparity()
    assert torch.equal(ranks(values), ranks(3 * values.exp() + 7))
    assert torch.allclose(ranks(values), ranks(1 / values, Space.METRIC_DEPTH), atol=2e-3)
    assert float(ranks(values).min()) == pytest.approx(-0.5, abs=0.01)
    assert torch.equal(ranks(torch.full((4, 5), 2.0)), torch.zeros(4, 5))


def test_ranks_by_hand_and_without_what_is_not_valid():
    values = torch.tensor([[1.0, 3.0, 3.0, torch.nan, 9.0]])
    expected = torch.tensor([[-0.5, 0.0, 0.0, 0.0, 0.5]])
    assert torch.allclose(equalised(values, values.isfinite(), Space.ORDINAL), expected)


def test_a_label_that_agrees_is_not_suspicious():
    found = scores(disparity())
    assert found["inverted"] == pytest.approx(-1)
    assert found["unlike"] == pytest.approx(-1)
    assert found["mirrored"] < -1
    assert found["shifted"] < 0
    assert found["near sky"] < -0.3


def test_mirrored_is_told():
    found = scores(disparity().flip(-1))
    assert found["mirrored"] > 1 > 0 > scores(disparity())["mirrored"]


@pytest.mark.parametrize(("dy", "dx"), [(0, 4), (0, -4), (4, 0), (-4, 0)])
def test_shift_of_four_pixels_is_told(dy, dx):
    assert scores(disparity().roll((dy, dx), (0, 1)))["shifted"] > 0.1


def test_shift_of_one_pixel_is_not_called_a_shift():
    assert scores(disparity().roll(1, 1))["shifted"] < 0


def test_inverted_is_told():
    found = scores(-disparity())
    assert found["inverted"] == pytest.approx(1)
    assert found["unlike"] == pytest.approx(1)


def test_near_sky_is_told():
    label, witness = disparity(), disparity()
    witness[:16], label[:16] = 0.0, 9.0
    assert scores(label, witness)["near sky"] > 0.2
    assert scores(witness, witness)["near sky"] < -0.3


@pytest.mark.parametrize("codec", [None, JpegXl(levels=2048)])
def test_eight_bits_are_told_through_the_codec_too(codec):
    smooth = torch.linspace(0, 1, 5376).view(64, 84) ** 1.3
    coarse = (smooth * 255).round() / 255
    whole = torch.ones_like(smooth, dtype=torch.bool)
    maps = (smooth, coarse)
    if codec is not None:
        maps = tuple(torch.from_numpy(decode(codec.encode(m.numpy()))[0]) for m in maps)
    clean, faulty = (quantised(m, whole) for m in maps)
    assert clean < 0.2
    assert faulty > 0.7


def test_a_sky_of_zeros_is_not_called_quantised():
    rng = np.random.default_rng(0)
    values = torch.from_numpy(rng.random((64, 84), dtype=np.float32))
    values[:50] = 0
    assert quantised(values, torch.ones_like(values, dtype=torch.bool)) < 0.2


def test_constant_maps_say_nothing():
    flat = torch.zeros(64, 84)
    found = scores(flat)
    assert set(found) == {
        *("inverted", "unlike", "mirrored", "shifted", "near sky", "near in the sky"),
    }
    assert all(abs(value) < 1e-6 for value in found.values())
    assert quantised(flat, torch.ones(64, 84, dtype=torch.bool)) == 0
