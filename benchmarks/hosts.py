"""Two hosts train, the cable of one is pulled out in mid-run: when that was seen, how it ended.

    .venv/bin/python -m benchmarks.hosts      # says what happens, and keeps it in results/hosts.log

The hosts are network namespaces that share nothing but the file system, each started by
`recipes/clusters/torchrun_train.sh`; they exchange gradients over gloo. Cable out, the second host
loses its processes, too. Either it comes back and the run must end with the bytes of one that
nothing happened to, or it stays away, the first goes on alone, and the weights must agree within
what another order of sums may change.
"""

import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from safetensors.torch import load_file

from benchmarks.origin import origin
from benchmarks.soak import content
from distill import checkpoint
from tests.two_hosts import Host, two_hosts, wait_for

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results" / "hosts.log"
SCRIPT = ROOT / "recipes" / "clusters" / "torchrun_train.sh"
STEPS, EVERY, CUT_AFTER = 30, 5, 10  # updates; between checkpoints; the one that is waited for
TIMEOUT = 20  # seconds until a silent process is given up
RATE = 0.01  # of the job, tests/training.py
TOLD = {
    r"Timed out|timed out|Connection closed|Socket Timeout": "an exchange of gradients failed",
    r"will restart worker group": "torchrun starts its processes again",
    r"resuming at step (\d+)": r"goes on from the checkpoint of step \1",
}


class Log:
    """What happened, in seconds since the start; kept and printed."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._start, self._lock = time.monotonic(), threading.Lock()

    def __call__(self, text: str) -> None:
        """It has just happened."""
        with self._lock:
            self.lines.append(f"{time.monotonic() - self._start:7.1f} s  {text}")
            print(self.lines[-1], flush=True)


@dataclass(frozen=True)
class Run:
    """A run on both hosts.

    Attributes:
        out: its folder.
        nodes: as torchrun takes it: "2", or "1:2" if one host may go on alone.
        processes: of each host.
        dropout: of the student; draws from the generator of each process.
        log: where it is told.
    """

    out: Path
    nodes: str
    processes: int
    dropout: float
    log: Log


class Launch:
    """torchrun on one of the hosts, and what it says."""

    def __init__(self, host: Host, name: str, run: Run):
        settings = f"steps={STEPS} checkpoint_every={EVERY} dropout={run.dropout}"
        environment = {
            **{"RECIPE": "tests/training.py:on_hosts", "DATA": "", "OUT": str(run.out)},
            **{"SETTINGS": settings, "HOSTS": run.nodes, "PROCESSES": str(run.processes)},
            **{"FSDP": "false", "PYTHON": sys.executable, "DISTILL_TIMEOUT": str(TIMEOUT)},
            **{"LOGLEVEL": "INFO", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]),
        }
        self.process = host.start(
            [str(SCRIPT)], environment, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        self.said: list[str] = []
        self._name, self._log, self._told = name, run.log, set[str]()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def workers(self) -> list[int]:
        """Process ids of what torchrun started."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(child) for child in children.read_text().split()]

    def wait(self) -> None:
        """Until it has ended well.

        Raises:
            RuntimeError: it did not; with the last that it said.
        """
        code = self.process.wait(600)
        self._reader.join()
        if code:
            raise RuntimeError(f"{self._name} ended with {code}:\n" + "".join(self.said[-80:]))
        self._log(f"{self._name}: finished")

    def kill(self) -> None:
        """SIGKILL to torchrun alone; its processes must not outlive it.

        Raises:
            RuntimeError: one of them did.
        """
        left = self.workers()
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        deadline = time.monotonic() + 5
        while left := [pid for pid in left if _lives(pid)]:
            if time.monotonic() > deadline:
                raise RuntimeError(f"{left} outlived torchrun for 5 seconds")
            time.sleep(0.02)

    def wait_until(self, event: str) -> None:
        """Until it was `event` that it told."""
        while event not in self._told:
            if self.process.poll() is not None:
                raise RuntimeError(f"{self._name} ended:\n" + "".join(self.said[-80:]))
            time.sleep(0.05)

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said.append(line)
            for pattern, text in TOLD.items():
                if (found := re.search(pattern, line)) and text not in self._told:
                    self._told.add(text)
                    self._log(f"{self._name}: {found.expand(text)}")


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def undisturbed(hosts: Sequence[Host], run: Run) -> None:
    """Both hosts to the end."""
    run.log(f"nothing happens to 2 hosts of {run.processes}: start")
    for launch in _start(hosts, run):
        launch.wait()


def cut(hosts: Sequence[Host], run: Run) -> Launch:
    """Both, until the cable is out, the second host dead and the first one knows it."""
    run.log(f"2 hosts of {run.processes}, --nnodes {run.nodes}: start")
    first, second = _start(hosts, run)
    last = run.out / "checkpoints" / f"step-{CUT_AFTER:09d}"
    wait_for(last, first.process, second.process)
    time.sleep(0.5)  # some updates more, which are lost
    hosts[1].plug("out")
    run.log(f"second: cable out, after the checkpoint of step {CUT_AFTER}")
    second.kill()
    run.log("second: torchrun killed, its processes ended with it")
    first.wait_until(TOLD["will restart worker group"])
    return first


def come_back(hosts: Sequence[Host], run: Run, first: Launch) -> None:
    """The second host's cable is in, it starts by the same line, and both go on to the end."""
    hosts[1].plug("in")
    second = Launch(hosts[1], "second", run)
    run.log("second: cable in, started again")
    first.wait()
    second.wait()


def _start(hosts: Sequence[Host], run: Run) -> list[Launch]:
    names = ("first", "second")
    return [Launch(host, name, run) for host, name in zip(hosts, names, strict=True)]


def equal(expected: Path, found: Path) -> str:
    """The sha256 of the exported weights.

    Raises:
        RuntimeError: any file of the two runs differs.
    """
    left, right = content(expected), content(found)
    differing = sorted(n for n in left.keys() | right.keys() if left.get(n) != right.get(n))
    if differing:
        raise RuntimeError(f"{len(differing)} files differ: {differing[:5]}")
    return left["model/model.safetensors"]


def bound() -> float:
    """How far a weight may move in the updates after the cut if only the order of sums differs.

    A gradient is a sum over n = 4 x 16 x 16 pixels; in another order it differs by at most 2 n u of
    the sum of magnitudes (Higham 2002, section 4.2), u = 2 ** -24. Adam's step of at most the rate
    moves by twice that share: its two moments. Errors really add like sqrt(n), so a sum that is
    smaller than its magnitudes by up to 30 stays within.
    """
    pixels, unit = 4 * 16 * 16, 2.0**-24
    return (STEPS - CUT_AFTER) * RATE * 2 * (2 * pixels * unit)


def distance(expected: Path, found: Path) -> float:
    """The largest difference of a weight at the end."""
    states = [load_file(_last(out) / "model.safetensors") for out in (expected, found)]
    return max(float((states[0][name] - states[1][name]).abs().max()) for name in states[0])


def _last(out: Path) -> Path:
    path = checkpoint.latest(out / "checkpoints")
    assert path is not None
    return path


def returns(hosts: Sequence[Host], folder: Path, log: Log) -> None:
    """(a) The host comes back: the world is the same at each step, and so is every byte."""
    expected = Run(folder / "undisturbed" / "run", "2", 2, 0.1, log)
    undisturbed(hosts, expected)
    found = replace(expected, out=folder / "cut off" / "run")
    come_back(hosts, found, cut(hosts, found))
    log(
        f"both runs end with the same files; sha256 of the weights {equal(expected.out, found.out)}"
    )


def stays_away(hosts: Sequence[Host], folder: Path, log: Log) -> None:
    """(b) The host stays away: the first one takes all samples of each batch.

    Raises:
        RuntimeError: the weights are further away than `bound`.
    """
    expected = Run(folder / "undisturbed" / "run", "1:2", 1, 0.0, log)
    undisturbed(hosts, expected)
    found = replace(expected, out=folder / "cut off" / "run")
    cut(hosts, found).wait()
    hosts[1].plug("in")
    far = distance(expected.out, found.out)
    if far > bound():
        raise RuntimeError(f"a weight differs by {far:.2g}, above {bound():.2g}")
    log(f"weights within {far:.2g} of those of the two hosts; {bound():.2g} is allowed")


def main() -> None:
    """Both cases; the log is kept."""
    log = Log()
    with tempfile.TemporaryDirectory() as name, two_hosts() as hosts:
        for case in (returns, stays_away):
            folder = Path(name) / case.__name__
            folder.mkdir()
            case(hosts, folder, log)
    about = ["python -m benchmarks.hosts", *(f"{key}: {value}" for key, value in origin().items())]
    RESULTS.write_text("\n".join([*about, "", *log.lines]) + "\n")


if __name__ == "__main__":
    main()
