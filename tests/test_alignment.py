import numpy as np
import pytest
import torch

from distill import alignment

PRED = torch.tensor([[[0.0, 1.0, 1.0, 3.0, 7.0]]])
TARGET = torch.tensor([[[1.0, 2.0, 3.0, 4.0, 10.0]]])
ALL = torch.ones(1, 1, 5, dtype=torch.bool)


def test_least_squares_vector():
    # test vector T6
    scale, shift = alignment.least_squares(PRED, TARGET, ALL)
    assert (scale.item(), shift.item()) == (pytest.approx(1.25), pytest.approx(1.0))
    assert scale.dtype == torch.float64


def test_least_squares_equals_numpy():
    rng = np.random.default_rng(0)
    pred, target = rng.normal(size=(2, 4, 6, 7)).astype(np.float32) + 100
    valid = rng.random((4, 6, 7)) > 0.3
    target[~valid] = np.nan
    scale, shift = alignment.least_squares(*map(torch.from_numpy, (pred, target, valid)))
    for i in range(4):
        a, b = np.polyfit(pred[i][valid[i]].astype(float), target[i][valid[i]].astype(float), 1)
        assert scale[i].item() == pytest.approx(a, rel=1e-6)
        assert shift[i].item() == pytest.approx(b, rel=1e-6)


def test_least_squares_keeps_its_digits_far_from_0():
    pred = torch.linspace(0, 1, 20, dtype=torch.float64).view(1, 4, 5) + 1e5
    scale, shift = alignment.least_squares(pred, 3 * pred - 2, pred > 0)
    assert scale.item() == pytest.approx(3, rel=1e-9)
    assert shift.item() == pytest.approx(-2, rel=1e-3)


def test_least_squares_of_a_constant_or_empty_map():
    pred = torch.full((2, 1, 5), 0.1)
    valid = torch.stack([ALL[0], ~ALL[0]])
    scale, shift = alignment.least_squares(pred, TARGET.expand(2, 1, 5), valid)
    assert scale.tolist() == [0, 0]
    assert shift.tolist() == [4, 0]


def test_ratio_of_medians():
    assert alignment.ratio_of_medians(PRED, TARGET, ALL).item() == 3
    assert alignment.ratio_of_medians(-PRED, TARGET, ALL).item() == 0
    assert alignment.ratio_of_medians(PRED, TARGET, ~ALL).item() == 0


def test_median_mad():
    location, scale = alignment.median_mad(PRED, ALL)
    assert (location.item(), scale.item()) == (1, pytest.approx(1.8))
    _, scale = alignment.median_mad(torch.full_like(PRED, 3.0), ALL)
    assert scale.item() == pytest.approx(1e-6)


def test_normalised_difference_vector():
    # test vector T1, twice over so that there are enough pixels; medians and deviations stay
    pred, target = PRED.repeat(1, 3, 1), TARGET.repeat(1, 3, 1)
    difference, counted = alignment.normalised_difference(pred, target, ALL.repeat(1, 3, 1))
    by_hand = torch.tensor([0.353535, 0.454545, 0.0, 0.656566, 0.151515])
    torch.testing.assert_close(difference[0, 0].abs(), by_hand, rtol=0, atol=1e-6)
    assert counted.all()
