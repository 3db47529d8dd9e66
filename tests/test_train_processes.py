"""Several processes train as one, and stop as one."""

import os
import shutil
import signal
import socket
import subprocess
import sys
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
import torch
from runs import SLOW, finish, quarantined, rows, wait_for_rows, weights
from training import job, start

from distill import checkpoint

ROOT = Path(__file__).parent.parent


def test_two_processes_train_as_one(tmp_path: Path):
    one, two = tmp_path / "one", tmp_path / "two"
    fields: dict[str, Any] = {"student": {"dropout": 0.0}, "batch_size": 8, "validate_every": 4}
    alone = start(one, **fields)
    finish(alone, *_pair(two, accumulate=2, **fields))
    states = [checkpoint.load(checkpoint.latest(out / "checkpoints") or out) for out in (one, two)]
    assert [len(state.random) for state in states] == [1, 2]
    for name, value in states[0].model.items():
        torch.testing.assert_close(states[1].model[name], value, rtol=0, atol=2e-5)
    for ours, theirs in zip(rows(two), rows(one), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-3)


def test_two_processes_stop_together(tmp_path: Path):
    # the NaN is in one process's part of the batch; SIGTERM comes to one of them
    for process in _pair(tmp_path / "broken", data={"broken": 13}):
        process.join(300)
        assert process.exitcode == 1
    assert "GuardStop: update " in (tmp_path / "broken-0.log").read_text()
    assert "GuardStop: update " in (tmp_path / "broken-1.log").read_text()
    left = {path.name for path in (tmp_path / "broken" / "stopped").glob("step-*/*")}
    assert left == {
        f"0000{rank}-00.{kind}" for rank in (0, 1) for kind in ("safetensors", "json", "png")
    }
    pair = _pair(tmp_path / "unread", data={"unreadable": (5, 13)}, max_quarantined=0.05)
    for process in pair:
        process.join(300)
        assert process.exitcode == 1
    for rank in (0, 1):
        assert "GuardStop: 2 of 24 samples" in (tmp_path / f"unread-{rank}.log").read_text()
    pair = _pair(tmp_path / "stopped", steps=200, **SLOW)
    wait_for_rows(tmp_path / "stopped", more=3)
    os.kill(pair[1].pid or 0, signal.SIGTERM)
    for process in pair:
        process.join(300)
        assert process.exitcode == 1
    for rank in (0, 1):
        assert "Interrupted: terminated" in (tmp_path / f"stopped-{rank}.log").read_text()


def test_a_sample_that_two_processes_cannot_read_counts_once(tmp_path: Path):
    out = tmp_path / "out"
    finish(*_pair(out, data={"unreadable": (5,)}, max_quarantined=0.05, steps=30))
    assert len(list(out.glob("quarantine*.jsonl"))) == 2  # both met it
    assert quarantined(out) == ["planes/005.png"] * 2
    assert (out / "summary.json").is_file()


def test_a_second_start_on_a_folder_that_a_run_holds_is_refused(tmp_path: Path):
    """Alone and as a pair, whose second process takes no lock itself and must not wait for ever."""
    out, log = tmp_path / "out", tmp_path / "out-0.log"
    first = start(out, steps=400, **SLOW)
    wait_for_rows(out, more=2)
    for count in (1, 2):
        second = _processes(count, out, resume=True)
        second[0].join(300)
        assert second[0].exitcode == 1
        assert f"another process is already writing to {out}" in log.read_text()
        for process in second[1:]:  # torchrun would end it
            process.kill()
            process.join()
    assert first.is_alive()
    before = len(rows(out))
    wait_for_rows(out, more=2)
    assert len(rows(out)) > before
    first.kill()
    first.join()


def test_three_processes_resume_to_the_last_bit(tmp_path: Path):
    """Of three numbers the order of addition matters, of two it does not."""
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    fields: dict[str, Any] = {"batch_size": 6, "keep_checkpoints": 3}
    finish(*_processes(3, whole, **fields))
    shutil.copytree(
        whole / "checkpoints" / "step-000000005", resumed / "checkpoints" / "step-000000005"
    )
    finish(*_processes(3, resumed, resume=True, **fields))
    assert weights(resumed) == weights(whole)


def _pair(out: Path, **fields: Any) -> list[BaseProcess]:
    return _processes(2, out, **fields)


def _processes(count: int, out: Path, **fields: Any) -> list[BaseProcess]:
    """So many processes as torchrun starts them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    return [
        start(out, environment={**shared, "RANK": rank, "LOCAL_RANK": rank}, **fields)
        for rank in map(str, range(count))
    ]


@pytest.mark.slow
def test_torchrun_starts_two_processes_that_meet(tmp_path: Path):
    script = str(ROOT / "tests" / "training.py")
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", script]
    subprocess.run([*command, str(tmp_path)], check=True, cwd=ROOT)
    last = checkpoint.latest(tmp_path / "checkpoints")
    assert last is not None
    assert len(checkpoint.load(last).random) == 2


def test_processes_that_do_not_see_each_other_are_refused(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match=r"2 processes were launched but Accelerate sees 1"):
        job().run(tmp_path)


def test_a_batch_must_split_over_the_processes(tmp_path: Path, monkeypatch):
    monkeypatch.setattr("accelerate.Accelerator.num_processes", property(lambda self: 3))
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(ValueError, match=r"batch_size=4 .* accumulate=1 times 3 processes"):
        job().run(tmp_path)
