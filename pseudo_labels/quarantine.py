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


def set_aside(
    out: Path,
    reasons: Mapping[str, str],
    *,
    claims: Claims,
    check: Callable[[Mapping[str, str]], None],
) -> None:
    """Add images without a label to those that any process of the job found.

    Args:
        out: the store.
        reasons: by key.
        claims: of this process; one process at a time may add, or entries would be lost.
        check: raises where there are too many; then nothing may be committed, by whomever.
    """
    with claims.turn():
        known = read_quarantine(out)
        check(known)
        if reasons:
            known |= reasons
            write_quarantine(out, known)
            check(known)


def quarantined(out: Path) -> dict[str, str]:
    """Images of the committed shards that got no label, each with its reason."""
    reasons: dict[str, str] = {}
    for number in committed(out):
        reasons |= read_report(out, number).quarantined
    return reasons


def read_quarantine(out: Path) -> dict[str, str]:
    """What `quarantine.jsonl` says, by key; nothing where there is no such file."""
    path = out / "quarantine.jsonl"
    if not path.is_file():
        return {}
    entries = map(json.loads, path.read_text().splitlines())
    return {entry["key"]: entry["reason"] for entry in entries}


def write_quarantine(out: Path, reasons: Mapping[str, str]) -> None:
    """Write `quarantine.jsonl`, sorted by key; without reasons there is no such file."""
    path = out / "quarantine.jsonl"
    if not reasons:
        path.unlink(missing_ok=True)
        return
    lines = [json.dumps({"key": key, "reason": reasons[key]}) for key in sorted(reasons)]
    atomic.write_text(path, "\n".join(lines) + "\n")
