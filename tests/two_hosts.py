"""Two hosts on this machine: network namespaces, joined by a cable that can be pulled out."""

import contextlib
import os
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FIRST = "10.9.0.1"  # where they meet


class NoNamespaces(RuntimeError):
    """This kernel permits no user namespaces."""


@dataclass(frozen=True)
class Host:
    """One of the two, in a namespace of its own; the file system is everybody's."""

    address: str
    cable: str
    namespace: int  # a process that lives there

    def start(
        self, command: Sequence[str], environment: dict[str, str] | None = None, **more: Any
    ) -> "subprocess.Popen[str]":
        """Begin `command` there; its process has the identity that is returned."""
        here = {"ADDRESS": self.address, "FIRST": FIRST, "GLOO_SOCKET_IFNAME": self.cable}
        return subprocess.Popen(
            [*_enter(self.namespace), *command],
            env={**os.environ, **(environment or {}), **here},
            text=True,
            **more,
        )

    def plug(self, end: str) -> None:
        """Put the cable `in` or pull it `out`: packets vanish, nobody is told."""
        state = {"in": "up", "out": "down"}[end]
        _there(self.namespace, f"ip link set {self.cable} {state}")


@contextlib.contextmanager
def two_hosts() -> Iterator[tuple[Host, Host]]:
    """The hosts, the first of them at `FIRST`; everything on them must end within the block.

    Raises:
        NoNamespaces: the kernel permits none.
    """
    with contextlib.ExitStack() as stack:
        as_root = ["unshare", "--user", "--map-root-user", "--net"]
        left = stack.enter_context(_living(as_root))
        right = stack.enter_context(_living([*_enter(left), "unshare", "--net"]))
        _there(left, "ip link add left type veth peer name right")
        _there(left, f"ip link set right netns {right}")
        hosts = Host(FIRST, "left", left), Host("10.9.0.2", "right", right)
        for host in hosts:
            _there(host.namespace, f"ip address add {host.address}/24 dev {host.cable}")
            _there(host.namespace, "ip link set lo up")
            host.plug("in")
        yield hosts


def wait_for(path: Path, *processes: "subprocess.Popen[Any]") -> None:
    """Until `path` is there; all of the processes must live until then."""
    while not path.exists():
        for process in processes:
            assert process.poll() is None, f"ended before {path} appeared"
        time.sleep(0.02)


@contextlib.contextmanager
def _living(command: Sequence[str]) -> Iterator[int]:
    """A process that sleeps in the network namespace that `command` made."""
    own = Path("/proc/self/ns/net").readlink()
    with subprocess.Popen([*command, "sleep", "infinity"], stderr=subprocess.PIPE) as process:
        try:
            while not _moved(process.pid, own):
                if process.poll() is not None and process.stderr:
                    raise NoNamespaces(process.stderr.read().decode().strip())
                time.sleep(0.01)
            yield process.pid
        finally:
            process.kill()


def _moved(process: int, away_from: Path) -> bool:
    """Whether it sleeps already: before, it may still be where it was started."""
    try:
        asleep = Path(f"/proc/{process}/comm").read_text() == "sleep\n"
        return asleep and Path(f"/proc/{process}/ns/net").readlink() != away_from
    except OSError:
        return False


def _enter(namespace: int) -> list[str]:
    target = ["nsenter", "--target", str(namespace)]
    return [*target, "--user", "--preserve-credentials", "--net"]


def _there(namespace: int, command: str) -> None:
    subprocess.run([*_enter(namespace), *command.split()], check=True)
