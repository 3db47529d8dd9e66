"""The label job as processes that are killed, stopped, started twice and started in twos."""

import multiprocessing
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tiny_teacher import contents, job

from distill.cli import main
from distill.labels.store import LabelStore
from pseudo_labels.claims import Claims
from pseudo_labels.quarantine import Quarantine, read_quarantine

ROOT = Path(__file__).parents[2]
CLUSTER = ROOT / "recipes" / "clusters" / "two_cpu_processes.yaml"
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["distill.cli", "pseudo_labels.generate"])
RECIPE = "tests/tiny_teacher.py:recipe"
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "tests")}


def fill(photos, out, delay=0.0):
    job(photos, delay=delay).run(out, resume=True)


def distill(*arguments):
    sys.exit(main(arguments))


def start(target, *arguments):
    """A process of its own, forked from one that has imported everything and done nothing."""
    process = CONTEXT.Process(target=target, args=arguments)
    process.start()
    assert process.pid is not None
    return process


def wait_for(path: Path, process, seconds=300.0):
    until = time.monotonic() + seconds
    while not path.exists() and process.is_alive():
        assert time.monotonic() < until, f"{path} did not appear"
        time.sleep(0.005)


def test_killed_three_times_and_resumed(photos, tmp_path, uninterrupted):
    """SIGKILL from outside at random moments; then nothing is lost, doubled or left over."""
    out, moments = tmp_path / "store", random.Random(os.getpid())
    for _ in range(3):
        process = start(fill, photos, out, 0.05)
        wait_for(out / "store.json", process)
        time.sleep(moments.uniform(0, 1.0))
        process.kill()
        process.join()
    fill(photos, out)
    assert contents(out) == uninterrupted
    assert LabelStore(out).verify() == 26


def test_sigterm_keeps_what_is_committed(photos, tmp_path, uninterrupted):
    out = tmp_path / "store"
    command = ("run", str(ROOT / RECIPE), "--data", str(photos), "--out", str(out))
    process = start(distill, *command, "--set", "delay=0.2")
    wait_for(out / "index" / "labels-00000.parquet", process)
    with pytest.raises(ValueError, match="another process is already writing"):
        fill(photos, out)
    process.terminate()
    process.join(300)
    assert process.exitcode == 143
    left = LabelStore(out, allow_incomplete=True)
    assert left.missing()
    assert left.verify() >= 4
    fill(photos, out)
    assert contents(out) == uninterrupted


def test_two_processes_write_what_one_does(photos, tmp_path, uninterrupted):
    out = tmp_path / "store"
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(CLUSTER)]
    launch += ["--main_process_port", "0", "-m", "distill", "run", RECIPE]
    ran = subprocess.run(
        [*launch, "--data", str(photos), "--out", str(out), "--set", "delay=0.2"],
        cwd=ROOT,
        env=ENVIRONMENT | {"ACCELERATE_USE_CPU": "true"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ran.returncode == 0, ran.stderr
    for rank in (1, 2):
        assert f"process {rank} of 2, on cpu" in ran.stderr
    for shard in range(7):
        assert ran.stderr.count(f"labels-{shard:05d}: ") == 1, ran.stderr
    assert contents(out) == uninterrupted


def hold(root, numbers, ready, leave):
    with Claims(root) as claims:
        ready.send(list(claims.free(numbers)))
        leave.wait()


def test_claims_are_exclusive_and_die_with_their_process(tmp_path):
    mine, theirs = CONTEXT.Pipe()
    leave = CONTEXT.Event()
    process = start(hold, tmp_path, [1, 2], theirs, leave)
    assert mine.recv() == [1, 2]
    with Claims(tmp_path) as claims:
        assert list(claims.free(range(5))) == [0, 3, 4]
        process.kill()
        process.join()
        assert list(claims.free(range(1, 3))) == [1, 2]


def set_aside_many(out, name, known=None):
    with Claims(out) as claims:
        quarantine = Quarantine(out, claims)
        for n in range(20):
            quarantine.add({f"{name}/{n}": "cut off"}, check=lambda known: None)
        if known is not None:
            quarantine.add({}, check=known.update)


def test_no_process_loses_what_another_set_aside(tmp_path):
    processes = [start(set_aside_many, tmp_path, name) for name in ("a", "b", "c")]
    for process in processes:
        process.join(300)
    assert len(read_quarantine(tmp_path)) == 60


def test_half_a_line_of_a_killed_process_is_written_over(tmp_path):
    path, known = tmp_path / "quarantine.jsonl", {}
    set_aside_many(tmp_path, "a")
    with path.open("a") as file:
        file.write('{"key": "b/0", "rea')
    set_aside_many(tmp_path, "c", known)
    assert list(known) == [f"{name}/{n}" for name in "ac" for n in range(20)]
    assert read_quarantine(tmp_path) == known


def test_committed_shards_are_not_claimed(tmp_path, photos):
    job(photos).run(tmp_path / "store")
    with Claims(tmp_path / "store") as claims:
        assert list(claims.free(range(8))) == [7]


def test_a_shard_of_a_dead_process_is_taken_over(photos, tmp_path, uninterrupted):
    """One process waits while another holds the last shard, and writes it when that one dies."""
    out = tmp_path / "store"
    job(photos).run(out)
    (out / "index" / "labels-00003.parquet").unlink()
    mine, theirs = CONTEXT.Pipe()
    leave = CONTEXT.Event()
    holder = start(hold, out, [3], theirs, leave)
    assert mine.recv() == [3]
    worker = start(fill, photos, out)
    time.sleep(1.0)
    assert worker.is_alive()
    holder.kill()
    holder.join()
    worker.join(300)
    assert worker.exitcode == 0
    assert contents(out) == uninterrupted
