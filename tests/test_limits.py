"""Rules of a run's numbers: which loss is a spike, which output drifts, what a resume remembers."""

import json
import logging
from typing import Any

import numpy as np
import pytest

from distill.job import GuardStop
from distill.limits import DRIFTED, FIRST, FLATTEST, LARGEST, LEAST, RECENT, Limits, bound
from distill.types import Space

STEADY = np.full(RECENT, 2.0)


def heavy(count: int, *, seed: int = 0) -> np.ndarray:
    """Losses with a tail: a twentieth of them lie a factor of 2.3 above their median."""
    return np.exp(np.random.default_rng(seed).normal(0.0, 0.5, count))


def taken(limits: Limits, losses: Any, **numbers: float) -> None:
    for step, loss in enumerate(losses):
        limits.take(step, {"loss": float(loss), **numbers})


def test_a_loss_may_be_so_many_times_the_median():
    assert bound(STEADY, 5.0) == pytest.approx(10.0)
    assert bound(np.append(STEADY, [30.0, 0.0]), 5.0) == pytest.approx(10.0)
    assert bound(STEADY * 1e-30, 5.0) == pytest.approx(10e-30)
    assert bound(STEADY * 1e30, 5.0) == pytest.approx(10e30)
    assert bound(STEADY * 1e38, 5.0) == np.finfo(np.float32).max


def test_losses_of_a_heavy_tail_have_a_bound_further_out():
    losses = heavy(RECENT)
    middle, high = np.quantile(losses, (0.5, 0.95))
    assert bound(losses, 5.0) == pytest.approx(middle * (high / middle) ** 5, rel=0.02)
    assert bound(losses, 5.0) > 5 * middle


def test_losses_that_are_mostly_zero_set_no_bound():
    assert bound(np.where(np.arange(RECENT) % 3 == 0, 2.0, 0.0), 5.0) == np.inf


def test_no_alarm_in_losses_of_a_heavy_tail_nor_while_they_fall():
    windows = np.lib.stride_tricks.sliding_window_view(heavy(50_000), RECENT)
    assert (heavy(50_000)[RECENT:] <= bound(windows[:-1], 5.0)).all()
    falling = 20 * np.exp(-np.arange(400) / 60) + 0.5
    limits = Limits(spike=5.0)
    for step, loss in enumerate(falling):
        assert loss < limits.loss
        limits.take(step, {"loss": float(loss)})


def test_the_first_updates_and_runs_without_the_guard_have_no_bound():
    limits = Limits(spike=5.0)
    taken(limits, STEADY[: FIRST - 1])
    assert limits.loss == np.inf
    taken(limits, [2.0])
    assert limits.loss == 10.0
    free = Limits(spike=None)
    taken(free, STEADY)
    assert free.loss == np.inf


def test_the_bound_is_a_float32_number_so_that_the_device_judges_as_the_host():
    limits = Limits(spike=5.0)
    taken(limits, heavy(FIRST))
    assert limits.loss == float(np.float32(limits.loss))


@pytest.mark.parametrize(
    ("numbers", "said"),
    [
        ({"mean": 2 * LARGEST, "spread": LARGEST}, "too large"),
        ({"mean": 5 * LEAST, "spread": 0.5 * LEAST}, "too small"),
        ({"mean": 2 * FLATTEST, "spread": 1.0}, "too flat"),
    ],
)
def test_an_output_that_drifts_is_warned_of_and_stops(
    numbers: dict[str, float], said: str, caplog: pytest.LogCaptureFixture
):
    limits = Limits(space=Space.AFFINE_DISPARITY)
    near = {"mean": numbers["mean"] / 4, "spread": numbers["spread"]}
    if said == "too small":
        near = {"mean": 1.0, "spread": 4 * numbers["spread"]}
    with caplog.at_level(logging.WARNING):
        columns = [limits.take(step, near) for step in range(2 * DRIFTED)]
    assert columns[-1] == {"drift": 2.0 * DRIFTED}
    assert len(caplog.records) == 1, "one is enough"
    assert f"update {DRIFTED - 1}: the output comes to be {said}" in caplog.text
    limits.take(0, {"mean": 1.0, "spread": 1.0})  # one that is sound
    for step in range(DRIFTED - 1):
        limits.take(step, numbers)
    with pytest.raises(GuardStop, match=f"the output is {said} in {DRIFTED} updates up to 99"):
        limits.take(99, numbers)


@pytest.mark.parametrize("space", [*Space, None])
def test_only_an_output_of_unknown_scale_drifts(space: Space | None):
    metric = space in {Space.METRIC_DEPTH, Space.METRIC_INVERSE_DEPTH, None}
    far = {"mean": 10 * LARGEST, "spread": 1.0}
    column = Limits(space=space).take(0, far)
    assert column == ({} if metric else {"drift": 1.0})
    assert Limits(space=space, drift=False).take(0, far) == {}


def test_the_memory_survives_as_json():
    whole, resumed = (Limits(spike=5.0, space=Space.AFFINE_DEPTH) for _ in range(2))
    output = {"zeros": 0.6, "mean": 2 * LARGEST, "spread": LARGEST}
    taken(whole, heavy(RECENT + 3))
    taken(whole, [1.0], **output)
    resumed.restore(json.loads(json.dumps(whole.state())))
    assert resumed.state() == whole.state()
    assert resumed.loss == whole.loss != np.inf
    for limits in (whole, resumed):
        taken(limits, heavy(8), **output)
        with pytest.raises(GuardStop, match="60% of the output is exactly 0"):
            limits.take(9, {"loss": 1.0, **output})


def test_an_older_checkpoint_remembers_nothing():
    limits = Limits(spike=5.0)
    limits.restore({})
    assert limits.state() == Limits().state()
