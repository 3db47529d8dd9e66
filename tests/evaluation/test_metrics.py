"""Each metric against an answer worked out by hand on a 2x2 image."""

import math

import pytest
import torch

from distill.evaluation import metrics

# the third pixel is not valid and holds rubbish; errors are 1/2, 0 and 3
PRED = torch.tensor([[1.5, 2.0], [math.nan, 5.0]])
TARGET = torch.tensor([[1.0, 2.0], [math.nan, 8.0]])
VALID = torch.tensor([[True, True], [False, True]])
LOGS = [math.log(1.5), 0.0, math.log(5 / 8)]
MEAN_LOG = sum(LOGS) / 3


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        (metrics.abs_rel, (1 / 2 + 0 + 3 / 8) / 3),
        (metrics.sq_rel, (1 / 4 + 0 + 9 / 8) / 3),
        (metrics.rmse, math.sqrt((1 / 4 + 0 + 9) / 3)),
        (metrics.rmse_log, math.sqrt(sum(e**2 for e in LOGS) / 3)),
        (metrics.log10, sum(abs(e) for e in LOGS) / 3 / math.log(10)),
        (metrics.silog, 100 * math.sqrt(sum((e - MEAN_LOG) ** 2 for e in LOGS) / 3)),
    ],
)
def test_by_hand(metric, expected):
    assert metric(PRED, TARGET, VALID) == pytest.approx(expected, rel=1e-12)


def test_delta_by_hand():
    # ratios 1.5, 1 and 1.6; 1.25^2 = 1.5625, 1.25^3 = 1.953
    shares = [metrics.delta(PRED, TARGET, VALID, k=k) for k in (1, 2, 3)]
    assert shares == pytest.approx([1 / 3, 2 / 3, 1])


def test_delta_is_strict():
    pred, target = torch.tensor([[1.25, 1.0]]), torch.tensor([[1.0, 1.25]])
    valid = torch.ones(1, 2, dtype=torch.bool)
    assert metrics.delta(pred, target, valid, k=1) == 0
    assert metrics.delta(pred, target, valid, k=2) == 1


def test_silog_ignores_scale_and_never_takes_a_negative_root():
    assert metrics.silog(7 * PRED, TARGET, VALID) == pytest.approx(
        metrics.silog(PRED, TARGET, VALID)
    )
    assert metrics.silog(1.1 * TARGET, TARGET, VALID) == pytest.approx(0, abs=1e-4)


def test_all_metrics_are_the_single_ones_in_table_order():
    together = metrics.all_metrics(PRED, TARGET, VALID)
    assert list(together) == [
        *("abs_rel", "sq_rel", "rmse", "rmse_log", "log10", "silog"),
        *("delta1", "delta2", "delta3"),
    ]
    assert together["rmse"] == metrics.rmse(PRED, TARGET, VALID)
    assert together["delta2"] == metrics.delta(PRED, TARGET, VALID, k=2)


EVERY = [metrics.abs_rel, metrics.sq_rel, metrics.rmse, metrics.rmse_log, metrics.log10]
EVERY += [metrics.silog, metrics.delta, metrics.all_metrics]


@pytest.mark.parametrize("metric", EVERY)
def test_no_valid_pixel_is_an_error_not_a_number(metric):
    with pytest.raises(ValueError, match="no valid pixel"):
        metric(PRED, TARGET, torch.zeros_like(VALID))


@pytest.mark.parametrize("metric", [m for m in EVERY if m is not metrics.rmse])
def test_truth_must_be_positive(metric):
    with pytest.raises(ValueError, match="target is 0 but must be > 0"):
        metric(PRED, TARGET.where(TARGET > 1, 0), VALID)


@pytest.mark.parametrize("metric", EVERY[3:])
def test_prediction_must_be_positive_where_its_log_or_ratio_is_taken(metric):
    with pytest.raises(ValueError, match=r"prediction is -1 but must be > 0; clamp"):
        metric(PRED.where(PRED > 2, -1), TARGET, VALID)
