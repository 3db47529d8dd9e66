import numpy as np
import pytest
import torch
from scipy import optimize

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


def test_the_median_of_ratios_is_not_the_ratio_of_medians():
    pred, target = torch.tensor([[[1.0, 2.0, 4.0]]]), torch.tensor([[[3.0, 2.0, 20.0]]])
    valid = torch.ones_like(pred, dtype=torch.bool)
    assert alignment.median_of_ratios(pred, target, valid).item() == 3  # of 3, 1 and 5
    assert alignment.ratio_of_medians(pred, target, valid).item() == 1.5
    assert alignment.median_of_ratios(pred, target, valid & (pred != 2)).item() == 4
    assert alignment.median_of_ratios(-pred, target, valid).item() == 0
    assert alignment.median_of_ratios(0 * pred, target, valid).item() == 0
    assert alignment.median_of_ratios(pred, target, ~valid).item() == 0


def least_l1(x: np.ndarray, y: np.ndarray, w: np.ndarray, *, shift: bool) -> np.ndarray:
    """Scale, shift and objective by linear programming: two inequalities for each error."""
    design = np.stack([x, np.ones_like(x)], axis=1)[:, : 1 + shift]
    errors = np.eye(len(x))
    solved = optimize.linprog(
        np.concatenate([np.zeros(1 + shift), w]),
        A_ub=np.block([[design, -errors], [-design, -errors]]),
        b_ub=np.concatenate([y, -y]),
        bounds=[(None, None)] * (1 + shift) + [(0, None)] * len(x),
        method="highs",
    )
    return np.array([solved.x[0], solved.x[1] if shift else 0.0, solved.fun])


@pytest.mark.parametrize("shift", [False, True])
@pytest.mark.parametrize("kind", ["plain", "whole numbers", "far from 0", "falling", "outliers"])
def test_weighted_l1_equals_linear_programming(kind: str, shift: bool):
    rng = np.random.default_rng(5)
    x, noise = rng.normal(size=(2, 6, 15))
    w, valid = rng.uniform(0.1, 2, size=(6, 15)), rng.random((6, 15)) > 0.2
    if kind == "far from 0":
        x = 1e-3 * x + 100
    y = (-2 if kind == "falling" else 3) * x + noise + 0.5
    if kind == "whole numbers":  # many pixels on one line, several minima
        x, y, w = np.round(2 * x), np.round(2 * y), np.ones_like(w)
    if kind == "outliers":
        y[0] *= 1e4
    scale, offset, least = least_l1(x[valid], y[valid], w[valid], shift=shift)
    maps = (torch.from_numpy(np.where(valid, a, np.nan))[None] for a in (x, y, w))
    x_map, y_map, w_map = maps
    arguments = x_map, y_map, torch.from_numpy(valid)[None], w_map
    found = alignment.weighted_l1(*arguments) if shift else (
        alignment.weighted_l1_scale(*arguments), torch.zeros(1))  # fmt: skip
    a, b = (value.item() for value in found)
    reached = (w * np.abs(a * x + b - y))[valid].sum()
    assert reached == pytest.approx(least, rel=1e-9)
    if kind != "whole numbers":
        assert (a, b) == pytest.approx((scale, offset), rel=1e-6, abs=1e-9)


def test_weighted_l1_of_few_pixels_is_the_best_line_through_two_of_them():
    rng = np.random.default_rng(7)
    for count in (2, 3, 4, 5) * 10:
        (x, y), w = rng.normal(size=(2, count)), rng.uniform(0.1, 2, count)
        lines = [
            ((y[i] - y[j]) / (x[i] - x[j]), (x[i] * y[j] - x[j] * y[i]) / (x[i] - x[j]))
            for i in range(count)
            for j in range(i)
        ]
        least = min((w * np.abs(a * x + b - y)).sum() for a, b in lines)
        maps = (torch.from_numpy(v)[None, None] for v in (x, y, w))
        pred, target, weight = maps
        a, b = (v.item() for v in alignment.weighted_l1(pred, target, weight > 0, weight))
        assert (w * np.abs(a * x + b - y)).sum() == pytest.approx(least, rel=1e-9, abs=1e-12)


def test_weighted_l1_of_each_sample_alone():
    pred = torch.rand(3, 4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    target, weight = pred.flip(2) + 2 * pred, pred + 1
    valid = pred > 0.2
    for fit in (alignment.weighted_l1, lambda *maps: (alignment.weighted_l1_scale(*maps),)):
        together = fit(pred, target, valid, weight)
        for i in range(3):
            alone = fit(*(values[i : i + 1] for values in (pred, target, valid, weight)))
            assert [value[i] for value in together] == [value[0] for value in alone]


def test_weighted_l1_of_a_constant_or_empty_map():
    pred, target = torch.full((2, 1, 5), 0.1), TARGET.expand(2, 1, 5)
    valid, weight = torch.stack([ALL[0], ~ALL[0]]), torch.ones(2, 1, 5)
    scale, shift = alignment.weighted_l1(pred, target, valid, weight)
    assert (scale.tolist(), shift.tolist()) == ([0, 0], [3, 0])
    assert alignment.weighted_l1_scale(0 * pred, target, valid, weight).tolist() == [0, 0]
    scale, shift = alignment.weighted_l1(PRED, torch.full_like(TARGET, 2.0), ALL, weight[:1])
    assert (scale.item(), shift.item()) == (0, 2)


def test_rounding_is_no_slope():
    pred = 1 + 1e-8 * PRED.double()
    for scale, shift in (
        alignment.least_squares(pred, TARGET, ALL),
        alignment.weighted_l1(pred, TARGET, ALL, torch.ones_like(PRED)),
    ):
        assert scale.item() == 0
        assert 3 <= shift.item() <= 4


def test_a_pixel_without_weight_cannot_matter():
    weight = torch.tensor([[[1.0, 2.0, 1.0, 0.0, 1.0]]])
    spoilt = TARGET.clone()
    spoilt[0, 0, 3] = -1e3
    for fit in (alignment.weighted_l1, lambda *maps: (alignment.weighted_l1_scale(*maps),)):
        assert fit(PRED, spoilt, ALL, weight) == fit(PRED, TARGET, weight > 0, weight)
    on_ones = torch.tensor([[[0.0, 1.0, 1.0, 0.0, 0.0]]])  # what counts is constant
    scale, shift = alignment.weighted_l1(PRED, TARGET, ALL, on_ones)
    assert (scale.item(), shift.item()) == (0, 2)


def test_of_several_least_sums_the_smallest_scale_counts():
    pred, target = torch.ones(1, 1, 2), torch.tensor([[[1.0, 3.0]]])
    assert alignment.weighted_l1_scale(pred, target, ALL[..., :2], pred).item() == 1


def test_weighted_l1_of_an_exact_line_is_that_line():
    scale, shift = alignment.weighted_l1(PRED, 3 * PRED - 1, ALL, torch.ones_like(PRED))
    assert (scale.item(), shift.item()) == (pytest.approx(3), pytest.approx(-1))
