"""The verdict on a hand-made table."""

from pathlib import Path

import pytest

from benchmarks.claim import chain, run_stage, verdict


def row(ours: float, theirs: float) -> dict:
    return {"student": {"abs_rel": ours}, "student_synthetic_only": {"abs_rel": theirs}}


def test_verdict():
    found = verdict([row(0.08, 0.10), row(0.09, 0.10), row(0.11, 0.10)])
    assert (found["seeds"], found["wins"]) == (3, 2)
    assert found["mean_gain"] == pytest.approx((0.2 + 0.1 - 0.1) / 3)
    low, high = found["interval_95"]  # t(2) = 4.302653, standard error 0.152753 / sqrt(3)
    assert low == pytest.approx(0.0666667 - 4.302653 * 0.0881917, abs=1e-5)
    assert high == pytest.approx(0.0666667 + 4.302653 * 0.0881917, abs=1e-5)


def test_a_seed_that_is_there_is_read_and_a_failing_stage_named(tmp_path: Path):
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "summary.json").write_text('{"student": 1}')
    assert chain(tmp_path / "7", 7, []) == {"student": 1}
    with pytest.raises(RuntimeError, match=r"(?s)worlds ended with 2: .*nothing is called 'oops'"):
        run_stage(tmp_path / "8", "worlds", "--out", str(tmp_path / "8"), "--set", "oops=1")
