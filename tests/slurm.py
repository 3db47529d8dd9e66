"""A cluster of two nodes, both this machine: `srun`, `scontrol` and `scancel` as SLURM's."""

import os
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path

_NODES = "127.0.0.1,127.0.0.2"
_COMMANDS = {
    "srun": """
        [[ $1 == --cpus-per-task=1 ]] || exit 1 # it does not hear of sbatch's (SLURM 22.05)
        while [[ $1 == --* ]]; do shift; done
        : >"$SPOOL/tasks"
        for node in ${SLURM_JOB_NODELIST//,/ }; do
          SLURMD_NODENAME=$node "$@" &
          echo $! >>"$SPOOL/tasks"
        done
        for _ in ${SLURM_JOB_NODELIST//,/ }; do
          wait -n || { code=$?; kill -KILL $(<"$SPOOL/tasks") 2>/dev/null; exit "$code"; }
        done""",
    "scontrol": """
        case $1 in
          show) echo "${3//,/$'\\n'}" ;;
          requeue) echo "$2" >>"$SPOOL/requeued" ;;
        esac""",
    "scancel": """
        [[ $1 == --signal=TERM && $2 == "$SLURM_JOB_ID" ]] || exit 1
        kill -TERM $(<"$SPOOL/tasks")""",
}


class Slurm:
    """Runs batch scripts; `spool` is a folder of its own."""

    def __init__(self, spool: Path) -> None:
        self._spool = spool
        spool.mkdir()
        for name, text in _COMMANDS.items():
            (spool / name).write_text(f"#!/usr/bin/env bash\n{text}\n")
            (spool / name).chmod(0o755)

    def start(
        self, script: Path, environment: Mapping[str, str], *, root: Path, restarts: int = 0
    ) -> "subprocess.Popen[bytes]":
        """What `sbatch` or a requeue leads to, once nodes are free."""
        (self._spool / "requeued").unlink(missing_ok=True)
        given = {
            **{"SLURM_JOB_ID": "4711", "SLURM_JOB_NODELIST": _NODES, "SLURM_JOB_NUM_NODES": "2"},
            "SLURM_CPUS_PER_TASK": "1",
            **{"SLURM_RESTART_COUNT": str(restarts), "SPOOL": str(self._spool)},
            "PATH": f"{self._spool}:{os.environ['PATH']}",
        }
        return subprocess.Popen(
            ["bash", str(script)],
            cwd=root,
            env={**os.environ, **environment, **given},
            start_new_session=True,
        )

    def requeued(self) -> bool:
        """Whether the script has asked for it."""
        return (self._spool / "requeued").is_file()

    def fail(self, job: "subprocess.Popen[bytes]") -> None:
        """A node is lost: SLURM kills what is left of the job, and would requeue it."""
        os.killpg(job.pid, signal.SIGKILL)
        job.wait()
