"""Order, shares and batches of mixtures."""

from dataclasses import replace

import pytest
import torch
from numbered import Numbers, drawn, keys, same

from distill.loading import Mixture, on_device
from distill.types import Space, View


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
        assert [flag for part in parts for flag in part["labelled"]] == batch["labelled"]
        for name in ("image", "target", "valid", "far"):
            assert torch.equal(torch.cat([part[name] for part in parts]), batch[name])
        assert parts[0]["seed"] == batch["seed"]
        assert len({part["seed"] for part in parts}) == world_size


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
    assert batch["labelled"] == truth
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
