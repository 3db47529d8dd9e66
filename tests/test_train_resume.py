"""Killed and resumed: the same run to the last bit, of the same job, near and far."""

import os
import random
import signal
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from range_server import serving
from runs import SLOW, finish, quarantined, rows, sha256, state, wait_for_rows, weights
from streaming import student_batches, write_labels, write_shards
from training import job, start

from distill import checkpoint


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("uninterrupted")
    finish(start(out, steps=40, **SLOW))
    return out


def test_killed_three_times_and_resumed_is_the_same_run(tmp_path: Path, uninterrupted: Path):
    out, moments = tmp_path / "run", random.Random(0)
    for workers in (0, 2, 1):
        process = start(out, resume=True, steps=40, workers=workers, **SLOW)
        wait_for_rows(out, more=2)
        time.sleep(moments.uniform(0, 0.8))
        process.kill()
        process.join()
    assert checkpoint.latest(out / "checkpoints") is not None, "killed too early"
    assert not (out / "summary.json").exists(), "killed too late"
    finish(start(out, resume=True, steps=40, **SLOW))
    assert state(out) == state(uninterrupted)
    assert rows(out) == rows(uninterrupted)


@pytest.mark.slow
def test_killed_at_twenty_random_points_every_bit_of_state_is_the_same(tmp_path: Path):
    """Each life has another number of workers; some end while they start, some while they save."""
    fields: dict[str, Any] = {"steps": 240, "checkpoint_every": 2, "data": {"slow": 0.005}}
    whole, out, moments = tmp_path / "whole", tmp_path / "run", random.Random(1)
    finish(start(whole, **fields))
    at = []
    for kill in range(20):
        process = start(out, resume=True, workers=(0, 1, 2)[kill % 3], **fields)
        if kill % 5 == 4:
            time.sleep(moments.uniform(0.1, 1.5))
        else:
            wait_for_rows(out, more=moments.randrange(3, 10))
            time.sleep(moments.uniform(0, 0.1))
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL, "the run has ended"
        last = checkpoint.latest(out / "checkpoints")
        at.append(checkpoint.load(last).step if last else 0)
    assert len(set(at)) >= 12, f"killed at {at}"
    finish(start(out, resume=True, workers=1, **fields))
    assert state(out) == state(whole)
    assert rows(out) == rows(whole)


@pytest.mark.parametrize("validate_every", [6, 1])
def test_sigterm_leaves_a_checkpoint_and_goes_on_exactly(
    tmp_path: Path, uninterrupted: Path, validate_every: int
):
    out = tmp_path / "run"
    process = start(out, steps=40, workers=2, validate_every=validate_every, **SLOW)
    wait_for_rows(out, more=3)
    os.kill(process.pid or 0, signal.SIGTERM)
    process.join(300)
    said = (tmp_path / "run-0.log").read_text()
    at = checkpoint.latest(out / "checkpoints")
    assert at is not None
    step = checkpoint.load(at).step
    assert f"Interrupted: terminated; {out} goes on from step {step} with --resume" in said
    assert rows(out)[-1]["step"] == step
    finish(start(out, resume=True, steps=40, **SLOW))
    assert weights(out) == weights(uninterrupted)


def test_a_finished_run_is_left_alone(tmp_path: Path):
    job(steps=2).run(tmp_path)
    before = sha256(tmp_path / "summary.json")
    with pytest.raises(ValueError, match=r"holds a run: add --resume"):
        job(steps=2).run(tmp_path)
    job(steps=2).run(tmp_path, resume=True)
    assert sha256(tmp_path / "summary.json") == before


def test_another_job_cannot_go_on(tmp_path: Path):
    job(steps=5).run(tmp_path)
    (tmp_path / "summary.json").unlink()
    with pytest.raises(ValueError, match=r"seed: 0 -> 1") as caught:
        job(steps=5, seed=1, rate=0.02, workers=1, log_every=3).run(tmp_path, resume=True)
    assert "lr.rates.head: 0.01 -> 0.02" in str(caught.value)
    assert "workers" not in str(caught.value)
    with pytest.raises(ValueError, match=r"objective\.width"):
        job(steps=5, student={"width": 12}).run(tmp_path, resume=True)
    with pytest.raises(ValueError, match=r'samples\.0: "24 of planes" -> "23 of planes"'):
        job(steps=5, data={"length": 23}).run(tmp_path, resume=True)


def test_a_resumed_run_sets_the_same_samples_aside(tmp_path: Path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    fields: dict[str, Any] = {"max_quarantined": 0.1, "steps": 40}
    data = {"unreadable": (5, 13)}
    finish(start(whole, **fields, data=data))
    process = start(killed, **fields, data={**data, "slow": 0.01})
    wait_for_rows(killed, more=15)
    os.kill(process.pid or 0, signal.SIGKILL)
    process.join()
    finish(start(killed, resume=True, **fields, data={**data, "slow": 0.01}))
    assert weights(killed) == weights(whole)
    assert rows(killed) == rows(whole)
    assert sorted(quarantined(killed)) == sorted(quarantined(whole))


def test_a_student_on_shards_over_http_is_killed_and_resumed(tmp_path: Path):
    """Images by byte ranges, labels from a store; the network fails now and then."""
    (tmp_path / "shards").mkdir()
    labels = write_labels(tmp_path / "labels", write_shards(tmp_path / "shards"))
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    with serving(tmp_path / "shards") as (address, trouble):
        shards = f"{address}/x-{{000000..000001}}.tar"
        draw = partial(student_batches, shards, labels)
        fields: dict[str, Any] = {"batches": draw, "steps": 30, "workers": 1}
        finish(start(whole, **fields))
        process = start(killed, **fields)
        wait_for_rows(killed, more=8)
        os.kill(process.pid or 0, signal.SIGKILL)
        process.join()
        trouble.requests = 2
        finish(start(killed, resume=True, **fields))
        assert trouble.bytes_sent > 0
    assert weights(killed) == weights(whole)
    assert rows(killed) == rows(whole)
    assert not quarantined(killed)
