"""Files that appear complete or not at all: temporary name, fsync, rename, fsync of the folder.

A temporary name is the final one, a dot in front and `.tmp-<pid>` behind. What a killed process
left under such a name is garbage by definition; `sweep` removes it. An error leaves no such file,
and a full disk is told with the file's name and the room that is missing.
"""

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to `path`, replacing it atomically and durably. Creates the parent folder.

    Raises:
        OSError: it cannot be written; on a full disk with the room that it needs.
    """
    with _replaced(path, len(data)) as temporary, temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def write_text(path: Path, text: str) -> None:
    """`write_bytes` of UTF-8 text."""
    write_bytes(path, text.encode())


def remove(path: Path) -> None:
    """Remove a file for good, as far as it is there."""
    if path.exists():
        path.unlink(missing_ok=True)
        fsync(path.parent)


@contextlib.contextmanager
def replacing_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path to write; on success it becomes `path`, on error it is removed."""
    with _replaced(path) as temporary:
        yield temporary
        fsync(temporary)


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


@contextlib.contextmanager
def _replaced(path: Path, size: int | None = None) -> Iterator[Path]:
    """Yield a temporary path; what was written and synced there becomes `path`.

    Args:
        path: of the file.
        size: bytes that are written, where that is known.
    """
    _make_folder(path.parent)
    temporary = _temporary(path)
    try:
        yield temporary
        commit(temporary, path)
    except BaseException as error:
        with contextlib.suppress(OSError):  # the disk may be read-only, and this is not the error
            temporary.unlink()
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise OSError(_full(path, size, error)) from error
        raise


def _full(path: Path, size: int | None, error: OSError) -> str:
    """What to say of a disk without room; a quota may end before the disk does."""
    disk = os.statvfs(path.parent)
    wanted = "" if size is None else f"{size} bytes are to be written, "
    free = f"{disk.f_bavail * disk.f_frsize} bytes and {disk.f_favail} files are free"
    return (
        f"{path}: {error.strerror}: {wanted}{free} on that disk; make room there and start again, "
        "as what was finished is kept"
    )


def _make_folder(path: Path) -> None:
    """With its parents, each of them named on the disk before anything is put into it."""
    if not path.is_dir():
        _make_folder(path.parent)
        path.mkdir(exist_ok=True)
        fsync(path.parent)


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.tmp-{os.getpid()}")
