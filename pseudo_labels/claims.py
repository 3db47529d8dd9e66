"""Who writes which shard: processes agree through locks on the bytes of one empty file.

Shard n belongs to the process that holds byte n of `.claims`. The kernel takes the locks of a dead
process away, so nothing it left unfinished stays claimed, and no process waits for another's shard.
POSIX record locks also hold between hosts that share the folder over NFS.
"""

import contextlib
import fcntl
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType

from distill.labels.shards import index_path

_TURN = 1 << 40  # a byte behind those of all shards


class Claims:
    """This process' claims on the shards of the store at `root`; a context manager."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._file = (root / ".claims").open("a+b")

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
            if not self._take(number):
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

    def _take(self, number: int) -> bool:
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, number)
        except (BlockingIOError, PermissionError):  # as POSIX leaves it to the system
            return False
        return True
