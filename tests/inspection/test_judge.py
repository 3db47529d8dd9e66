"""Limits by hand and by count; odds that know a fault when its evidence comes."""

import statistics

import pytest
import torch

from distill.inspection.judge import own_limit, trusted_limit


def draw(count, seed):
    return torch.rand(count, generator=torch.Generator().manual_seed(seed)).double()


def test_the_trusted_limit_leaves_as_few_above_as_the_binomial_says():
    """P(X <= r) <= 0.1 for X ~ B(n, share): 0.98^114 = 0.09995, so that r is 0 from 114 on."""
    values = torch.arange(1.0, 115.0).double().flip(0)
    assert trusted_limit(values, 0.02) == 114
    many = torch.arange(1.0, 401.0).double()
    assert trusted_limit(many, 0.02) == 396  # P(X <= 4) = 0.097, P(X <= 5) = 0.188
    assert trusted_limit(many, 0.5) == 214


def test_the_trusted_limit_keeps_its_promise_nine_times_of_ten():
    kept = [
        float((draw(5000, 2 * n + 1) > trusted_limit(draw(200, 2 * n), 0.02)).double().mean())
        for n in range(300)
    ]
    within = sum(share <= 0.02 for share in kept) / len(kept)
    assert within > 0.86  # 0.91 is expected, 0.017 its deviation
    assert within < 0.97


@pytest.mark.parametrize(("count", "alarms"), [(10, 0.02), (113, 0.02), (100, 0.0), (100, 1.0)])
def test_a_limit_wants_enough_labels_and_a_share(count, alarms):
    with pytest.raises(ValueError, match=f"{count} trusted labels .* share of {alarms}"):
        trusted_limit(draw(count, 0), alarms)


def test_the_own_limit_of_a_normal_is_its_quantile_faults_or_not():
    normal = statistics.NormalDist()
    good = torch.tensor([normal.inv_cdf((n + 0.5) / 5000) for n in range(5000)]).double()
    assert own_limit(good, 0.02) == pytest.approx(normal.inv_cdf(0.98), abs=0.01)
    with_faults = torch.cat([good, torch.full((250,), 1e3).double()])
    assert own_limit(with_faults, 0.02) == pytest.approx(normal.inv_cdf(0.98), rel=0.3)
