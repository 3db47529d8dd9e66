"""What `benchmarks.guard_bounds` says of losses."""

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.guard_bounds import FACTOR, reached, spikes
from distill.limits import FIRST, RECENT, Limits


def test_a_loss_is_a_share_of_the_most_that_the_guard_lets_pass():
    losses = np.random.default_rng(0).lognormal(0, 0.3, 3 * RECENT)
    losses[2 * RECENT] = 40.0
    limits, most = Limits(spike=FACTOR), []
    for step, loss in enumerate(losses):
        most.append(limits.loss)
        limits.take(step, {"loss": float(loss)})
    shares = reached(losses)
    np.testing.assert_allclose(shares, (losses / most)[FIRST:], rtol=1e-12)
    assert (shares > 1).nonzero()[0].tolist() == [2 * RECENT - FIRST]


def test_a_run_without_a_row_for_each_update_says_nothing(tmp_path: Path):
    rows = [{"step": 10 * n, "loss": 1.0} for n in range(1, 100)]
    (tmp_path / "metrics.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    with pytest.raises(ValueError, match="has not a row for each of more than 50 updates"):
        list(spikes([tmp_path / "metrics.jsonl"]))
