"""The verdict on a hand-made table."""

import pytest

from benchmarks.claim import verdict


def row(ours: float, theirs: float) -> dict:
    return {"student": {"abs_rel": ours}, "student_synthetic_only": {"abs_rel": theirs}}


def test_verdict():
    found = verdict([row(0.08, 0.10), row(0.09, 0.10), row(0.11, 0.10)])
    assert (found["seeds"], found["wins"]) == (3, 2)
    assert found["mean_gain"] == pytest.approx((0.2 + 0.1 - 0.1) / 3)
    low, high = found["interval_95"]  # t(2) = 4.302653, standard error 0.152753 / sqrt(3)
    assert low == pytest.approx(0.0666667 - 4.302653 * 0.0881917, abs=1e-5)
    assert high == pytest.approx(0.0666667 + 4.302653 * 0.0881917, abs=1e-5)
