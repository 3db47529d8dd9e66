"""The papers' ablations in miniature, on procedural worlds: which of their findings hold here?

    .venv/bin/python -m benchmarks.ablations --out runs/ablations --seeds 5 --at-once 2

`ablation_conditions.CONDITIONS` says what is compared. Every seed has worlds, teachers and label
stores of its own, which its students share; all its students have its initial weights and, where
they draw the same samples, their order, crops and perturbations, so that differences are paired.
What is there is reused, so that a killed run goes on; `--only D` answers one question. After each
student `OUT/ablations.json` and `.md` are written anew; `--record` copies them to
`benchmarks/results/`. Progress is in `OUT/ablations.log`. One thread a training; `nice` and
`chrt --idle 0` may stand before it.
"""

import argparse
import contextlib
import json
import os
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from concurrent import futures
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Literal

import torch

from benchmarks import ablation_jobs as jobs
from benchmarks.ablation_conditions import CONDITIONS, QUESTIONS
from benchmarks.ablation_jobs import Place, Scale
from benchmarks.ablation_tables import markdown, results
from benchmarks.origin import origin
from distill.atomic import write_text
from distill.evaluation.evaluate import EvaluateJob
from distill.job import GuardStop, PartialFailure, describe, die_with_parent
from distill.train import TrainJob

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Task:
    """A part of the work on a seed: its worlds, a teacher and its labels, or a student."""

    kind: Literal["worlds", "teacher", "student"]
    name: str
    place: Place

    @property
    def needs(self) -> set["Task"]:
        """What must be there before."""
        if self.kind == "worlds":
            return set()
        if self.kind == "teacher":
            return {Task("worlds", "", self.place)}
        return {Task("teacher", name, self.place) for name in CONDITIONS[self.name].teachers} or {
            Task("worlds", "", self.place)
        }

    def run(self, scale: Scale) -> str:
        """Do it, or what is missing of it, and say so."""
        place, name = self.place, self.name
        if self.kind == "worlds":
            jobs.worlds(place, scale).run(place.worlds, resume=True)
        elif self.kind == "teacher":
            train(jobs.teacher(place, name, scale), place.teacher(name), place)
            with contextlib.suppress(PartialFailure):  # photographs that cannot be labelled
                jobs.labels(place, name).run(place.labels(name), resume=True)
        else:
            try:
                train(jobs.student(place, CONDITIONS[name], scale), place.student(name), place)
            except GuardStop as stop:  # a condition may kill its student; the others go on
                return f"{place.seed} {self.kind} {name} has no score: {stop}"
        return f"{place.seed} {self.kind} {name}"


def train(job: TrainJob, run: Path, place: Place) -> None:
    """Train into `run`, and score what came out on the seed's held-out photographs.

    Raises:
        ValueError: `run` holds what another job trained.
    """
    path, told = run / "job.json", json.dumps(describe(job), indent=2) + "\n"
    if path.is_file() and path.read_text() != told:
        raise ValueError(
            f"{run} was trained by another job, told in its job.json: remove it and what was made "
            "with it, or choose another --out"
        )
    run.mkdir(parents=True, exist_ok=True)
    write_text(path, told)
    if not (run / "summary.json").is_file():
        write_text(run / "commit", origin()["commit"])
    job.run(run, resume=True)
    photos = place.worlds / "photos" / "evaluation"
    scoring = EvaluateJob(model=run / "model", benchmark="photos", data=photos)
    scoring.run(run / "evaluation", resume=True)


def tasks(names: Sequence[str], places: Sequence[Place]) -> list[Task]:
    """Everything, in the order in which it is wanted: question by question, seed by seed."""
    found: dict[Task, None] = {}
    for letter in QUESTIONS:
        chosen = [name for name in names if CONDITIONS[name].question == letter]
        for place in places:
            students = [Task("student", name, place) for name in chosen]
            teachers = {task for student in students for task in student.needs}
            teachers = sorted(teachers, key=lambda task: (task.kind != "worlds", task.name))
            first = Task("worlds", "", place)
            found |= dict.fromkeys([first, *teachers, *students] if students else [])
    return list(found)


def work(todo: list[Task], scale: Scale, *, at_once: int, log: Path) -> Iterator[str]:
    """Do the first task that nothing is missing for, `at_once` of them at a time."""
    done: set[Task] = set()
    running: dict[futures.Future[str], Task] = {}
    start = partial(_start_worker, log)
    with futures.ProcessPoolExecutor(at_once, get_context("spawn"), start) as pool:
        while todo or running:
            ready = [task for task in todo if task.needs <= done]
            for task in ready[: at_once - len(running)]:
                running[pool.submit(task.run, scale)] = task
                todo.remove(task)
            finished, _ = futures.wait(running, return_when=futures.FIRST_COMPLETED)
            for future in finished:
                yield future.result()
                done.add(running.pop(future))


def wanted(only: str | None) -> list[str]:
    """The conditions of a question and those that they are compared with; all for None."""
    chosen = {n for n, c in CONDITIONS.items() if only in {None, c.question}}
    return [n for n in CONDITIONS if n in chosen | {CONDITIONS[name].against for name in chosen}]


def main() -> None:
    """Run what is missing, and write what is there."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/ablations"))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first", type=int, default=2000)
    parser.add_argument("--at-once", type=int, default=1, help="trainings, of a thread each")
    parser.add_argument(
        "--only",
        choices=QUESTIONS,
        help="; ".join(map(": ".join, QUESTIONS.items())).replace("%", "%%"),
    )
    parser.add_argument("--record", action="store_true", help=f"copy to {RESULTS.name}/")
    args = parser.parse_args()
    os.environ |= {"OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1"}  # of the processes to come
    scale, names = Scale(), wanted(args.only)
    places = [Place(args.out.resolve(), args.first + number) for number in range(args.seeds)]
    args.out.mkdir(parents=True, exist_ok=True)
    log, todo = args.out / "ablations.log", tasks(names, places)
    for said in work(todo, scale, at_once=args.at_once, log=log):
        print(said, flush=True)
        write(places, scale, args.out)
    if args.record:
        for suffix in ("json", "md"):
            shutil.copy(args.out / f"ablations.{suffix}", RESULTS)


def write(places: Iterable[Place], scale: Scale, out: Path) -> None:
    """`ablations.json` and `ablations.md`."""
    result = results(places, scale)
    result |= {"command": " ".join(["python", "-m", "benchmarks.ablations", *sys.argv[1:]])}
    result |= {name: said for name, said in origin().items() if name != "commit"}
    if result["rows"]:
        write_text(out / "ablations.json", json.dumps(result, indent=2) + "\n")
        write_text(out / "ablations.md", markdown(result))


def _start_worker(log: Path) -> None:
    """One thread, progress told to `log`, and no life after the parent's."""
    torch.set_num_threads(1)
    die_with_parent()
    with log.open("a") as said:
        os.dup2(said.fileno(), sys.stderr.fileno())


if __name__ == "__main__":
    main()
