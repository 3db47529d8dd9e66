"""Launches by torchrun: a process that dies, other world sizes, two hosts whose cable is cut."""

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
from namespaces import alone, hosts, mount_memory
from tiny_teacher import contents
from two_hosts import FIRST, wait_for

from distill.labels.store import LabelStore
from pseudo_labels import claims

ROOT = Path(__file__).parents[2]
ENVIRONMENT = os.environ | {
    "OMP_NUM_THREADS": "1",
    "PYTHONPATH": os.pathsep.join([str(ROOT / "tests"), str(ROOT)]),
}
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--max-restarts", "3")


def recipe(photos, out, delay=0.0):
    run = ["-m", "distill", "run", "tests/tiny_teacher.py:recipe", "--data", str(photos)]
    return [*run, "--out", str(out), "--resume", "--set", f"delay={delay}"]


def ranks(launch):
    """The processes that torchrun started."""
    found = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(status.read_text().rpartition(")")[2].split()[1])
            words = (status.parent / "environ").read_bytes().split(b"\0")
        except (OSError, ValueError):
            continue
        rank = [word for word in words if word.startswith(b"RANK=")]
        if parent == launch.pid and rank:
            found[int(rank[0][5:])] = int(status.parent.name)
    return found


def launch(photos, out, processes, delay):
    many = ["--standalone", "--nproc-per-node", str(processes)]
    return subprocess.Popen(
        [*TORCHRUN, *many, *recipe(photos, out, delay)], cwd=ROOT, env=ENVIRONMENT
    )


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_launch_outlives_one_of_its_processes(photos, tmp_path, uninterrupted, rank):
    """torchrun starts all of them again; they go on where they were, and end by themselves."""
    out = tmp_path / "store"
    process = launch(photos, out, 2, 0.3)
    wait_for(out / "index" / "labels-00001.parquet", process)
    os.kill(ranks(process)[rank], signal.SIGKILL)
    assert process.wait(500) == 0
    assert contents(out) == uninterrupted


@pytest.mark.slow
def test_other_numbers_of_processes_go_on(photos, tmp_path, uninterrupted):
    """Three, then two, each stopped, then one: seven shards that no number of them divides."""
    out = tmp_path / "store"
    for processes, until in ((3, 1), (2, 3)):
        process = launch(photos, out, processes, 0.4)
        wait_for(out / "index" / f"labels-{until:05d}.parquet", process)
        process.terminate()
        process.wait(200)
        assert LabelStore(out, allow_incomplete=True).missing()
    assert launch(photos, out, 1, 0.0).wait(200) == 0
    assert contents(out) == uninterrupted


@pytest.mark.slow
def test_two_hosts_whose_cable_is_pulled_out(photos, tmp_path, uninterrupted):
    """One process each; they share the folder and nothing else once they have met."""
    out = tmp_path / "store"
    meet = ["--nnodes", "2", "--nproc-per-node", "1", "--rdzv-backend", "c10d"]
    meet += ["--rdzv-endpoint", f"{FIRST}:29500", "--rdzv-id", "labels"]
    with hosts() as pair:
        processes = []
        for host in pair:
            own = ["--local-addr", host.address, "--rdzv-conf", f"is_host={int(host is pair[0])}"]
            command = [*TORCHRUN, *meet, *own, *recipe(photos, out, 0.5)]
            log = (tmp_path / f"{host.cable}.log").open("w")
            processes.append(host.start(command, ENVIRONMENT, cwd=ROOT, stderr=log))
        wait_for(out / "index" / "labels-00001.parquet", *processes)
        pair[0].plug("out")
        time.sleep(5)
        pair[0].plug("in")
        codes = [process.wait(500) for process in processes]
    said = "".join((tmp_path / f"{host.cable}.log").read_text() for host in pair)
    assert codes == [0, 0], said
    assert contents(out) == uninterrupted
    for rank in (1, 2):
        assert f"process {rank} of 2, on cpu" in said


def _child(work):
    child = os.fork()
    if child == 0:
        try:
            work()
        except ValueError as error:
            os.write(2, str(error).encode())
            os._exit(2)
        os._exit(0)
    return child


def _end(child):
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


class Meeting:
    """A barrier of two processes: each leaves a byte for the other."""

    def __init__(self):
        self._pipes = os.pipe(), os.pipe()

    def meet(self, place):
        os.write(self._pipes[place][1], b"x")
        os.read(self._pipes[1 - place][0], 1)


def test_locks_are_probed(tmp_path):
    meeting = Meeting()
    other = _child(partial(claims.probe, tmp_path, first=False, meet=partial(meeting.meet, 1)))
    claims.probe(tmp_path, first=True, meet=partial(meeting.meet, 0))
    assert _end(other) == 0


@pytest.mark.parametrize("has_a_folder", [True, False])
def test_a_folder_of_each_host_is_refused(tmp_path, has_a_folder, capfd):
    """As if `--out` were on a local disk: the same path, another file system."""
    meeting, out = Meeting(), tmp_path / "store"

    def elsewhere():
        def look():
            mount_memory(tmp_path, 1 << 20)
            if has_a_folder:
                claims.probe(out, first=True, meet=lambda: None)
            claims.probe(out, first=False, meet=partial(meeting.meet, 1))

        with pytest.raises(ValueError, match="not the same on all hosts"):
            look()
        meeting.meet(1)

    other = _child(partial(alone, elsewhere))
    claims.probe(out, first=True, meet=partial(meeting.meet, 0))
    assert _end(other) == 0, capfd.readouterr().err
