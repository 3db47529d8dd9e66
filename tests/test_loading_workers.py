"""Workers read the same bytes whatever their number, say what cannot be read, and end."""

import itertools
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import cv2
import pytest
import torch
from numbered import Numbers, drawn, keys, noisy, same

from distill.loading import Mixture, batches


@pytest.fixture
def two():
    return Mixture([(Numbers("a", 7), 1), (Numbers("b", 11, label="store"), 2)])


def threads(sample, rng):
    count = cv2.getNumThreads() * 100 + torch.get_num_threads()
    return replace(sample, image=torch.full_like(sample.image, float(count)))


def test_workers_have_one_thread_each(two):
    (batch,) = drawn(two, 1, workers=1, transform=threads)
    assert batch["image"].unique().tolist() == [101]


def test_workers_give_the_same_bytes_and_end(two):
    same(drawn(two, 5, workers=2), drawn(two, 5, workers=0))
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("workers", [0, 1])
def test_a_sample_that_cannot_be_read_is_named(workers):
    mixture = Mixture([(Numbers("a", 6, broken=(3,)), None)])
    with pytest.raises(ValueError, match=r"^a/00003 \(sample \d\): the file is cut short$"):
        drawn(mixture, 1, workers=workers)
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_of_ours_keeps_its_type_and_gets_the_key(workers):
    mixture = Mixture([(Numbers("a", 6, broken=(3,), error=ZeroDivisionError), None)])
    with pytest.raises(ZeroDivisionError) as caught:
        drawn(mixture, 1, workers=workers)
    told = [str(caught.value), *getattr(caught.value, "__notes__", [])]
    assert any("while loading a/00003 (sample " in line for line in told)


@pytest.mark.parametrize("workers", [0, 2])
def test_another_sample_of_the_same_share_stands_in_and_the_batch_says_so(workers):
    sources = [(Numbers("a", 7, broken=(3,)), 1), (Numbers("b", 11, label="store"), 2)]
    taken = drawn(Mixture(sources), 14, workers=workers, set_aside=True)
    same(taken, drawn(Mixture(sources), 14, set_aside=True))
    told = [batch.get("set_aside") for batch in taken]
    assert sum(map(bool, told)) == 4, "28 samples of a, each of its 7 comes four times"
    assert {"a/00003": "the file is cut short"} in told
    assert "a/00003" not in keys(taken)
    for batch in taken:
        assert sum(key.startswith("a/") for key in batch["key"]) == 2
    whole = drawn(Mixture([(Numbers("a", 7), 1), sources[1]]), 14)
    changed = [(a, b) for a, b in zip(keys(whole), keys(taken), strict=True) if a != b]
    assert [before for before, _ in changed] == ["a/00003"] * 4, "no other sample moves"
    assert len({after for _, after in changed}) > 1


def test_where_nothing_can_be_read_the_run_ends():
    mixture = Mixture([(Numbers("a", 6, broken=range(6)), None)])
    message = r"^a/0000\d \(sample 0\): the file is cut short; nor could \d others be read$"
    with pytest.raises(ValueError, match=message):
        drawn(mixture, 1, set_aside=True)


def test_closed_batches_end(two):
    stream = batches(two, batch_size=6, seed=5, workers=1)
    next(stream)
    assert multiprocessing.active_children()
    stream.close()
    stream.close()
    assert not multiprocessing.active_children()
    assert list(stream) == []


def test_forgotten_batches_end_their_workers(two):
    stream = batches(two, batch_size=6, seed=5, workers=1)
    next(stream)
    del stream
    assert not multiprocessing.active_children()


def test_workers_leave_the_first_sigterm_to_the_job(two):
    stream = batches(two, batch_size=6, seed=5, transform=noisy, workers=2)
    before = [next(stream), next(stream)]  # one of each worker: both have started
    for worker in multiprocessing.active_children():
        assert worker.pid
        os.kill(worker.pid, signal.SIGTERM)
    before += itertools.islice(stream, 11)
    stream.close()
    same(before, drawn(two, 13))
    assert not multiprocessing.active_children()


def test_a_program_that_forgets_to_close_ends():
    program = (
        "import sys; sys.path.insert(0, 'tests')\n"
        "from distill.loading import Mixture, batches\n"
        "from numbered import Numbers\n"
        "mixture = Mixture([(Numbers('a', 7), None)])\n"
        "stream = batches(mixture, batch_size=2, seed=0, workers=1)\n"
        "print(len(next(stream)['key']))\n"
        "sys.exit(7)"
    )
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (7, "2\n", "")
    assert time.monotonic() - started < 30


@pytest.mark.parametrize("method", ["fork", "forkserver"])
def test_workers_end_with_a_job_that_is_killed(method: str):
    program = (
        "import sys; sys.path.insert(0, 'tests')\n"
        "import multiprocessing, os, signal\n"
        "from distill.loading import Mixture, batches\n"
        "from numbered import Numbers\n"
        "if __name__ == '__main__':\n"
        f"    multiprocessing.set_start_method({method!r})\n"
        "    mixture = Mixture([(Numbers('a', 7), None)])\n"
        "    stream = batches(mixture, batch_size=2, seed=0, workers=2)\n"
        "    next(stream)\n"
        "    print(*(worker.pid for worker in multiprocessing.active_children()), flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, timeout=120
    )
    workers = [Path("/proc", pid) for pid in done.stdout.split()]
    assert len(workers) == 2
    until = time.monotonic() + 60
    while any(worker.exists() for worker in workers):
        assert time.monotonic() < until, "a worker outlived its job"
        time.sleep(0.05)
