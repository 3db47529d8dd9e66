"""Label jobs, each in a fork of one process that has imported everything and done nothing.

    python forked_jobs.py < requests > answers

A request is a line of JSON: `data`, `out`, and if wanted `kill_at`, the number of the change to
`out` at which the job is killed, or `kill_after`, a time in seconds. The answer is a line, too:
`code` as subprocess has it, `seconds`, and `changes`, a list of [what, path, other path or size].
They need `kill_switch.c` as LD_PRELOAD.
"""

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


class ForkedJobs:
    """The other end of such a process."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def __call__(self, data: Path, out: Path, **more: Any) -> dict[str, Any]:
        """Run one job to its end, whatever that is."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        print(json.dumps({"data": str(data), "out": str(out), **more}), file=stdin, flush=True)
        return json.loads(stdout.readline())


@contextlib.contextmanager
def forked_jobs(folder: Path) -> Iterator[ForkedJobs]:
    """Such a process, with a kill switch that is compiled into `folder`."""
    library = folder / "kill_switch.so"
    source = HERE / "kill_switch.c"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
    environment = os.environ | {"LD_PRELOAD": str(library), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        [sys.executable, __file__],
        env=environment | {"PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parent)])},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield ForkedJobs(process)
        assert process.stdin is not None
        process.stdin.close()


def _run(asked: Mapping[str, Any], log: int) -> int:
    """The code that the command line would end with."""
    from tiny_teacher import job

    from distill.job import PartialFailure

    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    switch = ctypes.CDLL(None).kill_switch
    switch(os.fsencode(asked["out"]), asked.get("kill_at", -1), log)
    try:
        job(Path(asked["data"])).run(Path(asked["out"]), resume=True)
    except PartialFailure:
        return 1
    except Exception:  # noqa: BLE001 the asker is told
        return 70
    return 0


def _answer(asked: Mapping[str, Any]) -> dict[str, Any]:
    start = time.monotonic()
    with tempfile.TemporaryFile() as log:
        child = os.fork()
        if child == 0:
            os._exit(_run(asked, log.fileno()))
        after = asked.get("kill_after", threading.TIMEOUT_MAX)
        killer = threading.Timer(after, os.kill, (child, signal.SIGKILL))
        killer.start()
        _, status = os.waitpid(child, 0)
        killer.cancel()
        killer.join()
        log.seek(0)
        changes = [line.split("\t") for line in log.read().decode().splitlines()]
    code = os.waitstatus_to_exitcode(status)
    return {"code": code, "seconds": time.monotonic() - start, "changes": changes}


if __name__ == "__main__":
    import tiny_teacher  # noqa: F401 so that no fork has to

    import pseudo_labels.generate  # noqa: F401

    for line in sys.stdin:
        sys.stdout.write(json.dumps(_answer(json.loads(line))) + "\n")
        sys.stdout.flush()
