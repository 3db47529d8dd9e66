"""The batch scripts run: a node fails, time is over, and the run ends as if nothing had been."""

import json
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from runs import weights
from slurm import Slurm
from two_hosts import wait_for

from distill import checkpoint
from distill.labels.store import LabelStore
from distill.models.depth_anything import depth_anything

ROOT = Path(__file__).parents[1]
TRAIN, LABEL = (ROOT / "recipes" / "clusters" / f"slurm_{name}.sh" for name in ("train", "label"))
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


@pytest.mark.slow
def test_what_a_guard_stopped_is_not_started_again(tmp_path: Path):
    slurm, out = Slurm(tmp_path / "spool"), tmp_path / "run"
    given = {"RECIPE": "tests/training.py:spoilt", "SETTINGS": ""}
    job = slurm.start(TRAIN, environment(out) | given, root=ROOT)
    assert job.wait(300) == 3
    assert checkpoint.latest(out / "checkpoints") is not None  # it had got on
    assert not slurm.requeued()
    assert "not finite" in (out / "stopped.txt").read_text()
    assert len(json.loads((out / "run.json").read_text())["starts"]) == 1


@pytest.mark.slow
def test_labels_of_all_images_but_one(tmp_path: Path):
    """Nothing waits for the process that tells of it, and nothing is started again."""
    teacher, photos, out = tmp_path / "teacher", tmp_path / "photos", tmp_path / "labels"
    depth_anything("tiny").save_pretrained(teacher)
    photos.mkdir()
    for number in range(6):
        picture = np.random.default_rng(number).integers(0, 255, (60, 80, 3), dtype=np.uint8)
        Image.fromarray(picture).save(photos / f"{number}.png")
    (photos / "3.png").write_bytes((photos / "3.png").read_bytes()[:2000])
    slurm = Slurm(tmp_path / "spool")
    given = {"RECIPE": "recipes.labels:plain", "DATA": str(photos), "WAIT_FOR_HOSTS": "600"}
    given |= {"SETTINGS": f"teacher='{teacher}' max_quarantined=0.5 shard_size=2 min_side=16"}
    start = time.monotonic()
    job = slurm.start(LABEL, environment(out) | given, root=ROOT)
    assert job.wait(300) == 1
    assert time.monotonic() - start < 250
    assert [json.loads(line)["key"] for line in (out / "quarantine.jsonl").open()]
    assert len(json.loads((out / "run.json").read_text())["starts"]) == 1
    assert len(LabelStore(out).index) == 5
