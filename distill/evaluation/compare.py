"""Several models on one benchmark: each evaluated alone, their means side by side."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from distill import atomic
from distill import job as jobs
from distill.evaluation.evaluate import EvaluateJob


@dataclass(frozen=True, kw_only=True)
class CompareJob:
    """Evaluate each model into `out/evaluation/<name>/`, then write `out/summary.json`.

    Attributes:
        models: name in the summary to folder or hub id.
        benchmark: a name in `benchmarks.BENCHMARKS`.
        data: its folder.
        notes: what a reader must know to judge the numbers.
    """

    models: Mapping[str, str | Path]
    benchmark: str
    data: Path
    notes: tuple[str, ...] = ()

    def run(self, out: Path, *, resume: bool = False) -> None:
        """Evaluate and compare. With `resume`, evaluations that are there are kept.

        On return the files are there for every process of the launch.

        Raises:
            ValueError: there is an evaluation and `resume` is not given, or it is another one.
            GuardStop: a model is dead.
        """
        summary: dict[str, object] = {}
        for name, model in self.models.items():
            folder = out / "evaluation" / name
            EvaluateJob(model=model, benchmark=self.benchmark, data=self.data).run(
                folder, resume=resume
            )
            if jobs.is_main_process():
                result = json.loads((folder / "summary.json").read_text())
                summary[name] = {**result["means"], "n": result["n"], "flags": result["flags"]}
                summary["protocol"] = result["protocol"]["text"]
        if jobs.is_main_process():
            summary["notes"] = list(self.notes)
            atomic.write_text(out / "summary.json", json.dumps(summary, indent=2) + "\n")
        jobs.processes().wait_for_everyone()
