"""`distill plan --audit`: what a finished run took, beside what its plan says."""

import calendar
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from distill.labels.meta import read_meta
from distill.plan.question import Question
from distill.plan.reckoning import Plan, digits, reckon, scaled


@dataclass(frozen=True, kw_only=True)
class Row:
    """One quantity.

    Attributes:
        name: what it is.
        planned: in `unit`.
        actual: in `unit`; None where the run does not tell.
        unit: s, B, ...
    """

    name: str
    planned: float
    actual: float | None
    unit: str

    @property
    def error(self) -> float | None:
        """Planned against actual: +0.1 is planned a tenth too much."""
        return self.planned / self.actual - 1 if self.actual else None


@dataclass(frozen=True, kw_only=True)
class Audit:
    """A run and its plan.

    Attributes:
        run: its folder.
        rows: what is compared.
        plan: that it is compared with.
        notes: what to know about the comparison.
    """

    run: Path
    rows: Sequence[Row]
    plan: Plan
    notes: tuple[str, ...]

    @property
    def text(self) -> str:
        """For people."""
        return "\n".join([f"{'':<12}{'planned':>14}{'actual':>14}{'error':>9}", *self._lines()])

    def as_json(self) -> dict[str, Any]:
        """For programs: nothing rounded."""
        rows = {
            row.name: {"planned": row.planned, "actual": row.actual, "error": row.error}
            for row in self.rows
        }
        return {"run": str(self.run), "rows": rows, "notes": self.notes} | {
            "plan": self.plan.as_json()
        }

    def _lines(self) -> Iterator[str]:
        for row in self.rows:
            planned, actual, error = _shown(row.planned, row.unit), "not told", ""
            if row.actual is not None and row.error is not None:
                actual, error = _shown(row.actual, row.unit), f"{row.error:+.0%}"
            yield f"{row.name:<12}{planned:>14}{actual:>14}{error:>9}"
        yield from self.notes


def audit(job: Any, question: Question, run: Path) -> Audit:
    """Compare the run of `job` in the folder `run` with its plan.

    Raises:
        ValueError: the run is not finished, or belongs to another job; or as `reckon`.
        FileNotFoundError: there is none.
    """
    told = _labelled(run) if (run / "store.json").is_file() else _trained(run)
    images = told["images"]
    if told["kind"] == "labelling":
        question = replace(question, images=images)
    plan = reckon(job, question)
    if plan.load.kind != told["kind"] or plan.load.images != images:
        raise ValueError(
            f"{run} is {told['kind']} of {images} images, this job is {plan.load.kind} of "
            f"{plan.load.images}; give the recipe, --data and --set that the run had"
        )
    seconds = plan.seconds - (0.0 if told["with_start"] else plan.start)
    rows = [
        Row(name="time", planned=seconds, actual=told["seconds"], unit="s"),
        Row(name="speed", planned=images / seconds, actual=_rate(told), unit="images/s"),
        Row(name="disk", planned=plan.written, actual=float(told["bytes"]), unit="B"),
        Row(name="memory", planned=plan.held, actual=told["memory"], unit="B"),
    ]
    return Audit(run=run, rows=rows, plan=plan, notes=told["notes"])


def _rate(told: dict[str, Any]) -> float | None:
    return told["images"] / told["seconds"] if told["seconds"] else None


def _trained(run: Path) -> dict[str, Any]:
    """What `summary.json` says, and the bytes of checkpoints and model."""
    path = run / "summary.json"
    if not path.is_file():
        raise FileNotFoundError(
            f"plan: no {path}: not a run, or one that is not finished; go on with --resume"
        )
    summary = json.loads(path.read_text())
    if "images" not in summary:
        raise ValueError(f"plan: {path} is not that of a training run")
    return {
        "kind": "training",
        "images": summary["images"],
        "seconds": summary["seconds"],
        "with_start": False,
        "bytes": sum(_size(run / name) for name in ("checkpoints", "model")),
        "memory": float(summary["peak_bytes"]) if "peak_bytes" in summary else None,
        "notes": (),
    }


def _labelled(store: Path) -> dict[str, Any]:
    """What the index files' dates and the record of the starts say."""
    meta, written = read_meta(store), sorted((store / "index").glob("labels-*.parquet"))
    if len(written) < meta.shards:
        raise ValueError(
            f"plan: {store} has {len(written)} of {meta.shards} shards; finish it with --resume"
        )
    record = store / "run.json"
    starts = json.loads(record.read_text())["starts"] if record.is_file() else []
    seconds, notes = None, ()
    if len(starts) == 1:
        begin = calendar.timegm(time.strptime(starts[0]["time"], "%Y-%m-%dT%H:%M:%SZ"))
        seconds = max(path.stat().st_mtime for path in written) - begin
    else:
        notes = (f"time: only a run of one start tells, this one has {len(starts)}",)
    shards = [path for path in store.rglob("labels-*") if path.is_file()]
    return {
        "kind": "labelling",
        "images": meta.keys,
        "seconds": seconds,
        "with_start": True,
        "bytes": sum(path.stat().st_size for path in shards),
        "memory": None,
        "notes": notes,
    }


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _shown(number: float, unit: str) -> str:
    return scaled(number, unit) if unit == "B" else f"{digits(number)} {unit}"
