import numpy as np
import pytest
import torch

from distill import masked

VALUES = torch.tensor([[[1.0, 2.0, 3.0, 4.0, 10.0]]])


def mask(*rows):
    return torch.tensor(rows, dtype=torch.bool)[:, None]


def test_median_ignores_invalid_pixels():
    # test vector T2: zeros entering the median would give 1 and 3.6667
    valid = mask([1, 0, 1, 0, 1])
    assert masked.median(VALUES, valid).item() == 3
    assert masked.mad(VALUES, valid).item() == 3
    assert masked.mean(VALUES, valid).item() == pytest.approx(14 / 3)


def test_median_of_an_even_number_is_the_lower_middle():
    assert masked.median(VALUES, mask([1, 1, 1, 1, 0])).item() == 2


def test_quantile_is_linear_between_neighbours():
    # test vector T3
    values = (torch.arange(1, 21) / 10).view(1, 4, 5)
    assert masked.quantile(values, values > 0, 0.9).item() == pytest.approx(1.81)
    assert masked.quantile(values, values < 0, 0.9).item() == 0


def test_quantile_equals_numpy_on_random_masks():
    rng = np.random.default_rng(0)
    values, valid = rng.normal(size=(20, 7, 9)).astype(np.float32), rng.random((20, 7, 9)) > 0.4
    for fraction in (0.0, 0.3, 0.5, 0.9, 1.0):
        ours = masked.quantile(torch.from_numpy(values), torch.from_numpy(valid), fraction)
        pairs = zip(values.astype(float), valid, strict=True)
        np.testing.assert_allclose(ours, [np.quantile(v[m], fraction) for v, m in pairs])


def test_smallest_keeps_the_share_rounded_down():
    # test vector T3: 18 of 20, mean .95; of a constant map all
    values = (torch.arange(1, 21) / 10).view(1, 4, 5)
    kept = masked.smallest(values, values > 0, 0.9)
    assert masked.count(kept).item() == 18
    assert masked.mean(values, kept).item() == pytest.approx(0.95)
    constant = torch.full((1, 2, 5), 0.3)
    assert masked.smallest(constant, constant > 0, 0.9).all()


@pytest.mark.parametrize("fraction", [0.0, 0.3, 0.7, 0.9, 1.0])
def test_smallest_equals_numpy_on_random_masks(fraction):
    rng = np.random.default_rng(0)
    values, valid = rng.normal(size=(20, 7, 10)).astype(np.float32), rng.random((20, 7, 10)) > 0.4
    valid[0] = True
    valid[1] = False
    kept = masked.smallest(torch.from_numpy(values), torch.from_numpy(valid), fraction).numpy()
    for v, m, k in zip(values, valid, kept, strict=True):
        count = max(int(round(fraction * 10) * m.sum() // 10), 1)
        assert sorted(v[k]) == sorted(v[m])[:count]


def test_smallest_squares_of_one_pixel_are_pixels_and_larger_ones_go_whole():
    rng = np.random.default_rng(0)
    values, valid = rng.normal(size=(3, 7, 10)), rng.random((3, 7, 10)) > 0.4
    valid[2, :3, :3] = False
    maps = torch.from_numpy(values), torch.from_numpy(valid)
    pixels = masked.smallest_squares(*maps, 0.7, side=1)
    assert torch.equal(pixels, masked.smallest(*maps, 0.7))
    kept = masked.smallest_squares(*maps, 0.7, side=3).numpy()
    for v, m, k in zip(values, valid, kept, strict=True):
        parts = [(slice(y, y + 3), slice(x, x + 3)) for y in (0, 3, 6) for x in (0, 3, 6, 9)]
        there = [part for part in parts if m[part].any()]
        there.sort(key=lambda part: v[part][m[part]].mean())
        del there[len(there) * 7 // 10 :]
        wanted = np.zeros_like(m)
        for part in there:
            wanted[part] = m[part]
        assert (k == wanted).all()
    with pytest.raises(ValueError, match="side is 0"):
        masked.smallest_squares(*maps, 0.7, side=0)


@pytest.mark.parametrize("fraction", [-0.1, 1.1])
@pytest.mark.parametrize("statistic", [masked.smallest, masked.quantile])
def test_a_fraction_outside_0_to_1_is_refused(statistic, fraction):
    with pytest.raises(ValueError, match=r"fraction is .* must lie in \[0, 1\]"):
        statistic(VALUES, VALUES > 0, fraction)


@pytest.mark.parametrize("statistic", [masked.mean, masked.median, masked.mad])
def test_nothing_valid_is_0_with_a_live_graph(statistic):
    values = torch.full((2, 3, 4), torch.nan)
    values[1] = torch.arange(12.0).view(3, 4)
    values.requires_grad_()
    result = statistic(values, values.detach().isfinite())
    assert result[0] == 0
    assert result[1] > 0
    (gradient,) = torch.autograd.grad(result.sum(), values)
    assert (gradient[0] == 0).all()
    assert gradient[1].abs().sum() > 0


def test_half_precision_is_computed_in_float32():
    values = torch.full((1, 64, 64), 1.0, dtype=torch.bfloat16)
    assert masked.mean(values, values > 0).item() == 1
    assert masked.mean(values, values > 0).dtype == torch.float32
    assert masked.fill(values.double(), values > 0).dtype == torch.float64


def test_enough_needs_ten_pixels_that_differ():
    target = torch.arange(20.0).expand(4, 1, 20).clone()
    valid = torch.ones_like(target, dtype=torch.bool)
    valid[1, 0, 9:] = False
    valid[2, 0, 10:] = False
    target[3] = 7.0
    target[:, 0, 10:][~valid[:, 0, 10:]] = torch.nan
    assert masked.enough(target, valid).tolist() == [True, False, True, False]


def test_a_nan_among_valid_pixels_is_not_hidden():
    target = torch.arange(20.0).view(1, 1, 20)
    target[0, 0, 3] = torch.nan
    assert masked.enough(target, torch.ones_like(target) > 0).all()


def test_count_and_fill():
    valid = mask([1, 0, 1, 0, 1])
    assert masked.count(valid).tolist() == [3]
    assert masked.fill(VALUES, valid, -1.0).tolist() == [[[1, -1, 3, -1, 10]]]


def test_selecting_and_sorting_find_the_same(monkeypatch):
    """A CPU selects, a GPU sorts: values, what is kept, and where a median's gradient goes."""
    generator = torch.Generator().manual_seed(0)
    values = torch.rand(5, 31, 37, generator=generator).requires_grad_()
    valid = torch.rand(5, 31, 37, generator=generator) > 0.3
    valid[1], valid[2] = True, False

    def found():
        middle = masked.median(values, valid)
        (gradient,) = torch.autograd.grad(middle.sum(), values)
        kept, rank = (f(values, valid, 0.9) for f in (masked.smallest, masked.quantile))
        return middle.detach(), gradient, kept, rank

    selected = found()
    monkeypatch.setattr(masked, "_selects", lambda _: False)
    for ours, sorted_ in zip(selected, found(), strict=True):
        assert torch.equal(ours, sorted_)
