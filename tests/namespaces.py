"""What only root may do, done in namespaces where this process is root: mounts and networks."""

import contextlib
import ctypes
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from two_hosts import Host, NoNamespaces, two_hosts

_NEW_USER, _NEW_MOUNTS = 0x10000000, 0x00020000
_READ_ONLY, _REMOUNT, _PRIVATE, _RECURSIVE = 1, 32, 1 << 18, 1 << 14


def alone(work: Callable[[], None]) -> None:
    """Run `work` in a fork whose mounts nobody else sees; an error there is an error here.

    Skips the test where the kernel permits no user namespaces.
    """
    child = os.fork()
    if child == 0:
        code = 0
        try:
            if not _become_root():
                code = 77
            else:
                work()
        except BaseException:  # noqa: BLE001 the parent is told
            traceback.print_exc()
            code = 1
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code == 77:
        pytest.skip("this kernel permits no user namespaces (unshare)")
    assert code == 0, "see the traceback in what was written to stderr"


@contextlib.contextmanager
def hosts() -> Iterator[tuple[Host, Host]]:
    """`two_hosts`; skips the test where the kernel permits none."""
    with contextlib.ExitStack() as stack:
        try:
            pair = stack.enter_context(two_hosts())
        except NoNamespaces as error:
            pytest.skip(f"this kernel permits no network namespaces: {error}")
        yield pair


def mount_memory(place: Path, size: int) -> None:
    """A file system of `size` bytes at `place`."""
    place.mkdir(parents=True, exist_ok=True)
    _mount(b"none", place, b"tmpfs", 0, f"size={size}")


def resize_memory(place: Path, size: int) -> None:
    """Another size for it."""
    _mount(b"none", place, b"tmpfs", _REMOUNT, f"size={size}")


def make_read_only(place: Path) -> None:
    """From now on nothing can be written there, not even by root."""
    _mount(b"none", place, b"tmpfs", _REMOUNT | _READ_ONLY, "")


def _become_root() -> bool:
    user, group = os.getuid(), os.getgid()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_NEW_USER | _NEW_MOUNTS) != 0:
        return False
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"0 {user} 1")
    Path("/proc/self/gid_map").write_text(f"0 {group} 1")
    _mount(b"none", Path("/"), None, _PRIVATE | _RECURSIVE, "")
    return True


def _mount(source: bytes, place: Path, kind: bytes | None, flags: int, options: str) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(source, os.fsencode(place), kind, ctypes.c_ulong(flags), options.encode()) != 0:
        raise OSError(ctypes.get_errno(), f"mount: {os.strerror(ctypes.get_errno())}", str(place))
