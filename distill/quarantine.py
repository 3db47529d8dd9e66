"""Samples that a training run could not read: named in a file, counted against a budget."""

import json
import logging
from collections.abc import Mapping
from pathlib import Path

from distill import atomic, job
from distill.tracking import read_rows

NAME = "quarantine.jsonl"

_log = logging.getLogger(__name__)


class Quarantine:
    """One process's part: `out/quarantine.jsonl`, or `quarantine-00001.jsonl` and so on beside it.

    A sample is named once, however often it comes up; a resumed run goes on with what is there.

    Args:
        out: the run's folder.
        rank, world_size: of this process.
        samples: of all data sets together.
        budget: share of them that may be set aside.
    """

    def __init__(
        self, out: Path, rank: int, world_size: int, *, samples: int, budget: float
    ) -> None:
        self._path = out / (f"quarantine-{rank:05d}.jsonl" if rank else NAME)
        self._out, self._samples, self._budget = out, samples, budget
        self._known: set[str] = set()
        for path in out.glob("quarantine*.jsonl"):
            # a run with more processes may have left files that are nobody's now
            if _rank(path) % world_size == rank:
                rows = list(read_rows(path))
                self._known |= {str(row["key"]) for row in rows}
                lines = "".join(json.dumps(row) + "\n" for row in rows)
                atomic.write_text(path, lines)  # without a last line that a kill cut off

    def __len__(self) -> int:
        return len(self._known)

    def add(self, reasons: Mapping[str, str]) -> None:
        """Name samples, each with the reason; those known already are left."""
        new = {key: reason for key, reason in reasons.items() if key not in self._known}
        if not new:
            return
        self._known |= new.keys()
        with self._path.open("a") as file:
            for key, reason in new.items():
                _log.warning("set aside: %s: %s", key, reason)
                file.write(json.dumps({"key": key, "reason": reason}) + "\n")

    def check(self, total: int) -> None:
        """Hold the budget.

        Args:
            total: set aside by all processes.

        Raises:
            GuardStop: more than the budget.
        """
        if total > self._budget * self._samples:
            raise job.GuardStop(
                f"{total} of {self._samples} samples could not be read, more than the budget of "
                f"{self._budget:.2%}; {self._out / NAME} names them with the reasons: mend or "
                "remove those files, or raise max_quarantined"
            )


def _rank(path: Path) -> int:
    return int(path.stem.removeprefix("quarantine").removeprefix("-") or 0)
