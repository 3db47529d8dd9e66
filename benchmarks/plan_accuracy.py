"""How near a plan comes: probe, run, probe again, compare. For a machine with nothing else to do.

    python -m benchmarks.plan_accuracy WORLDS [SECONDS]

WORLDS is what `distill run recipes.demo:worlds` renders, SECONDS how long each probe takes (60).
Three recipes: the demo's teacher, labels and student, the trained ones for 600 updates. Wall time
is what a plan promises; processor time, of all processes of a job, is said beside it, for it
depends less on what else the machine does. Writes `benchmarks/results/plan_accuracy.json`.
"""

import json
import logging
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.origin import origin
from distill import job as jobs
from distill.plan.audit import audit
from distill.plan.question import Question
from distill.plan.reckoning import Plan, reckon
from recipes import demo

RESULTS = Path(__file__).parent / "results" / "plan_accuracy.json"
_STEPS = 600


def main() -> None:
    """Measure the three recipes, print a table and write the results."""
    logging.disable(logging.INFO)
    worlds = Path(sys.argv[1])
    seconds = float(sys.argv[2]) if len(sys.argv) > 2 else 60.0
    question = Question(probe=seconds, reads_data=True)
    entries: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        teacher = out / "teacher" / "model"
        builders: dict[str, Callable[[], Any]] = {
            "teacher": lambda: replace(demo.teacher(worlds), steps=_STEPS),
            "labels": lambda: demo.labels(worlds, teacher=teacher),
            "student": lambda: replace(demo.student(worlds, labels=out / "labels"), steps=_STEPS),
        }
        for name, build in builders.items():
            entry = {"name": f"recipes.demo:{name}", **_compare(build(), question, out / name)}
            entries.append(entry)
            print(json.dumps(entry))
    told = {"command": f"python -m benchmarks.plan_accuracy WORLDS {seconds:g}", **origin()}
    RESULTS.write_text(json.dumps({"recipes": entries, **told}, indent=2) + "\n")


def _compare(job: Any, question: Question, out: Path) -> dict[str, Any]:
    """Errors of time, processor time and bytes, as shares: +0.1 is planned a tenth too much."""
    before = reckon(job, question)
    wall, spent, load = time.perf_counter(), os.times(), os.getloadavg()[0]
    with jobs.recorded(out, job):
        job.run(out)
    wall = time.perf_counter() - wall
    now = os.times()
    processor = sum(now[:4]) - sum(spent[:4])
    after = reckon(job, question)
    audited = {row.name: row for row in audit(job, replace(question, probe=1.0), out).rows}
    planned = (before.seconds + after.seconds) / 2
    planned_processor = (_processor(before) + _processor(after)) / 2
    return {
        "wall_s": round(wall, 1),
        "wall_planned_s": [round(before.seconds, 1), round(after.seconds, 1)],
        "wall_error": round(planned / wall - 1, 3),
        "processor_s": round(processor, 1),
        "processor_planned_s": [round(_processor(before), 1), round(_processor(after), 1)],
        "processor_error": round(planned_processor / processor - 1, 3),
        "bytes_error": round(before.written / (audited["disk"].actual or 1) - 1, 3),
        "load_average": round(load, 1),
    }


def _processor(plan: Plan) -> float:
    assert plan.speed is not None
    return plan.speed.processor * plan.load.images + plan.speed.processor_start


if __name__ == "__main__":
    main()
