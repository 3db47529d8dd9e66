import contextlib
import itertools
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from distill.loading import Mixture, batches, on_device
from distill.types import Sample, Space, View


class Numbers:
    """Samples that hold their own index; `broken` ones cannot be read."""

    def __init__(
        self, name, length, *, label="truth", side=4, broken=(), error: type[Exception] = ValueError
    ):
        self.name, self.length, self.label, self.side = name, length, label, side
        self.broken, self.error = broken, error

    def __len__(self):
        return self.length

    def key(self, index):
        return f"{self.name}/{index:05d}"

    def __getitem__(self, index):
        if index in self.broken:
            raise self.error("the file is cut short")
        target = torch.full((self.side, self.side), float(index))
        sample = Sample(key=self.key(index), image=torch.full((3, *target.shape), 0.5))
        if self.label == "none":
            return sample
        if self.label == "truth":
            return replace(
                sample, target=target, valid=target >= 0, far=target < 0, space=Space.METRIC_DEPTH
            )
        return replace(
            sample,
            target=target,
            valid=target >= 0,
            space=Space.AFFINE_DISPARITY,
            pseudo_label=True,
        )


def noisy(sample, rng):
    noise = torch.from_numpy(rng.random(sample.image.shape, dtype=np.float32))
    return replace(sample, image=noise)


def threads(sample, rng):
    count = cv2.getNumThreads() * 100 + torch.get_num_threads()
    return replace(sample, image=torch.full_like(sample.image, float(count)))


def drawn(mixture, count, **settings) -> list[Any]:
    stream = batches(mixture, **{"batch_size": 6, "seed": 5, "transform": noisy, **settings})
    with contextlib.closing(stream):
        return list(itertools.islice(stream, count))


def keys(taken):
    return [key for batch in taken for key in batch["key"]]


def same(first, second):
    assert len(first) == len(second)
    for a, b in zip(first, second, strict=True):
        assert a.keys() == b.keys()
        for name, value in a.items():
            equal = torch.equal(value, b[name]) if torch.is_tensor(value) else value == b[name]
            assert equal, name


@pytest.fixture
def two():
    return Mixture([(Numbers("a", 7), 1), (Numbers("b", 11, label="store"), 2)])


def test_an_epoch_has_every_sample_once_in_another_order():
    mixture = Mixture([(Numbers("a", 7), None), (Numbers("b", 11), None)])
    order = keys(drawn(mixture, 6))
    assert len(mixture) == 18
    assert len(set(order[:18])) == len(set(order[18:])) == 18
    assert order[:18] != order[18:]
    assert order[:18] != sorted(order[:18])


def test_a_share_is_exact_in_every_batch_and_each_set_has_its_own_epochs(two):
    taken = drawn(two, 14)
    for batch in taken:
        assert sum(key.startswith("a/") for key in batch["key"]) == 2
    first, second = ([k for k in keys(taken) if k.startswith(name)] for name in ("a/", "b/"))
    assert len(set(first[:7])) == len(set(first[7:14])) == 7
    assert len(set(second[:11])) == len(set(second[11:22])) == 11


def test_several_sets_may_share_a_weight_as_one_long_set():
    mixture = Mixture([([Numbers("a", 3), Numbers("b", 6)], 1), (Numbers("c", 11), 2)])
    assert [dataset.name for dataset in mixture.datasets] == ["a", "b", "c"]
    assert len(mixture) == 20
    places = [mixture.locate(n, seed=0) for n in range(27)]
    for block in range(0, 27, 3):
        assert sorted(d.name == "c" for d, _ in places[block : block + 3]) == [False, True, True]
    epoch = sorted((d.name, index) for d, index in places if d.name != "c")
    assert epoch == [("a", 0), ("a", 1), ("a", 2), *[("b", n) for n in range(6)]]


@pytest.mark.parametrize(("weights", "block"), [((0.5, 1.0), 3), ((2, 4), 3), ((30, 70), 10)])
def test_weights_are_a_ratio(weights, block):
    mixture = Mixture(list(zip((Numbers("a", 7), Numbers("b", 11)), weights, strict=True)))
    names = [mixture.locate(n, 0)[0].name for n in range(block * 4)]
    share = round(block * weights[0] / sum(weights))
    for start in range(0, len(names), block):
        assert names[start : start + block].count("a") == share


@pytest.mark.parametrize("start", [0, 1, 6, 17, 23, 1234, 10**9])
def test_resuming_anywhere_gives_the_same_continuation(two, start):
    whole = [two.locate(n, 5)[0].key(two.locate(n, 5)[1]) for n in range(start, start + 12)]
    assert keys(drawn(two, 2, start=start)) == whole
    same(drawn(two, 2, start=start)[1:], drawn(two, 1, start=start + 6))


@pytest.mark.parametrize("world_size", [1, 2, 3, 6])
def test_the_global_batch_does_not_depend_on_the_number_of_processes(two, world_size):
    alone = drawn(two, 3, start=12)
    ranks = [drawn(two, 3, start=12, rank=r, world_size=world_size) for r in range(world_size)]
    for step, batch in enumerate(alone):
        parts = [rank[step] for rank in ranks]
        assert [key for part in parts for key in part["key"]] == batch["key"]
        for name in ("image", "target", "valid", "far", "labelled"):
            assert torch.equal(torch.cat([part[name] for part in parts]), batch[name])
        assert parts[0]["seed"] == batch["seed"]
        assert len({part["seed"] for part in parts}) == world_size


def test_workers_give_the_same_bytes_and_end(two):
    same(drawn(two, 5, workers=2), drawn(two, 5, workers=0))
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("workers", [0, 1])
def test_global_randomness_stays(two, workers):
    before = torch.get_rng_state()
    drawn(two, 2, workers=workers)
    assert torch.equal(torch.get_rng_state(), before)


def test_seeds_differ_in_order_and_in_noise(two):
    first, second = drawn(two, 1), drawn(two, 1, seed=6)
    assert keys(first) != keys(second)
    assert not torch.equal(first[0]["image"], second[0]["image"])


def test_the_same_sample_is_transformed_anew_in_each_epoch():
    images = [batch["image"] for batch in drawn(Mixture([(Numbers("a", 1), None)]), 2)]
    pixels = torch.cat(images).flatten(1)
    assert len({tuple(row.tolist()) for row in pixels}) == 12


def test_a_batch_says_what_its_samples_are(two):
    (batch,) = drawn(two, 1)
    truth = [key.startswith("a/") for key in batch["key"]]
    spaces = [Space.METRIC_DEPTH if is_truth else Space.AFFINE_DISPARITY for is_truth in truth]
    assert batch["labelled"].tolist() == truth
    assert batch["space"] == spaces
    assert batch["target"][:, 0, 0].tolist() == [int(key[2:]) for key in batch["key"]]
    assert batch["valid"].all()
    assert not batch["far"].any()


class Sure(Numbers):
    """Each label is as sure as its number says."""

    def __getitem__(self, index):
        sample = super().__getitem__(index)
        return replace(sample, confidence=torch.full((self.side, self.side), index / 10))


def test_confidence_is_stacked_where_some_sample_has_one_and_truth_is_sure(two):
    assert all("confidence" not in batch for batch in drawn(two, 2))
    labels = Sure("b", 6, label="pseudo")
    mixture = Mixture([(Numbers("a", 3), 1), (labels, 1)])
    for batch in drawn(mixture, 2):
        if not any(key.startswith("b/") for key in batch["key"]):
            assert "confidence" not in batch
            continue
        expected = [int(key[2:]) / 10 if key.startswith("b/") else 1.0 for key in batch["key"]]
        assert batch["confidence"].shape == batch["target"].shape
        torch.testing.assert_close(batch["confidence"][:, 0, 0], torch.tensor(expected))
        placed = on_device(batch, torch.device("meta"))
        assert "confidence" in placed
        assert placed["confidence"].device.type == "meta"


class Seen(Numbers):
    """Each sample has two views, of which one knows how the camera moved."""

    views = 2

    def __getitem__(self, index):
        sample = super().__getitem__(index)
        poses = [None, torch.full((4, 4), float(index))]
        looks = [
            View(key=f"{sample.key}-{n}", image=sample.image, offset=n, view_from_sample=pose)
            for n, pose in enumerate(poses)
        ]
        return replace(sample, K=torch.full((3, 3), float(index)), views=tuple(looks[: self.views]))


@pytest.mark.parametrize("workers", [0, 1])
def test_views_and_cameras_are_stacked(workers):
    (batch,) = drawn(Mixture([(Seen("a", 6), None)]), 1, workers=workers, transform=None)
    numbers = [int(key[2:]) for key in batch["key"]]
    assert batch["K"][:, 0, 0].tolist() == numbers
    still, moved = batch["views"]
    assert still["offset"] == [0] * 6
    assert moved["view_from_sample"][:, 0, 0].tolist() == numbers
    for unknown in (still["view_from_sample"], still["K"], moved["K"]):
        assert unknown.isnan().all()
    assert moved["image"].shape == batch["image"].shape


def test_views_that_differ_in_number_are_named():
    fewer = Seen("b", 6)
    fewer.views = 1
    with pytest.raises(ValueError, match=r"has \d views and ./\d+ \d; draw them in mixtures"):
        drawn(Mixture([(Seen("a", 6), 1), (fewer, 1)]), 1, transform=None)


def test_unlabelled_images_make_a_batch_without_targets():
    (batch,) = drawn(Mixture([(Numbers("a", 9, label="none"), None)]), 1)
    assert batch.keys() == {"key", "image", "space", "seed"}


def test_workers_have_one_thread_each(two):
    (batch,) = drawn(two, 1, workers=1, transform=threads)
    assert batch["image"].unique().tolist() == [101]


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


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"side": 5}, r"is \(., .\) and ./\d+ \(., .\) pixels; a batch needs one size"),
        ({"label": "none"}, r"a/\d+ has a target and b/\d+ has none; label the images first"),
    ],
)
def test_samples_that_do_not_stack_are_named(other, message):
    mixture = Mixture([(Numbers("a", 6), 1), (Numbers("b", 6, **other), 1)])
    with pytest.raises(ValueError, match=message):
        drawn(mixture, 1, transform=None)


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
    before = [next(stream)]
    for worker in multiprocessing.active_children():
        assert worker.pid
        os.kill(worker.pid, signal.SIGTERM)
    before += itertools.islice(stream, 12)
    stream.close()
    same(before, drawn(two, 13))
    assert not multiprocessing.active_children()


def test_a_program_that_forgets_to_close_ends():
    program = (
        "import sys; sys.path.insert(0, 'tests')\n"
        "from test_loading import Mixture, Numbers, batches\n"
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
        "from test_loading import Mixture, Numbers, batches\n"
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


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        ([], "no data sets"),
        ([(Numbers("a", 0), None)], "a has no samples; leave it out"),
        ([(Numbers("a", 1), 1), (Numbers("b", 1), None)], "a has weight 1 and b None"),
        ([(Numbers("a", 1), 1), (Numbers("b", 1), -1)], "b has weight -1; it must be above 0"),
        ([(Numbers("a", 1), 1), (Numbers("b", 1), float("nan"))], "b has weight nan"),
        ([(Numbers("a", 1), 1), (Numbers("b", 1), 0.12345)], "sum to at most 1000, like 1 and 2"),
        ([(Numbers("a", 1), 1), (Numbers("b", 1), 1e-9)], "sum to at most 1000, like 1 and 2"),
    ],
)
def test_mixtures_that_make_no_sense_are_refused(sources, message):
    with pytest.raises(ValueError, match=message):
        Mixture(sources)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 0}, "batch_size 0 over 1 processes"),
        ({"world_size": 4}, "batch_size 6 over 4 processes; it must be a positive multiple"),
        ({"rank": 2, "world_size": 2}, "rank 2 of 2; ranks count from 0"),
        ({"start": -1}, "start -1, workers 0, seed 5; none may be negative"),
    ],
)
def test_numbers_out_of_range_are_refused(two, settings, message):
    with pytest.raises(ValueError, match=message):
        drawn(two, 1, **settings)
