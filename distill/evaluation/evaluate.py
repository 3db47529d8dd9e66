"""A model on a benchmark: one row per image, their means, and the protocol beside them."""

import dataclasses
import json
import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from accelerate.utils import gather_object
from tqdm import tqdm

from distill import atomic
from distill import job as jobs
from distill.evaluation import benchmarks, rows
from distill.evaluation.boundary import BOUNDARY_METRICS
from distill.evaluation.metrics import METRICS
from distill.evaluation.pairs import PairDataset, accuracies
from distill.evaluation.protocols import Protocol, Published, digest
from distill.evaluation.rows import Predictor
from distill.models.foreign import load_predictor
from distill.types import Dataset, Space

_LOG = logging.getLogger(__name__)
_RECORDED = ("distill", "torch", "transformers", "pillow")


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Rows in the order of the data set; the means over the rows that were measured."""

    rows: list[dict[str, Any]]
    means: dict[str, float]
    protocol: Protocol

    @property
    def counts(self) -> dict[str, int]:
        """How many images carry each flag; "measured" counts those without "skipped"."""
        flags = Counter(flag for row in self.rows for flag in row["flags"])
        return {"measured": len(self.rows) - flags["skipped"], **dict(sorted(flags.items()))}


@dataclass(frozen=True, kw_only=True)
class EvaluateJob:
    """Score a model on a benchmark into `out/rows.jsonl` and `out/summary.json`.

    Attributes:
        model: folder or hub id of any depth model of transformers.
        benchmark: a name in `benchmarks.BENCHMARKS`.
        data: its folder; None: the benchmark's own place, where it has one.
        space: what the model's numbers mean; None: as its architecture declares.
    """

    model: str | Path
    benchmark: str
    data: Path | None = None
    space: Space | None = None

    def __post_init__(self) -> None:
        benchmarks.find(self.benchmark)

    def run(self, out: Path, *, resume: bool = False) -> None:
        """Evaluate; every process takes its share, the first one writes, all wait for the files.

        With `resume`, a summary of the same weights, images, truth and protocol is kept as it is,
        wherever they lie.

        Raises:
            ValueError: `out` holds a run and `resume` is not given, or it is one of something else;
                the data cannot be read, or the model does not fit the protocol.
            FileNotFoundError: a folder is missing.
            GuardStop: the model is dead; nothing is written.
        """
        started = time.perf_counter()
        state = jobs.processes()
        path = out / "summary.json"
        if path.is_file() and not resume:
            raise ValueError(f"{out} holds a run: add --resume or choose another --out")
        benchmark = benchmarks.find(self.benchmark)
        data = benchmark.folder(self.data)
        dataset = benchmark.open(data)
        predictor = load_predictor(self.model, device=str(state.device), space=self.space)
        subject = {
            "benchmark": benchmark.name,
            "data": str(data),
            "model": str(self.model),
            "model_sha256": predictor.sha256,
            "licence": predictor.licence,
            "space": predictor.space.value,
        }
        if path.is_file():
            _check_same(path, subject, benchmark, dataset)
            _LOG.info("%s is there already", path)
            return
        result = evaluate(predictor, benchmark, dataset)
        if state.is_main_process:
            summary = {
                **subject,
                **summarise(result),
                "seconds": round(time.perf_counter() - started, 3),
                "processes": state.num_processes,
                "versions": {name: metadata.version(name) for name in _RECORDED},
            }
            write(out, result.rows, summary)
        state.wait_for_everyone()


def evaluate(predictor: Predictor, benchmark: benchmarks.Benchmark, dataset: Dataset) -> Evaluation:
    """Score each image of `data` exactly once, over all processes of the launch.

    Images are predicted one by one, so that a number depends on its image alone; every process
    returns all rows.

    Args:
        predictor: the model.
        benchmark: whose protocol it is.
        dataset: of what the protocol measures: metric depth, or pairs of points.

    Raises:
        ValueError: an image cannot be read or scored (on every process, not only where it failed),
            none has enough pixels to measure, or the data set holds something else.
        GuardStop: more than half of the measured images have a prediction that is mostly zero.
    """
    protocol = benchmark.protocol_for(len(dataset))
    if isinstance(dataset, PairDataset) != (protocol.measures == "pairs"):
        raise ValueError(
            f"benchmark {benchmark.name}: protocol {protocol.id} measures {protocol.measures}, "
            f"and {dataset.name} is not a data set of that"
        )
    ordered = _each(dataset, lambda i: rows.row(predictor, dataset, i, protocol), benchmark.name)
    measured = [row for row in ordered if "skipped" not in row["flags"]]
    if not measured:
        raise ValueError(
            f"benchmark {benchmark.name}: none of {len(ordered)} images has "
            f"{protocol.min_pixels} pixels to measure under {protocol.id}; is the depth in metres?"
            if protocol.measures != "pairs"
            else f"benchmark {benchmark.name}: none of {len(ordered)} images has a pair of points"
        )
    dead = sum("mostly zero" in row["flags"] for row in measured)
    if dead > len(measured) / 2:
        raise jobs.GuardStop(
            f"benchmark {benchmark.name}: {dead} of {len(measured)} measured images "
            f"({dead / len(measured):.0%}) have a prediction that is mostly exact zeros; the "
            "model's final ReLU has died, and its scores would mean nothing"
        )
    return Evaluation(rows=ordered, means=_means(measured, protocol), protocol=protocol)


def summarise(result: Evaluation) -> dict[str, Any]:
    """The part of `summary.json` that the result decides.

    `floored` is the mean share of the measured pixels at the floor or the clip.
    """
    pairs = [row["pairs"] for row in result.rows if "pairs" in row]
    floored = [row["floored"] for row in result.rows if "floored" in row]
    return {
        "protocol": result.protocol.as_json(),
        "published": [dataclasses.asdict(number) for number in result.protocol.published],
        "means": result.means,
        "n": result.counts["measured"],
        "images": len(result.rows),
        **({"pairs": sum(pairs)} if pairs else {}),
        **({"floored": math.fsum(floored) / len(floored)} if floored else {}),
        "flags": {flag: n for flag, n in result.counts.items() if flag != "measured"},
        "keys_sha256": digest([row["key"] for row in result.rows]),
        "data_sha256": digest([row["sha256"] for row in result.rows]),
    }


def write(out: Path, scored: Sequence[dict[str, Any]], summary: dict[str, Any]) -> None:
    """`rows.jsonl`, then `summary.json`: where the summary is, the rows are."""
    lines = "".join(json.dumps(row) + "\n" for row in scored)
    atomic.write_text(out / "rows.jsonl", lines)
    atomic.write_text(out / "summary.json", json.dumps(summary, indent=2) + "\n")
    means = ", ".join(f"{name} {value:.4f}" for name, value in summary["means"].items())
    published = [Published(**number).text for number in summary.get("published", ())]
    said = (means, *published, summary["protocol"]["text"], str(out / "summary.json"))
    _LOG.info("%s", "\n".join(said))


def _check_same(
    path: Path, subject: dict[str, Any], benchmark: benchmarks.Benchmark, dataset: Dataset
) -> None:
    """That the summary at `path` is what would be written; every image is read to know it.

    Raises:
        ValueError: it is not; what differs is named.
    """
    done = json.loads(path.read_text())
    keys = [dataset.key(index) for index in range(len(dataset))]
    pixels = _each(dataset, lambda index: rows.digest(dataset, index), benchmark.name)
    wanted = {
        **{name: subject[name] for name in ("benchmark", "model_sha256", "space")},
        "protocol": benchmark.protocol_for(len(dataset)).as_json(),
        "keys_sha256": digest(keys),
        "data_sha256": digest(pixels),
    }
    different = [
        name if name == "protocol" else f"{name}: {done.get(name)} -> {value}"
        for name, value in wanted.items()
        if done.get(name) != value
    ]
    if different:
        raise ValueError(
            f"{path.parent} holds another run ({'; '.join(different)}); choose another --out, or "
            "remove that folder"
        )


def _means(measured: Sequence[dict[str, Any]], protocol: Protocol) -> dict[str, float]:
    """Over the rows that were measured, as the protocol aggregates."""
    if protocol.measures == "pairs":
        return accuracies(measured)
    names = METRICS if protocol.measures == "depth" else BOUNDARY_METRICS
    return {name: math.fsum(row[name] for row in measured) / len(measured) for name in names}


def _each(dataset: Dataset, make: Callable[[int], Any], name: str) -> list[Any]:
    """`make(index)` of each sample in order: made by one process, known to all.

    Raises:
        ValueError: a sample could not be read or made, on whichever process.
    """
    state = jobs.processes()
    mine = range(state.process_index, len(dataset), state.num_processes)
    made, failure = [], []
    try:
        for index in tqdm(mine, desc=name, disable=not state.is_main_process):
            made.append((index, make(index)))
    except (ValueError, OSError) as error:  # the other processes wait in the gather: tell them
        failure.append(str(error))
    failures = gather_object(failure)
    if failures:
        raise ValueError(f"benchmark {name}: " + "; ".join(failures))
    return [value for _, value in sorted(gather_object(made), key=lambda pair: pair[0])]
