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
from typing import Any, Literal

import numpy as np
import torch
from scipy import stats

from benchmarks import ablation_jobs as jobs
from benchmarks.ablation_conditions import CONDITIONS, QUESTIONS
from benchmarks.ablation_jobs import TEACHERS, Place, Scale
from benchmarks.origin import origin
from distill.atomic import write_text
from distill.evaluation.evaluate import EvaluateJob
from distill.job import GuardStop, PartialFailure, describe, die_with_parent
from distill.train import TrainJob

RESULTS = Path(__file__).parent / "results"
METRICS = {"abs_rel": -1, "delta1": 1}  # and which way is better


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
    job.run(run, resume=True)
    photos = place.worlds / "photos" / "evaluation"
    scoring = EvaluateJob(model=run / "model", benchmark="photos", data=photos)
    scoring.run(run / "evaluation", resume=True)


def results(places: Iterable[Place], scale: Scale) -> dict[str, Any]:
    """What is there: rows, and each condition's statistics."""
    rows: dict[str, dict[int, dict[str, float]]] = {}
    found: dict[str, Any] = {}
    for place in places:
        runs = {f"teacher, {name}": place.teacher(name) for name in TEACHERS}
        for name, run in (runs | {name: place.student(name) for name in CONDITIONS}).items():
            path = run / "evaluation" / "summary.json"
            if path.is_file():
                summary = json.loads(path.read_text())
                rows.setdefault(name, {})[place.seed] = summary["means"]
                found["protocol"] = summary["protocol"]["text"]
    table: dict[str, Any] = {}
    for name, row in rows.items():
        condition = CONDITIONS.get(name)
        table[name] = {"seeds": len(row)} | {metric: spread(row, metric) for metric in METRICS}
        if condition and name != condition.against:
            reference = rows.get(condition.against, {})
            for metric, sign in METRICS.items():
                table[name][metric] |= paired(row, reference, metric, sign=sign)
    short = {
        name: {seed: {metric: scores[metric] for metric in METRICS} for seed, scores in row.items()}
        for name, row in rows.items()
    }
    return found | {"scale": vars(scale), "conditions": table, "rows": short}


def spread(row: dict[int, dict[str, float]], metric: str) -> dict[str, Any]:
    """Mean over the seeds, and standard deviation between them."""
    values = np.array([scores[metric] for scores in row.values()])
    found = {"mean": float(values.mean())}
    return found | ({"std": float(values.std(ddof=1))} if len(values) > 1 else {})


def paired(
    ours: dict[int, dict[str, float]],
    theirs: dict[int, dict[str, float]],
    metric: str,
    *,
    sign: int,
) -> dict[str, Any]:
    """Ours less theirs over the seeds that both have, with its 95 % interval (Student's t).

    `verdict` is better or worse where the interval leaves out 0, and undecided otherwise.
    """
    seeds = sorted(set(ours) & set(theirs))
    differences = np.array([ours[seed][metric] - theirs[seed][metric] for seed in seeds])
    if len(seeds) == 0:
        return {}
    found: dict[str, Any] = {
        "difference": float(differences.mean()),
        "pairs": len(seeds),
        "better": int((sign * differences > 0).sum()),
    }
    if len(seeds) > 1:
        error = stats.sem(differences)
        reach = float(stats.t.ppf(0.975, len(seeds) - 1) * error)
        found["interval_95"] = [found["difference"] - reach, found["difference"] + reach]
        decided = abs(found["difference"]) > reach
        word = "better" if sign * found["difference"] > 0 else "worse"
        found["verdict"] = word if decided else "undecided"
    return found


def finding(paper: str | None, verdict: str | None) -> str:
    """Whether what the papers found is found here."""
    if verdict is None:
        return ""
    if paper is None:
        return verdict
    if verdict == "undecided":
        return f"undecided (papers: {paper})"
    return f"{verdict}: {'holds' if verdict == paper else 'the papers found the opposite'}"


def markdown(result: dict[str, Any]) -> str:
    """The result as tables for people."""
    table, scale = result["conditions"], result["scale"]
    lines = [
        "# Ablations in miniature",
        "",
        f"Means ± standard deviations over seeds; `{result['command']}`, commit "
        f"{result['commit']}, {result['day']}, {result['machine']}.",
        f"Students of {scale['student_steps']} steps, teachers of {scale['teacher_steps']}, "
        f"{scale['photos']} photographs to learn from, {scale['evaluation']} to be judged by.",
        "Differences are paired by seed, with their 95 % interval (Student's t); `better` counts "
        "the seeds. A verdict needs an interval without 0; of twenty such verdicts on AbsRel one "
        "would be chance.",
    ]
    for letter, question in QUESTIONS.items():
        names = [n for n, c in CONDITIONS.items() if c.question == letter and n in table]
        if not names:
            continue
        lines += ["", f"## {letter}. {question}", ""]
        lines += ["| condition | differs | AbsRel | δ1 | ΔAbsRel | better | found |"]
        lines += ["| --- | --- | --- | --- | --- | --- | --- |"]
        lines += [_line(name, table[name]) for name in names]
    lines += ["", "## Teachers", "", "| teacher | AbsRel | δ1 |", "| --- | --- | --- |"]
    for name in (f"teacher, {name}" for name in TEACHERS):
        if name in table:
            lines += [
                f"| {name} | {_spread(table[name], 'abs_rel')} | {_spread(table[name], 'delta1')} |"
            ]
    return "\n".join([*lines, "", result["protocol"], ""])


def _line(name: str, row: dict[str, Any]) -> str:
    condition, scores = CONDITIONS[name], row["abs_rel"]
    cells = [name, condition.differs, _spread(row, "abs_rel"), _spread(row, "delta1")]
    if condition.against not in {"pseudo", name}:
        cells[1] += f" (against {condition.against})"
    if "interval_95" in scores:
        low, high = scores["interval_95"]
        cells += [f"{scores['difference']:+.4f} [{low:+.4f}, {high:+.4f}]"]
        cells += [f"{scores['better']} of {scores['pairs']}"]
    cells += [""] * (6 - len(cells)) + [finding(condition.paper, scores.get("verdict"))]
    return f"| {' | '.join(cells)} |"


def _spread(row: dict[str, Any], metric: str) -> str:
    found = row[metric]
    return f"{found['mean']:.4f}" + (f" ± {found['std']:.4f}" if "std" in found else "")


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
    result |= origin()
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
