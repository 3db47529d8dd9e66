"""Images that got no label: `quarantine.jsonl`, which all processes of a job share.

A shard's index says the same of its own images, but only once it is committed. The file also has
what a process found in the shard that it stopped at, so that every other process stops, too.
"""

import errno
import json
from collections.abc import Callable, Mapping
from pathlib import Path

from distill import atomic
from distill.labels.shards import committed, read_report
from distill.quarantine import NAME
from pseudo_labels.claims import Claims

_NOT_THE_IMAGE = {
    *(errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOSPC, errno.EDQUOT, errno.EINTR),
    *(errno.ESTALE, errno.ENOTCONN, errno.ESHUTDOWN, errno.EHOSTDOWN, errno.EHOSTUNREACH),
    *(errno.ENETDOWN, errno.ENETUNREACH, errno.ENETRESET, errno.ENODEV, errno.ENXIO),
}


def is_of_the_image(error: Exception) -> bool:
    """Whether an error in reading an image says something of this image, so that it is set aside.

    A source that cannot be reached, a mount that is gone or a process without file descriptors
    would be said of every image that comes next; such an error stops the job, which is resumed.
    """
    if isinstance(error, (ConnectionError, TimeoutError)):
        return False
    if isinstance(error, OSError):
        return error.errno not in _NOT_THE_IMAGE
    return isinstance(error, ValueError)


class Quarantine:
    """What all processes of a job have set aside, as this process has seen it.

    The file grows by lines while the job runs, in any order, and each process reads what is new to
    it: a commit costs what was found since the last one, however many images came before.

    Args:
        out: the store.
        claims: of this process; one process at a time may add.
    """

    def __init__(self, out: Path, claims: Claims) -> None:
        self._path, self._claims = out / NAME, claims
        self._known: dict[str, str] = {}
        self._end = 0  # bytes that were read; behind the last whole line

    def add(
        self, reasons: Mapping[str, str], *, check: Callable[[Mapping[str, str]], None]
    ) -> None:
        """Add images without a label to those that any process of the job found.

        Args:
            reasons: by key.
            check: raises where there are too many; then nothing may be committed, by whomever.
        """
        with self._claims.turn():
            self._catch_up()
            check(self._known)
            if reasons:
                self._append(_lines(reasons))
                self._known |= reasons
                check(self._known)

    def _catch_up(self) -> None:
        if not self._path.is_file():
            return
        with self._path.open("rb") as file:
            file.seek(self._end)
            new = file.read()
        whole = new[: new.rfind(b"\n") + 1]  # a killed process may have left half a line
        self._known |= _parsed(whole.decode())
        self._end += len(whole)

    def _append(self, lines: str) -> None:
        data = lines.encode()
        with self._path.open("r+b" if self._path.exists() else "w+b") as file:
            file.seek(self._end)
            file.truncate()
            file.write(data)
        self._end += len(data)


def quarantined(out: Path) -> dict[str, str]:
    """Images of the committed shards that got no label, each with its reason."""
    reasons: dict[str, str] = {}
    for number in committed(out):
        reasons |= read_report(out, number).quarantined
    return reasons


def read_quarantine(out: Path) -> dict[str, str]:
    """What `quarantine.jsonl` says, by key; nothing where there is no such file."""
    path = out / NAME
    return _parsed(path.read_text()) if path.is_file() else {}


def write_quarantine(out: Path, reasons: Mapping[str, str]) -> None:
    """Write `quarantine.jsonl`, sorted by key; without reasons there is no such file."""
    path = out / NAME
    if reasons:
        atomic.write_text(path, _lines(reasons))
    else:
        path.unlink(missing_ok=True)


def _lines(reasons: Mapping[str, str]) -> str:
    entries = ({"key": key, "reason": reasons[key]} for key in sorted(reasons))
    return "".join(json.dumps(entry) + "\n" for entry in entries)


def _parsed(lines: str) -> dict[str, str]:
    entries = map(json.loads, lines.splitlines())
    return {entry["key"]: entry["reason"] for entry in entries}
