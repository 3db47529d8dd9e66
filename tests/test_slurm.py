"""The batch scripts run: a node fails, time is over, and the run ends as if nothing had been."""

import os
import signal
import sys
import time
from pathlib import Path

import pytest
from runs import weights
from slurm import Slurm
from two_hosts import wait_for

from distill import checkpoint

ROOT = Path(__file__).parents[1]
TRAIN = ROOT / "recipes" / "clusters" / "slurm_train.sh"
STEPS, EVERY = 30, 5


def environment(out: Path) -> dict[str, str]:
    return {
        **{"RECIPE": "tests/training.py:on_hosts", "DATA": "", "OUT": str(out), "FSDP": "false"},
        **{"SETTINGS": f"steps={STEPS} checkpoint_every={EVERY}", "PROCESSES": "1"},
        **{"PYTHON": sys.executable, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"},
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]),
        "CUDA_VISIBLE_DEVICES": "",
    }


def step(out: Path, number: int) -> Path:
    return out / "checkpoints" / f"step-{number:09d}"


@pytest.mark.slow
def test_a_node_fails_and_time_is_over(tmp_path: Path):
    slurm, out = Slurm(tmp_path / "spool"), tmp_path / "cut off" / "run"
    job = slurm.start(TRAIN, environment(out), root=ROOT)
    wait_for(step(out, EVERY), job)
    slurm.fail(job)

    job = slurm.start(TRAIN, environment(out), root=ROOT, restarts=1)
    wait_for(step(out, 3 * EVERY), job)
    time.sleep(0.3)
    job.send_signal(signal.SIGUSR1)  # as --signal=B:USR1@600 does
    assert job.wait(300) == 143
    assert slurm.requeued()
    last = checkpoint.latest(out / "checkpoints")
    assert last is not None
    assert int(last.name[5:]) < STEPS  # in mid-run

    job = slurm.start(TRAIN, environment(out), root=ROOT, restarts=2)
    assert job.wait(500) == 0
    assert not slurm.requeued()

    undisturbed = tmp_path / "undisturbed" / "run"
    assert slurm.start(TRAIN, environment(undisturbed), root=ROOT).wait(500) == 0
    assert weights(out) == weights(undisturbed)


@pytest.mark.slow
def test_what_fails_without_progress_is_not_queued_again(tmp_path: Path):
    slurm = Slurm(tmp_path / "spool")
    wrong = environment(tmp_path / "run") | {"SETTINGS": "steps=-1", "RESTARTS": "0"}
    job = slurm.start(TRAIN, wrong, root=ROOT)
    assert job.wait(300) not in (0, 143)
    assert not slurm.requeued()
