"""Files that appear complete or not at all: temporary name, fsync, rename, fsync of the folder.

A temporary name is the final one, a dot in front and `.tmp-<pid>` behind. What a killed process
left under such a name is garbage by definition; `sweep` removes it.
"""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to `path`, replacing it atomically and durably. Creates the parent folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(path)
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    commit(temporary, path)


def write_text(path: Path, text: str) -> None:
    """`write_bytes` of UTF-8 text."""
    write_bytes(path, text.encode())


@contextlib.contextmanager
def replacing_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path to write; on success it becomes `path`, on error it is removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(path)
    try:
        yield temporary
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    fsync(temporary)
    commit(temporary, path)


@contextlib.contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder to fill; on success it becomes `path`, on error it is removed.

    An existing `path` is replaced: the old one is moved aside first, since a folder that is not
    empty cannot be renamed over. `sweep` restores it if the process died between the two renames.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary, old = _temporary(path), path.with_name(f".{path.name}.old")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        yield temporary
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    for file in temporary.rglob("*"):
        fsync(file)
    fsync(temporary)
    if path.exists():
        shutil.rmtree(old, ignore_errors=True)
        path.rename(old)
    commit(temporary, path)
    shutil.rmtree(old, ignore_errors=True)


def sweep(folder: Path) -> None:
    """Remove what killed processes left in `folder`, and put back a folder they had moved aside."""
    for left in folder.glob(".*.tmp-*"):
        if left.is_dir():
            shutil.rmtree(left)
        else:
            left.unlink()
    for old in folder.glob(".*.old"):
        path = folder / old.name[1 : -len(".old")]
        if path.exists():
            shutil.rmtree(old)
        else:
            old.rename(path)


def commit(temporary: Path, path: Path) -> None:
    """Rename a file or folder that is already synced, and sync the folder that names it."""
    temporary.replace(path)
    fsync(path.parent)


def fsync(path: Path) -> None:
    """Flush a file or folder to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.tmp-{os.getpid()}")
