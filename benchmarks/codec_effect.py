"""What rounding the labels costs: the gradient term of a label, and students that learn from them.

    .venv/bin/python -m benchmarks.codec_effect --out runs/codec_effect --seeds 5 --at-once 2

Takes the demo's worlds and teacher (made with the given seed unless they are in `OUT`), labels the
photographs once for each codec, trains one student for each codec and seed, and scores them on the
held-out photographs. `Float32` keeps every bit; `JpegXl(levels=33)` is there to show that the
measure would notice. The result goes to `benchmarks/results/codec_effect.json`.
"""

import argparse
import json
import sys
from concurrent import futures
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import stats

from benchmarks.claim import run_stage
from benchmarks.origin import origin
from distill.evaluation.compare import CompareJob
from distill.job import PartialFailure
from distill.labels.codec import Codec, Float32, JpegXl
from distill.labels.store import LabelStore
from distill.losses.gradient_matching import gradient_matching
from recipes import demo

RESULTS = Path(__file__).parent / "results" / "codec_effect.json"
CODECS: dict[str, Codec] = {
    "float32": Float32(),
    "levels 65536": JpegXl(levels=65536),
    "levels 2048": JpegXl(),
    "levels 1024": JpegXl(levels=1024),
    "levels 33": JpegXl(levels=33),
}
TRAINED = ("float32", "levels 2048", "levels 33")


def prepare(out: Path, seed: int) -> None:
    """Worlds, teacher, and a store for each codec; what is there is kept."""
    worlds = out / "worlds"
    run_stage(out, "worlds", "--out", str(worlds), "--set", f"seed={seed}")
    given = ["--data", str(worlds), "--out", str(out / "teacher"), "--set", f"seed={seed}"]
    run_stage(out, "teacher", *given)
    for name, codec in CODECS.items():
        job = replace(demo.labels(worlds, teacher=out / "teacher" / "model"), codec=codec)
        try:
            job.run(_store(out, name), resume=True)
        except PartialFailure as error:  # photographs without a label; the same for each codec
            print(f"{name}: {len(error.failures)} photographs without a label", file=sys.stderr)


def of_labels(out: Path) -> dict[str, dict[str, float]]:
    """Bytes of a label, its largest error relative to its range, and its gradient term."""
    exact = LabelStore(_store(out, "float32"))
    found: dict[str, dict[str, float]] = {}
    for name in CODECS:
        store = LabelStore(_store(out, name))
        errors, terms = [], []
        for key in list(exact.keys()):
            truth, label = exact.read(key), store.read(key)
            values, valid = truth.prediction.values, truth.valid
            span = values.max() - values.min()
            errors.append(float((label.prediction.values - values).abs().max() / span))
            pred = label.prediction.values[None]
            terms.append(float(gradient_matching(pred, values[None], valid[None])))
        found[name] = {
            "bytes": store.stats()["bytes_per_label"],
            "largest_error": max(errors),
            "gradient_term": float(np.mean(terms)),
        }
    return found


def student(out: Path, name: str, seed: int) -> None:
    """One student on the labels of one codec."""
    folder = out / _name(name) / str(seed)
    given = [f"seed={seed}", f"labels={_store(out, name)}"]
    data = ["--data", str(out / "worlds"), "--out", str(folder / "student")]
    run_stage(folder, "student", *data, "--set", *given)


def scores(out: Path, seeds: range) -> dict[str, list[dict[str, float]]]:
    """AbsRel and delta1 on the held-out photographs, by codec, one entry for each seed."""
    models = {
        f"{_name(name)}-{seed}": out / _name(name) / str(seed) / "student" / "model"
        for name in TRAINED
        for seed in seeds
    }
    held_out = out / "worlds" / "photos" / "evaluation"
    CompareJob(models=models, benchmark="photos", data=held_out).run(out / "scores", resume=True)
    summary = json.loads((out / "scores" / "summary.json").read_text())
    return {
        name: [
            {metric: summary[f"{_name(name)}-{seed}"][metric] for metric in ("abs_rel", "delta1")}
            for seed in seeds
        ]
        for name in TRAINED
    }


def difference(found: dict[str, list[dict[str, float]]], name: str) -> dict[str, Any]:
    """AbsRel of one codec's students minus float32's of the same seed: mean, 95 % interval."""
    pairs = zip(found[name], found["float32"], strict=True)
    gaps = np.array([ours["abs_rel"] - exact["abs_rel"] for ours, exact in pairs])
    told: dict[str, Any] = {"mean": float(gaps.mean())}
    if len(gaps) > 1:
        low, high = stats.t.interval(0.95, len(gaps) - 1, gaps.mean(), stats.sem(gaps))
        told["interval_95"] = [float(low), float(high)]
    return told


def main() -> None:
    """Run what is missing and write the result."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/codec_effect"))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--at-once", type=int, default=1, help="students")
    args = parser.parse_args()
    torch.set_num_threads(1)
    prepare(args.out, args.first)
    labels = of_labels(args.out)
    print(json.dumps(labels, indent=2), flush=True)
    seeds = range(args.first, args.first + args.seeds)
    with futures.ThreadPoolExecutor(args.at_once) as pool:
        work = [(name, seed) for seed in seeds for name in TRAINED]
        list(pool.map(lambda one: student(args.out, *one), work))
    found = scores(args.out, seeds)
    result = {
        "labels": labels,
        "students": found,
        "abs_rel_minus_float32": {name: difference(found, name) for name in TRAINED[1:]},
        "command": " ".join(["python", "-m", "benchmarks.codec_effect", *sys.argv[1:]]),
        **origin(),
    }
    RESULTS.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result["abs_rel_minus_float32"], indent=2))


def _name(codec: str) -> str:
    return codec.replace(" ", "_")


def _store(out: Path, codec: str) -> Path:
    return out / _name(codec) / "labels"


if __name__ == "__main__":
    main()
