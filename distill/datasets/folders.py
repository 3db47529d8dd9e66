"""The files below a folder, in order, one folder in memory; and whether they are the same still."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path


def files_below(
    root: Path,
    *,
    of: Path | None = None,
    suffixes: tuple[str, ...] = ("",),
    times: dict[str, str] | None = None,
) -> Iterator[str]:
    """Relative posix paths of all files below `root`, in sorted order.

    Hidden files and folders, and `__MACOSX`, are left out; links to folders are followed, but never
    in a circle. Files are not opened.

    Args:
        root: the folder.
        of: what paths are relative to; `root` by default.
        suffixes: what names end with, in lower case.
        times: receives the path of each folder and its time of change before it was looked into,
            by which `unchanged` knows it again.

    Raises:
        FileNotFoundError: `root` is not there.
        ValueError: a file name is not valid UTF-8.
    """
    prefix = "" if of in (None, root) else f"{root.relative_to(of).as_posix()}/"
    return _walk(root, prefix, suffixes, (_identity(root),), {} if times is None else times)


def unchanged(root: Path, times: Mapping[str, str]) -> bool:
    """Whether nothing was added to or taken from the folders whose `times` `files_below` took."""
    try:
        return all((root / name).stat().st_mtime_ns == int(t) for name, t in times.items())
    except OSError:
        return False


def _walk(
    folder: Path,
    prefix: str,
    suffixes: tuple[str, ...],
    above: tuple[tuple[int, int], ...],
    times: dict[str, str],
) -> Iterator[str]:
    times[prefix] = str(folder.stat().st_mtime_ns)
    with os.scandir(folder) as entries:
        # a folder sorts with its slash, which makes the whole walk sorted by relative path
        found = sorted(e.name + "/" * e.is_dir() for e in entries if not e.name.startswith("."))
    for name in found:
        if not name.isascii():
            _check_utf8(folder, name)
        if not name.endswith("/"):
            if name.lower().endswith(suffixes):
                yield prefix + name
        elif name != "__MACOSX/" and (identity := _identity(folder / name)) not in above:
            yield from _walk(folder / name, prefix + name, suffixes, (*above, identity), times)


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino


def _check_utf8(folder: Path, name: str) -> None:
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{folder}: the file name {name!r} is not UTF-8; rename it") from error
