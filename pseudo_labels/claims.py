"""Who writes which shard: processes agree through locks on the bytes of one empty file.

Shard n belongs to the process that holds byte n of `.claims`. The kernel takes the locks of a dead
process away, so nothing it left unfinished stays claimed, and no process waits for another's shard.

Between hosts it is the shared file system that keeps the locks: NFSv4 does by itself, NFSv3 with
lockd, Lustre when mounted with `flock` (not `localflock`), CephFS and GPFS do. What is no POSIX
file system, such as an object store behind s3fs or goofys, does not; label there into a local
folder and copy the finished store. `probe` finds that out before a launch begins.
"""

import contextlib
import fcntl
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import TracebackType

from distill.labels.shards import index_path

_TURN = 1 << 40  # a byte behind those of all shards
_PROBE = _TURN + 1
_FILE = ".claims"


class Claims:
    """This process' claims on the shards of the store at `root`; a context manager."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._file = (root / _FILE).open("a+b")

    def __enter__(self) -> "Claims":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()  # gives every claim back

    def free(self, numbers: Iterable[int]) -> Iterator[int]:
        """Claim one shard after the other, each when it is asked for; others' are left out."""
        for number in numbers:
            if not self.take(number):
                continue
            if index_path(self._root, number).exists():  # committed since `numbers` was made
                self.give_back(number)
            else:
                yield number

    def give_back(self, number: int) -> None:
        """Let others have shard `number`."""
        fcntl.lockf(self._file, fcntl.LOCK_UN, 1, number)

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        """Wait until no other process is in such a block, then run it alone."""
        fcntl.lockf(self._file, fcntl.LOCK_EX, 1, _TURN)
        try:
            yield
        finally:
            self.give_back(_TURN)

    def take(self, number: int) -> bool:
        """Whether `number` is this process' now; False while another one holds it.

        Raises:
            OSError: the file system has no such locks.
        """
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, number)
        except (BlockingIOError, PermissionError):  # as POSIX leaves it to the system
            return False
        except OSError as error:
            raise OSError(
                f"{self._root}: this file system keeps no POSIX record locks ({error.strerror}), "
                "by which processes agree who writes which shard; pseudo_labels/claims.py tells "
                "which do. Or label into a local folder and copy the store"
            ) from error
        return True


def probe(root: Path, *, first: bool, meet: Callable[[], None]) -> None:
    """Find out whether the locks of one process of a launch on `root` keep the others out.

    Every process of the launch calls this at the same time, each on its own host.

    Args:
        root: the store, which the first process can write into.
        first: True for exactly one of them.
        meet: waits until all processes have called it.

    Raises:
        ValueError: they do not, or the processes see different folders.
        OSError: there are no locks, or `root` cannot be written.
    """
    if first:
        root.mkdir(parents=True, exist_ok=True)
        with Claims(root) as claims:
            held = claims.take(_PROBE)
            meet()
            meet()
        if not held:
            raise ValueError(f"{root}: a process of another launch labels into it; wait for it")
        return
    meet()
    alone = True
    if (root / _FILE).is_file():
        with Claims(root) as claims:
            alone = claims.take(_PROBE)
    if alone:
        raise ValueError(
            f"{root}: the lock that the first process of this launch holds there does not keep "
            "this one out. Either the folder is not the same on all hosts: give one that they "
            "share. Or its file system does not honour POSIX locks between them: NFSv4 does, and "
            "Lustre with the mount option flock; localflock and s3fs do not"
        )
    meet()
