"""Label 20,000 images by 1, 2 and 3 processes, killed ten times each: one store, flat memory.

    .venv/bin/python -m benchmarks.label_soak
    .venv/bin/python -m benchmarks.label_soak --images 500 --kills 3 --out /tmp/label_soak.json

The images are structured noise of 112 pixels and more in tar shards, the teacher has the demo's
architecture and random weights: a store's bytes do not depend on how good it is. One process labels
all of it without a stop; then launches of one, two and three processes (torchrun) are killed with
SIGKILL, all processes at once, and resumed until they end. Every file is compared by SHA-256. The
resident memory of every process is read each second; it is flat where the largest of the last
quarter of a run is that of the first.
"""

import argparse
import contextlib
import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from benchmarks.origin import origin
from benchmarks.soak import VOLATILE
from distill.labels.store import LabelStore
from distill.models.depth_anything import depth_anything

RESULTS = Path(__file__).parent / "results" / "label_soak.json"
PER_TAR = 1000
PER_SHARD = 100
SIZES = ((112, 112), (112, 154), (168, 112))  # height, width
PROCESSES = (1, 2, 3)


def write_images(folder: Path, count: int) -> Path:
    """JPEGs of smooth colours with edges in tar shards, the same at every call."""
    folder.mkdir()
    for first in range(0, count, PER_TAR):
        with tarfile.open(folder / f"images-{first // PER_TAR:05d}.tar", "w") as archive:
            for number in range(first, min(first + PER_TAR, count)):
                data = _jpeg(number)
                member = tarfile.TarInfo(f"{number:06d}.jpg")
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
    return folder


def _jpeg(number: int) -> bytes:
    rng = np.random.default_rng(number)
    height, width = SIZES[number % len(SIZES)]
    coarse = Image.fromarray(rng.integers(0, 256, (5, 6, 3), dtype=np.uint8))
    pixels = np.array(coarse.resize((width, height), Image.Resampling.BICUBIC))
    for _ in range(4):
        top, left = rng.integers(0, height - 20), rng.integers(0, width - 20)
        pixels[top : top + rng.integers(8, 60), left : left + 30] = rng.integers(0, 256, 3)
    sink = io.BytesIO()
    Image.fromarray(pixels).save(sink, "JPEG", quality=90)
    return sink.getvalue()


def write_teacher(folder: Path) -> Path:
    """The demo's teacher before it has learnt anything."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # noqa: TID251 - the fork ends with the block
        model = depth_anything("tiny_teacher")
    model.save_pretrained(folder)
    return folder


def content(store: Path) -> dict[str, str]:
    """sha256 of every file that the inputs decide, by relative path; read a piece at a time."""
    found: dict[str, str] = {}
    for path in sorted(store.rglob("*")):
        name = path.relative_to(store)
        if path.is_file() and not {*VOLATILE, ".index.arrow"} & set(name.parts):
            with path.open("rb") as file:
                found[str(name)] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


class Launch:
    """`distill run` as so many processes of torchrun, in a session of its own."""

    def __init__(self, folder: Path, out: Path, processes: int) -> None:
        run = ["-m", "distill", "run", "recipes.labels:flip", "--resume", "--data"]
        run += [str(folder / "images"), "--out", str(out), "--set", f"shard_size={PER_SHARD}"]
        run += [f"teacher={folder / 'teacher'}", "threads=1"]
        many = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
        command = [sys.executable, *many, *run]
        self.out, self.start, self.memory = out, time.monotonic(), [(0.0, 0)]
        self.errors = tempfile.TemporaryFile()  # noqa: SIM115 it lives as long as the launch
        environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        self.process = subprocess.Popen(
            command, env=environment, stderr=self.errors, start_new_session=True
        )

    def watch(self, seconds: float) -> bool:
        """Read the memory each second for so long; whether it is still running then."""
        until = time.monotonic() + seconds
        while self.process.poll() is None and time.monotonic() < until:
            self.memory.append((time.monotonic() - self.start, _largest(self.process.pid)))
            time.sleep(min(1.0, max(0.0, until - time.monotonic())))
        return self.process.poll() is None

    def kill(self) -> None:
        """All its processes at once; they are gone when this returns."""
        pids = [self.process.pid, *_members(self.process.pid)]  # of whom none has a child later
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()
        while any(map(_lives, pids)):
            time.sleep(0.01)

    def check(self) -> None:
        """It has ended well.

        Raises:
            RuntimeError: it has not.
        """
        if self.process.returncode:
            self.errors.seek(0)
            raise RuntimeError(self.errors.read()[-4000:].decode(errors="replace"))

    def first_commit(self) -> float:
        """Wait for a shard that was not there; seconds since the start."""
        before = len(list(self.out.glob("index/*.parquet")))
        while len(list(self.out.glob("index/*.parquet"))) == before and self.watch(0.2):
            pass
        return time.monotonic() - self.start


def _members(parent: int) -> list[int]:
    """All descendants of a process."""
    parents: dict[int, int] = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(status.parent.name)] = int(status.read_text().rpartition(")")[2].split()[1])
        except OSError:  # it has ended meanwhile
            continue
    found, wave = [], [parent]
    while wave := [pid for pid, above in parents.items() if above in wave]:
        found += wave
    return found


def _lives(pid: int) -> bool:
    """Neither gone nor a zombie, which holds nothing any more."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _largest(parent: int) -> int:
    """Resident bytes of the largest descendant of a process: one that labels."""
    pages = [0]
    for pid in _members(parent):
        try:
            pages.append(int(Path(f"/proc/{pid}/statm").read_text().split()[1]))
        except OSError:
            continue
    return max(pages) * os.sysconf("SC_PAGE_SIZE")


def quarters(memory: list[tuple[float, int]], since: float) -> dict[str, int]:
    """The largest resident size in the first and the last quarter of the time after `since`, MiB.

    The last second is left out, and what lies before `since`: imports and loading.
    """
    steady = [(when, size) for when, size in memory if when >= since and size][:-1]
    begin, end = steady[0][0], steady[-1][0]
    first = [size for when, size in steady if when <= begin + (end - begin) / 4]
    last = [size for when, size in steady if when >= end - (end - begin) / 4]
    return {"first_quarter_mib": max(first) >> 20, "last_quarter_mib": max(last) >> 20}


def killed(
    folder: Path, processes: int, *, kills: int, work: float, rng: np.random.Generator
) -> dict[str, int]:
    """Fill a store, killed so many times on the way, each time after some shards.

    Args:
        folder: of images and teacher.
        processes: of the launch.
        kills: how many; runs that end before are compared and started anew.
        work: seconds that labelling takes one process.
        rng: draws the moments.

    Raises:
        RuntimeError: a resumed run failed.
    """
    out, done, runs, unfinished = folder / f"killed-{processes}", 0, 0, []
    expected = content(folder / "whole")
    while True:
        launch = Launch(folder, out, processes)
        if done < kills:
            launch.first_commit()
            if launch.watch(rng.uniform(0, work / (kills * processes))):
                launch.kill()
                done += 1
                unfinished.append(len(LabelStore(out, allow_incomplete=True).missing()))
                continue
        launch.watch(float("inf"))
        launch.check()
        runs += 1
        if content(out) != expected:
            raise RuntimeError(f"{processes} processes, {done} kills: the store differs")
        if done == kills:
            LabelStore(out).verify()
            return {"kills": done, "runs_compared": runs, "fewest_missing": min(unfinished)}
        subprocess.run(["rm", "-r", str(out)], check=True)


def main() -> None:
    """Write images and teacher, run, compare, record."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    rng = np.random.default_rng(args.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_images(folder / "images", args.images)
        write_teacher(folder / "teacher")
        whole = Launch(folder, folder / "whole", 1)
        begun = whole.first_commit()
        whole.watch(float("inf"))
        whole.check()
        seconds = time.monotonic() - whole.start
        store = LabelStore(folder / "whole")
        result = {
            "images": args.images,
            "labels": len(store),
            "shards": store.meta.shards,
            "seconds_uninterrupted": round(seconds, 1),
            "memory": quarters(whole.memory, begun),
            "killed": {},
            **origin(),
        }
        for processes in PROCESSES:
            found = killed(
                folder, processes, kills=args.kills, work=max(1.0, seconds - begun), rng=rng
            )
            result["killed"][f"{processes} processes"] = found
            print(processes, found, flush=True)
            args.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
