"""Training under `accelerate launch`: two processes meet and learn what one learns."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from training import watched

from distill import checkpoint
from distill.tracking import read_rows

ROOT = Path(__file__).parents[1]
CLUSTER = ROOT / "recipes" / "clusters" / "two_cpu_processes.yaml"


def test_two_launched_processes_validate_as_one(tmp_path: Path):
    watched().run(tmp_path / "one")
    command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(CLUSTER)]
    command += ["--main_process_port", "0", "-m", "distill", "run", "tests/training.py:watched"]
    tests = {"ACCELERATE_USE_CPU": "true", "PYTHONPATH": str(ROOT / "tests")}
    subprocess.run(
        [*command, "--out", str(tmp_path / "two")], check=True, cwd=ROOT, env=os.environ | tests
    )
    last = checkpoint.latest(tmp_path / "two" / "checkpoints")
    assert last is not None
    assert len(checkpoint.load(last).random) == 2  # num_processes
    one, two = (
        [row["val/abs_rel"] for row in read_rows(tmp_path / name / "metrics.jsonl")
         if "val/abs_rel" in row]
        for name in ("one", "two")
    )  # fmt: skip
    assert len(one) == 3
    assert one[0] != one[-1]
    assert two == pytest.approx(one, rel=1e-4)
