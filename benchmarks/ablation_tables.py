"""What `benchmarks.ablations` has found: statistics over seeds, and tables for people."""

import json
from collections.abc import Iterable
from typing import Any

import numpy as np
from scipy import stats

from benchmarks.ablation_conditions import CONDITIONS, QUESTIONS
from benchmarks.ablation_jobs import TEACHERS, Place, Scale

METRICS = {"abs_rel": -1, "delta1": 1}  # and which way is better
NOTES = (
    "Everything trains from scratch on procedural worlds; the `photographs` are renderings of "
    "another world. Signs may be compared with the papers', numbers not.",
    "No DINOv2 is here: features are aligned with the encoder of `teacher, small`, which learned "
    "depth from the rendered truth with a seed of its own. The papers' students start from the "
    "encoder that they are held to, which only `started` does.",
    "Dropping leaves out pixels of the affine-invariant term; gradient matching sees all of them.",
    "A condition without a paper's finding was not measured there, or not by these metrics.",
)


def results(places: Iterable[Place], scale: Scale) -> dict[str, Any]:
    """What is there: rows, and each condition's statistics."""
    rows: dict[str, dict[int, dict[str, float]]] = {}
    found: dict[str, Any] = {}
    commits: set[str] = set()
    for place in places:
        runs = {f"teacher, {name}": place.teacher(name) for name in TEACHERS}
        for name, run in (runs | {name: place.student(name) for name in CONDITIONS}).items():
            path = run / "evaluation" / "summary.json"
            if path.is_file():
                summary = json.loads(path.read_text())
                rows.setdefault(name, {})[place.seed] = summary["means"]
                found["protocol"] = summary["protocol"]["text"]
                commits.add((run / "commit").read_text())
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
    found |= {"commits": sorted(commits), "scale": vars(scale)}
    return found | {"conditions": table, "rows": short}


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
        f"Means ± standard deviations over seeds; `{result['command']}`, trained "
        f"by commit {', '.join(result['commits'])}, {result['day']}, {result['machine']}.",
        f"Students of {scale['student_steps']} steps, teachers of {scale['teacher_steps']}, "
        f"{scale['photos']} photographs to learn from, {scale['evaluation']} to be judged by.",
        "Differences are paired by seed, with their 95 % interval (Student's t); `better` counts "
        "the seeds. A verdict needs an interval without 0; of twenty changes without an effect one "
        "would get a verdict by chance.",
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
    lines += ["", "## To be known", "", *(f"- {note}" for note in NOTES)]
    return "\n".join([*lines, f"- {result['protocol']}", ""])


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
