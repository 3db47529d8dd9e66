"""Batches are a function of a shard's images; an error or a stop leaves nothing half done."""

import itertools
import threading
import time

import pytest
import torch

from distill.job import Interrupted
from distill.labels.encoded import EncodedLabel
from pseudo_labels.defects import image_defect, map_defect
from pseudo_labels.pipeline import Read, Steps, batches, label_shards
from pseudo_labels.predictor import Answer


def image(key, height=14, width=14):
    return Read(key=key, views=(torch.zeros(3, height, width),), image_size=(height, width))


def test_batches_hold_one_size_in_order():
    wide = {"width": 28}
    images = [image("a"), image("b", **wide), image("c"), Read(key="d", reason="cut off")]
    images += [image("e", **wide), image("f"), image("g", 28), image("h")]
    reasons = {}
    found = [[entry.key for entry in batch] for batch in batches(images, 2, reasons)]
    assert found == [["a", "c"], ["b", "e"], ["f", "h"], ["g"]]
    assert reasons == {"d": "cut off"}


def encode(entry, asked, place):
    values = asked().values[place]
    return EncodedLabel(
        key=entry.key, data=b"", height=1, width=1, image_height=1, image_width=1,
        minimum=0.0, maximum=float(values.max()), confidence=None,
    )  # fmt: skip


def answer(views):
    """The number of images that were asked together."""
    stacked = torch.stack([view for (view,) in views])
    return lambda: Answer(values=stacked[:, 0] + len(stacked))


def steps(committed, *, ask=None, encode=encode, read=None):
    return Steps(
        read or (lambda index: image(f"{index:03d}", 14, 14 * (1 + index % 3))),
        ask or answer,
        encode,
        lambda number, labels, reasons: committed.append((number, labels, dict(reasons))),
        lambda count: None,
    )


SHARDS = [(0, range(0, 10)), (3, range(10, 20)), (4, range(20, 23))]


def run(work, stop=None):
    stop = stop or threading.Event()
    label_shards(iter(SHARDS), work, batch_size=2, workers=3, stop=stop)


def test_shards_come_out_whole_and_in_order():
    committed = []
    run(steps(committed))
    assert [number for number, _, _ in committed] == [0, 3, 4]
    keys = [label.key for _, labels, _ in committed for label in labels]
    assert keys == [f"{n:03d}" for n in range(23)]
    sizes = [label.maximum for label in committed[0][1]]  # of the batch that each was asked in
    assert sizes == [2, 2, 2, 2, 2, 2, 2, 1, 1, 2]
    assert [label.maximum for label in committed[2][1]] == [1, 1, 1]


def test_a_stop_gives_up_what_is_not_committed():
    committed, stop, asked = [], threading.Event(), itertools.count(1)

    def ask(views):
        if next(asked) == 7:  # the first batch behind the 6 of the first shard
            until = time.monotonic() + 60
            while not committed and time.monotonic() < until:
                time.sleep(0.001)
            stop.set()
        return answer(views)

    with pytest.raises(Interrupted, match="committed shards are kept, go on with --resume"):
        run(steps(committed, ask=ask), stop)
    assert [number for number, _, _ in committed] == [0]
    with pytest.raises(Interrupted):
        run(steps(committed), stop)


@pytest.mark.parametrize("place", ["read", "ask", "encode"])
def test_an_error_in_any_thread_ends_the_run(place):
    def explode(*arguments):
        raise RuntimeError("no memory")

    committed = []
    with pytest.raises(RuntimeError, match="no memory"):
        run(steps(committed, **{place: explode}))
    assert committed == []


def test_reasons_of_both_kinds_reach_the_commit():
    def read(index):
        return Read(key="000", reason="cut off") if index == 0 else image(f"{index:03d}")

    def fussy(entry, asked, place):
        return "constant" if entry.key == "001" else encode(entry, asked, place)

    committed = []
    run(steps(committed, read=read, encode=fussy))
    assert committed[0][2] == {"000": "cut off", "001": "constant"}
    assert [label.key for label in committed[0][1]] == [f"{n:03d}" for n in range(2, 10)]


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ([[1.0, torch.nan], [torch.inf, 2.0]], "2 of 4 predicted values are not finite"),
        ([[5.0, 5.0], [5.0, 5.000001]], "constant, 5"),
        ([[0.0, 0.0], [0.0, 0.0]], "constant, 0"),
        ([[0.0] * 199 + [1.0]], "99.5% of the predicted map is exactly zero"),
        ([[0.0] * 198 + [1.0, 2.0]], None),  # nothing but sky and a kite
        ([[-1e-9, 0.0], [1e-9, 2e-9]], None),
    ],
)
def test_map_defects(values, reason):
    found = map_defect(torch.tensor(values))
    assert found is None if reason is None else found is not None and reason in found


def test_image_defects():
    limits = {"min_side": 32, "max_aspect": 3.0}
    assert image_defect(32, 96, **limits) is None
    assert image_defect(31, 40, **limits) == "40 x 31 pixels; the shorter side must be at least 32"
    assert "at most 3 times as long" in (image_defect(200, 32, **limits) or "")
