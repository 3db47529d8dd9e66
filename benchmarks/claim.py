"""Does a student on pseudo-labels beat the same student on synthetic data? The demo, seed by seed.

    .venv/bin/python -m benchmarks.claim --out runs/claim --seeds 10 --first 1000

Depth Anything V2's central claim (Yang et al. 2024b, table 5) in miniature. Every seed has its own
worlds, initial weights, sample order, crops and perturbations, and evaluates on photographs of its
own; no recipe was tuned on these seeds. What is there is reused, so that a killed run goes on;
`--at-once 2` runs two seeds side by side. The result goes to `OUT/claim.json`; `--record` copies it
to `benchmarks/results/`. What a stage said is in `OUT/SEED/STAGE.log`.
"""

import argparse
import json
import shutil
import subprocess
import sys
from concurrent import futures
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from benchmarks.origin import origin

RESULTS = Path(__file__).parent / "results" / "claim.json"
MODELS = ("teacher", "student", "student_synthetic_only")


def chain(out: Path, seed: int, settings: list[str]) -> dict[str, Any]:
    """Run the demo with `seed` into `out`, unless it is there; its summary."""
    if (out / "summary.json").is_file():
        return json.loads((out / "summary.json").read_text())
    stages = {
        "worlds": [f"seed={seed}"],
        "teacher": [f"seed={seed}", *settings],
        "labels": [f"teacher={out / 'teacher' / 'model'}"],
        "student": [f"seed={seed}", f"labels={out / 'labels'}", *settings],
        "student_synthetic_only": [f"seed={seed}", *settings],
    }
    for stage, given in stages.items():
        data = [] if stage == "worlds" else ["--data", str(out / "worlds")]
        run_stage(out, stage, *data, "--out", str(out / stage), "--set", *given)
    run_stage(out, "evaluation", "--data", str(out), "--out", str(out))
    return json.loads((out / "summary.json").read_text())


def run_stage(out: Path, stage: str, *arguments: str) -> None:
    """Run one stage of the demo.

    Raises:
        RuntimeError: it failed; the end of what it said is told.
    """
    command = [sys.executable, "-m", "distill", "run", f"recipes.demo:{stage}", *arguments]
    out.mkdir(parents=True, exist_ok=True)
    log = out / f"{stage}.log"
    with log.open("w") as said:
        ran = subprocess.run([*command, "--resume"], stdout=said, stderr=said)
    if ran.returncode and (stage, ran.returncode) != ("labels", 1):  # 1: photos without a label
        raise RuntimeError(f"{out}: {stage} ended with {ran.returncode}: {log.read_text()[-2000:]}")


def verdict(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Wins and the mean relative gain in AbsRel, with its 95 % interval (Student's t)."""
    ours = np.array([row["student"]["abs_rel"] for row in rows])
    theirs = np.array([row["student_synthetic_only"]["abs_rel"] for row in rows])
    gains = 1 - ours / theirs
    found: dict[str, Any] = {
        "seeds": len(rows),
        "wins": int((gains > 0).sum()),
        "mean_gain": float(gains.mean()),
    }
    if len(rows) > 1:
        low, high = stats.t.interval(0.95, len(rows) - 1, gains.mean(), stats.sem(gains))
        found["interval_95"] = [float(low), float(high)]
    return found


def main() -> None:
    """Run every seed and write rows and verdict."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/claim"))
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first", type=int, default=1000)
    parser.add_argument("--at-once", type=int, default=1, help="seeds")
    parser.add_argument("--set", nargs="*", default=[], help="of every training run")
    parser.add_argument("--record", action="store_true", help=f"copy the result to {RESULTS.name}")
    args = parser.parse_args()
    seeds = range(args.first, args.first + args.seeds)
    rows: list[dict[str, Any]] = []
    with futures.ThreadPoolExecutor(args.at_once) as pool:
        summaries = pool.map(lambda seed: chain(args.out / str(seed), seed, args.set), seeds)
        for seed, summary in zip(seeds, summaries, strict=True):
            scores = {
                name: {metric: summary[name][metric] for metric in ("abs_rel", "delta1")}
                for name in MODELS
            }
            rows.append({"seed": seed, **scores})
            print(json.dumps(rows[-1]), flush=True)
            result = {**verdict(rows), "protocol": summary["protocol"], "rows": rows}
            result["command"] = " ".join(["python", "-m", "benchmarks.claim", *sys.argv[1:]])
            result |= {"machine": origin()["machine"], "commits": _commits(args.out)}
            (args.out / "claim.json").write_text(json.dumps(result, indent=2) + "\n")
    if args.record:
        shutil.copy(args.out / "claim.json", RESULTS)
    print(json.dumps(verdict(rows)))


def _commits(out: Path) -> list[str]:
    """Of the code that trained the students, as their runs recorded it."""
    runs = [json.loads(path.read_text()) for path in out.glob("*/student/run.json")]
    return sorted({start["commit"] for run in runs for start in run["starts"]})


if __name__ == "__main__":
    main()
