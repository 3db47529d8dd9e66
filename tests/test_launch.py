"""How processes are launched, wait and end; two meet under `accelerate launch` and learn as one."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from training import watched

from distill import checkpoint, launch
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
    assert len(one) == 4  # before the first update, and every fourth
    assert one[0] != one[-1]
    assert two == pytest.approx(one, rel=1e-4)


def test_processes_end_with_their_launcher(tmp_path: Path):
    """A torchrun that is killed cannot end its processes; the kernel does."""
    mark = tmp_path / "process"
    process = (
        "import os, pathlib, time; from distill.launch import die_with_launcher;"
        f"die_with_launcher(); pathlib.Path({str(mark)!r}).write_text(str(os.getpid()));"
        "time.sleep(300)"
    )
    start = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {process!r}])"
    environment = os.environ | {"TORCHELASTIC_RUN_ID": "a run"}
    with subprocess.Popen([sys.executable, "-c", start], cwd=ROOT, env=environment) as launcher:
        while not mark.exists() or not mark.read_text():
            assert launcher.poll() is None
            time.sleep(0.02)
        launcher.kill()
    pid = int(mark.read_text())
    for _ in range(500):
        if _ended(pid):
            return
        time.sleep(0.02)
    os.kill(pid, signal.SIGKILL)
    raise AssertionError("it lived on")


def _ended(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_how_long_a_process_waits_for_others(monkeypatch: pytest.MonkeyPatch):
    assert launch.patience().total_seconds() == 1800
    monkeypatch.setenv("DISTILL_TIMEOUT", "0.5")
    assert launch.patience().total_seconds() == 0.5
    for wrong in ("0", "-1", "nan", "inf", "ten minutes"):
        monkeypatch.setenv("DISTILL_TIMEOUT", wrong)
        with pytest.raises(ValueError, match=f"DISTILL_TIMEOUT={wrong}: give seconds"):
            launch.patience()
