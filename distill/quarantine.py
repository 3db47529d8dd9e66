"""Samples that a training run could not read: named in a file, counted against a budget."""

import json
import logging
import re
from collections.abc import Mapping
from pathlib import Path

from accelerate.utils import gather_object

from distill import atomic, job
from distill.tracking import read_rows

NAME = "quarantine.jsonl"

_log = logging.getLogger(__name__)


class Quarantine:
    """One process's part: `out/quarantine.jsonl`, or `quarantine-00001.jsonl` and so on beside it.

    A sample is named once, however often it comes up, with the update that lacked it. What a
    resumed run will do again is first taken back, so that it stops no longer at what was mended.

    Args:
        out: the run's folder.
        rank, world_size: of this process.
        samples: of all data sets together.
        budget: share of them that may be set aside.
        start: updates done; what came in later ones is taken back.
    """

    def __init__(
        self, out: Path, rank: int, world_size: int, *, samples: int, budget: float, start: int
    ) -> None:
        self._path = out / (f"quarantine-{rank:05d}.jsonl" if rank else NAME)
        self._out, self._rank, self._samples, self._budget = out, rank, samples, budget
        self._known: set[str] = set()
        self._elsewhere: set[str] = set()  # of those, what a lower rank counts
        for path in out.glob("quarantine*.jsonl"):
            # a run with more processes may have left files that are nobody's now
            of = _rank_of(path)
            if of is not None and of % world_size == rank:
                rows = [row for row in read_rows(path) if row.get("step", -1) < start]
                self._known |= {str(row["key"]) for row in rows}
                lines = "".join(json.dumps(row) + "\n" for row in rows)
                atomic.write_text(path, lines)  # without a last line that a kill cut off
                if not rows:
                    path.unlink()

    def __len__(self) -> int:
        return len(self._known - self._elsewhere)

    def add(self, reasons: Mapping[str, str], *, step: int) -> None:
        """Name samples that update `step` lacks, with reasons; those known already are left."""
        new = {key: reason for key, reason in reasons.items() if key not in self._known}
        if not new:
            return
        self._known |= new.keys()
        with self._path.open("a") as file:
            for key, reason in new.items():
                _log.warning("set aside: %s: %s", key, reason)
                file.write(json.dumps({"key": key, "reason": reason, "step": step}) + "\n")

    def check(self, total: int) -> None:
        """Hold the budget; all processes call it at the same step.

        Args:
            total: `len` of this, summed over the processes. Two may have met the same sample;
                only when the sum breaks the budget do they compare their keys.

        Raises:
            GuardStop: more than the budget.
        """
        if total <= self._budget * self._samples:
            return
        by_rank = gather_object([sorted(self._known)])
        self._elsewhere = set().union(*by_rank[: self._rank])
        distinct = len(set().union(*by_rank))
        if distinct > self._budget * self._samples:
            raise job.GuardStop(
                f"{distinct} of {self._samples} samples could not be read, more than the budget "
                f"of {self._budget:.2%}; {self._out / NAME} names them with the reasons (other "
                "processes' files lie beside it): mend those files, or raise max_quarantined"
            )


def _rank_of(path: Path) -> int | None:
    """None of a file that is not ours, such as somebody's copy."""
    named = re.fullmatch(r"quarantine(?:-(\d{5,}))?\.jsonl", path.name)
    return int(named[1] or 0) if named else None
