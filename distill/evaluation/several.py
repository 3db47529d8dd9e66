"""One model on several benchmarks: each evaluated alone, their means in one file."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from distill import atomic
from distill import job as jobs
from distill.evaluation import benchmarks
from distill.evaluation.evaluate import EvaluateJob
from distill.types import Space


@dataclass(frozen=True, kw_only=True)
class SeveralJob:
    """Evaluate into `out/<benchmark>/` each, then write `out/summary.json`.

    Attributes:
        model: folder or hub id of any depth model of transformers.
        data: name of a benchmark in `benchmarks.BENCHMARKS` to its folder.
        space: what the model's numbers mean; None: as its architecture declares.
    """

    model: str | Path
    data: Mapping[str, Path]
    space: Space | None = None

    def __post_init__(self) -> None:
        for name in self.data:
            benchmarks.find(name)

    def run(self, out: Path, *, resume: bool = False) -> None:
        """Evaluate. With `resume`, evaluations that are there are kept.

        On return the files are there for every process of the launch.

        Raises:
            FileNotFoundError: a folder is missing; nothing was evaluated.
            ValueError: there is an evaluation and `resume` is not given, or it is another one.
            GuardStop: the model is dead.
        """
        for name, folder in self.data.items():
            benchmarks.find(name).folder(folder)
        summary: dict[str, object] = {}
        for name, folder in self.data.items():
            job = EvaluateJob(model=self.model, benchmark=name, data=folder, space=self.space)
            job.run(out / name, resume=resume)
            if jobs.is_main_process():
                result = json.loads((out / name / "summary.json").read_text())
                told = ("means", "n", "images", "flags", "published")
                protocol = {"protocol": result["protocol"]["text"]}
                summary[name] = {key: result[key] for key in told} | protocol
        if jobs.is_main_process():
            atomic.write_text(out / "summary.json", json.dumps(summary, indent=2) + "\n")
        jobs.processes().wait_for_everyone()
