"""How the time and memory of a training step grow: with resolution, batch, size and processes.

    .venv/bin/python -m benchmarks.step_costs

The student's objective of `benchmarks.train_figures` (all losses, frozen encoder of the student's
size, CutMix) in runs of a `TrainJob`, each in processes of its own; on a CPU, two processes share
its cores. Seconds are the median of an update's as the run's rows tell them, memory the most that
the first process held, from its `summary.json`. The table goes to `benchmarks/results/`.
"""

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.origin import origin
from benchmarks.train_figures import median_step, student_job

RESULTS = Path(__file__).parent / "results" / "step_costs.json"


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What a step is taken with; `batch` over all processes."""

    size: str = "vits"
    side: int = 518
    batch: int = 2
    processes: int = 1


SETTINGS = (
    *(Setting(side=side) for side in (266, 392, 518, 700)),
    *(Setting(batch=batch) for batch in (1, 4)),
    *(Setting(size=size, batch=1) for size in ("vitb", "vitl")),
    Setting(batch=4, processes=2),
)


def measure(setting: Setting, folder: Path) -> tuple[float, int]:
    """Seconds of an update, and the most bytes that the first process held."""
    given = json.dumps(asdict(setting))
    command = [sys.executable, "-m", "benchmarks.step_costs", given, str(folder)]
    if setting.processes > 1:
        launcher = ["torch.distributed.run", "--nproc-per-node", str(setting.processes)]
        command[1:2] = ["-m", *launcher, "-m"]
    environment = os.environ | {"ACCELERATE_USE_CPU": "true"}
    subprocess.run(command, check=True, env=environment, capture_output=True)
    summary = json.loads((folder / "run" / "summary.json").read_text())
    return median_step(folder / "run", setting.batch), summary["peak_bytes"]


def run(setting: Setting, folder: Path) -> None:
    """One process of a setting's run."""
    student_job(setting.size, folder / "encoder", side=setting.side, batch_size=setting.batch).run(
        folder / "run"
    )


def main() -> None:
    """Measure every setting and write the table."""
    if len(sys.argv) > 1:
        run(Setting(**json.loads(sys.argv[1])), Path(sys.argv[2]))
        return
    rows = []
    for setting in SETTINGS:
        with tempfile.TemporaryDirectory() as folder:
            seconds, peak = measure(setting, Path(folder))
        rows.append({**asdict(setting), "seconds": round(seconds, 3), "bytes": peak})
        print(f"{setting}: {seconds:.2f} s, {peak / 2**20:.0f} MiB", flush=True)
        RESULTS.write_text(json.dumps({**origin(), "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
