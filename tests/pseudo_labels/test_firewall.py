"""A small labelled world, some labels of which are wrong: each fault is found, the rest passes."""

import json
import math

import numpy as np
import pytest
import torch

from distill.datasets.image_folder import ImageFolder
from distill.types import Sample, Space
from pseudo_labels.firewall import (
    QUANTISED,
    Suspicion,
    asked,
    calibrate,
    firewall,
    inspect,
    own_limits,
    read_suspects,
    scores,
    suspicion,
    write_suspects,
)
from pseudo_labels.store_witness import store_witness
from tests.scenes import nearest, pinhole, plane, sphere
from tests.tiny_teacher import TinyTeacher, job, write_photos

H, W = 48, 64


class World:
    """Balls before a wall above a floor; the label of a few is spoilt."""

    name = "balls"

    def __init__(self, seed, count, spoil=lambda truth: truth, wrong=()):
        self.seed, self.count, self.spoil, self.wrong = seed, count, spoil, set(wrong)

    def __len__(self):
        return self.count

    def key(self, index):
        return f"balls/{self.seed}/{index:03d}"

    def __getitem__(self, index):
        truth, image = scene(self.seed, index)
        label = truth
        if index in self.wrong:
            label = scene(self.seed, index + 1000)[0] if self.spoil is other else self.spoil(truth)
        whole = torch.ones(H, W, dtype=torch.bool)
        space = Space.AFFINE_DISPARITY
        return Sample(key=self.key(index), image=image, target=label, valid=whole, space=space)


def scene(seed, index):
    rng = np.random.default_rng((seed, index))
    K = pinhole(H, W)
    seen = plane(H, W, K, normal=(0.1 * rng.normal(), 0, -1), distance=8)
    seen = nearest(seen, plane(H, W, K, normal=(0, -1, 0), distance=1.5))
    for _ in range(3):
        centre = (float(rng.uniform(-2, 2)), float(rng.uniform(-1, 1)), float(rng.uniform(3, 6)))
        seen = nearest(seen, sphere(H, W, K, centre=centre, radius=float(rng.uniform(0.4, 0.9))))
    disparity = (1 / seen.depth).float()
    rough = 0.01 * torch.from_numpy(rng.normal(size=(3, H, W))).float()
    bright = torch.stack([disparity, 0.5 * disparity, 1 - disparity]) + rough
    return disparity, bright.clamp(0, 1).contiguous()


def other(truth):
    raise AssertionError(truth)


def sky_near(truth):
    spoilt = truth.clone()
    spoilt[: H // 3] = 2 * truth.max()
    return spoilt


FAULTS = {
    "mirrored": lambda truth: truth.flip(-1),
    "shifted": lambda truth: truth.roll(4, 1),
    "inverted": lambda truth: -truth,
    "near sky": sky_near,
    "quantised": lambda truth: ((truth - truth.min()) / (truth.max() - truth.min()) * 255).round(),
    "unlike": other,
}


class Blurred(TinyTeacher):
    """A predictor that reads the scenes' red channel, which is the disparity, and blurs it."""

    def prepare(self, image):
        return torch.from_numpy(np.array(image, dtype=np.float32)).permute(2, 0, 1) / 255

    def predict_network(self, pixels):
        return torch.nn.functional.avg_pool2d(pixels[:, :1], 3, 2)[:, 0]


def limits_of(world, witness):
    return calibrate((found for _, found in scores(world_of(world), witness)), alarms=0.01)


def world_of(world):
    return (world[index] for index in range(len(world)))


@pytest.fixture(scope="module")
def limits():
    return limits_of(World(1, 100), asked(Blurred()))


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_found_and_few_others_are_named(fault, limits):
    wrong = {3, 11, 17, 20}
    world = World(2, 24, FAULTS[fault], wrong)
    named = {one.key: one for one in firewall(world, asked(Blurred()), limits=limits)}
    hits = {world.key(index) for index in wrong} & set(named)
    assert len(hits) == 4
    assert len(named) - len(hits) <= 2
    if fault == "quantised":
        assert {named[key].reason for key in hits} == {"quantised"}


def test_the_store_itself_is_a_witness_of_what_is_inverted():
    wrong = {0, 20}
    world = World(3, 40, FAULTS["inverted"], wrong)
    witness = store_witness(world_of(world))
    found = dict(scores(world_of(world), witness))
    inverted = [found[world.key(index)]["inverted"] for index in range(40)]
    assert min(inverted[index] for index in wrong) > 0.5
    assert max(inverted[index] for index in set(range(40)) - wrong) < -0.2


def test_no_label_is_its_own_witness():
    clean, spoilt = World(4, 6), World(4, 6, FAULTS["inverted"], {5})
    before, after = (store_witness(world_of(world))(clean[5]) for world in (clean, spoilt))
    assert torch.equal(before, after)


def test_the_same_world_gives_the_same_answer_whatever_reads_it(limits):
    world = World(2, 24, FAULTS["mirrored"], {1, 2})
    one, several = (
        list(firewall(world, asked(Blurred()), limits=limits, workers=n)) for n in (1, 4)
    )
    assert one == several


def test_limits_of_trusted_labels_are_quantiles_shared_by_the_reasons():
    rows = [{"quantised": 0.0, "a": float(n), "b": 2.0 * n} for n in range(101)]
    assert calibrate(rows, alarms=0.1) == {"quantised": QUANTISED, "a": 95.0, "b": 190.0}


@pytest.mark.parametrize(("count", "alarms"), [(10, 0.02), (100, 0.0), (0, 0.5), (100, 1.0)])
def test_calibration_wants_enough_labels_and_a_share(count, alarms):
    with pytest.raises(ValueError, match=f"{count} labels and a share of {alarms}"):
        calibrate([{"a": 1.0}] * count, alarms=alarms)


def test_own_limits_lie_six_deviations_above_the_middle():
    rows = [{"quantised": 0.0, "a": value} for value in (0.0, 1.0, 2.0, 3.0, 400.0)]
    assert own_limits(rows)["a"] == pytest.approx(2 + 6 * 1.4826)


def test_the_reason_is_the_limit_exceeded_most_and_bits_come_first():
    limits = {"quantised": 0.5, "a": 1.0, "b": 0.0}
    assert suspicion("k", {"quantised": 0.0, "a": 1.0, "b": 0.0}, limits) is None
    assert suspicion("k", {"quantised": 0.0, "a": 2.0, "b": 0.5}, limits) == Suspicion(
        "k", "a", 2.0, 1.0
    )
    found = suspicion("k", {"quantised": 0.9, "a": 5.0, "b": 0.0}, limits)
    assert found is not None
    assert found.reason == "quantised"


def test_suspects_are_written_by_key_and_read_again(tmp_path):
    assert read_suspects(tmp_path) == {}
    second, first = Suspicion("b", "mirrored", 0.25, 0.1), Suspicion("a", "unlike", 0.5, math.pi)
    write_suspects(tmp_path, iter([second, first]))
    lines = (tmp_path / "suspects.jsonl").read_text().splitlines()
    assert [json.loads(line)["key"] for line in lines] == ["a", "b"]
    assert read_suspects(tmp_path) == {"a": first, "b": second}


def test_a_store_of_one_half_is_no_witness():
    with pytest.raises(ValueError, match="too few labels"):
        store_witness(world_of(World(5, 1)))


@pytest.mark.parametrize("predictor", [None, TinyTeacher()])
def test_a_store_on_disk_is_inspected(tmp_path, predictor):
    photos, store = write_photos(tmp_path / "photos", 12), tmp_path / "labels"
    job(photos).run(store)
    count = inspect(ImageFolder(photos), store, predictor=predictor)
    assert len(read_suspects(store)) == count
    before = (store / "suspects.jsonl").read_bytes()
    assert inspect(ImageFolder(photos), store, predictor=predictor, workers=4) == count
    assert (store / "suspects.jsonl").read_bytes() == before
