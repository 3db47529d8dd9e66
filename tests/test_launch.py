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


@pytest.mark.parametrize("launcher_sets", ["TORCHELASTIC_RUN_ID", "ACCELERATE_MIXED_PRECISION"])
def test_processes_end_with_their_launcher(launcher_sets: str, tmp_path: Path):
    """A launcher that is killed cannot end its processes; the kernel does."""
    mark = tmp_path / "process"
    process = (
        "import os, pathlib, time; from distill.launch import die_with_launcher;"
        f"die_with_launcher(); pathlib.Path({str(mark)!r}).write_text(str(os.getpid()));"
        "time.sleep(300)"
    )
    start = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {process!r}])"
    environment = os.environ | {launcher_sets: "no"}
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


@pytest.mark.parametrize(
    ("restarts", "rank", "code", "left_with", "ends"),
    [
        ("", "0", 3, 3, False),  # no torchrun
        ("0", "0", 1, 1, False),  # one that does not restart
        ("4", "0", 1, 0, False),
        ("4", "0", 3, 3, True),
        ("4", "1", 3, 3, False),
        ("4", "0", 2, 2, False),  # a disk may come back
        ("4", "0", 143, 143, False),
    ],
)
def test_what_torchrun_hears(
    restarts: str, rank: str, code: int, left_with: int, ends: bool, monkeypatch: pytest.MonkeyPatch
):
    ended: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda *given: ended.append(given))
    if restarts:
        monkeypatch.setenv("TORCHELASTIC_MAX_RESTARTS", restarts)
    monkeypatch.setenv("LOCAL_RANK", rank)
    assert launch.heard(code) == left_with
    assert ended == ([(os.getppid(), signal.SIGTERM)] if ends else [])


def test_how_long_a_process_waits_for_others(monkeypatch: pytest.MonkeyPatch):
    assert launch.patience().total_seconds() == 1800
    monkeypatch.setenv("DISTILL_TIMEOUT", "0.5")
    assert launch.patience().total_seconds() == 0.5
    for wrong in ("0", "-1", "nan", "inf", "ten minutes"):
        monkeypatch.setenv("DISTILL_TIMEOUT", wrong)
        with pytest.raises(ValueError, match=f"DISTILL_TIMEOUT={wrong}: give seconds"):
            launch.patience()
