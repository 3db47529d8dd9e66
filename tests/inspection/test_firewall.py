"""A small labelled world, some labels of which are wrong: each fault is found, the rest passes."""

import json
import math

import numpy as np
import pytest
import torch

from distill import cli
from distill.datasets.image_folder import ImageFolder
from distill.inspection.evidence import FAULTS as ON_PURPOSE
from distill.inspection.evidence import looks
from distill.inspection.firewall import (
    Suspicion,
    asked,
    inspect,
    learn,
    read_suspects,
    write_suspects,
)
from distill.inspection.store_witness import store_witness
from distill.types import Sample, Space
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
    "another": other,
}


class Blurred(TinyTeacher):
    """A predictor that reads the scenes' red channel, which is the disparity, and blurs it."""

    def prepare(self, image):
        return torch.from_numpy(np.array(image, dtype=np.float32)).permute(2, 0, 1) / 255

    def predict_network(self, pixels):
        return torch.nn.functional.avg_pool2d(pixels[:, :1], 3, 2)[:, 0]


def world_of(world):
    return (world[index] for index in range(len(world)))


def spoilt_on_purpose(world):
    return list(looks(world_of(world), asked(Blurred()), faults=True))


@pytest.fixture(scope="module")
def trusted():
    return spoilt_on_purpose(World(1, 170))


@pytest.fixture(scope="module")
def wall(trusted):
    return learn(trusted, trusted=True)


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_found_and_few_others_are_named(fault, wall):
    wrong = {3, 11, 17, 20}
    world = World(2, 24, FAULTS[fault], wrong)
    seen = (found[""] for found in looks(world_of(world), asked(Blurred())))
    named = {one.key: one for one in wall.suspects(seen)}
    hits = {world.key(index) for index in wrong} & set(named)
    assert len(hits) == 4
    assert len(named) - len(hits) <= 2
    reasons = [named[key].reason for key in hits]
    if fault != "inverted":  # which also has a near sky
        assert reasons.count(fault) >= 2


@pytest.mark.parametrize("fault", ["mirrored", "inverted", "another"])
def test_a_store_with_faults_gives_limits_of_its_own(fault, trusted):
    """One label in fourteen is wrong and would teach the judge that such labels are good."""
    wrong = set(range(5, 170, 14))
    spoilt = World(1, 170, FAULTS[fault], wrong)
    again = looks((spoilt[n] for n in sorted(wrong)), asked(Blurred()), faults=True)
    found = dict(enumerate(trusted)) | dict(zip(sorted(wrong), again, strict=True))
    wall = learn(found.values(), trusted=False)
    named = {number for number, one in found.items() if wall.judged([one[""]])[0]}
    assert len(wrong & named) >= 10  # of 12; with all of them as teachers 7, 1 and 3
    assert len(named - wrong) <= 4


def test_few_of_the_trusted_labels_exceed_their_own_limit(trusted, wall):
    """The judge knows them now, so it names them no more often than those that did not."""
    scores = wall.judge.odds([one[""] for one in trusted]).amax(1)
    assert float((scores > wall.limit).double().mean()) <= 0.015


def test_too_few_labels_are_refused(trusted):
    with pytest.raises(ValueError, match="too few to learn"):
        learn(trusted[:4], trusted=False)
    with pytest.raises(ValueError, match="trusted labels for limits"):
        learn(trusted[:40], trusted=True)
    with pytest.raises(ValueError, match="share of 1"):
        learn(trusted, trusted=True, alarms=1.0)


def test_the_store_itself_is_a_witness_of_what_is_inverted():
    wrong = {0, 20}
    world = World(3, 40, FAULTS["inverted"], wrong)
    witness = store_witness(world_of(world))
    found = [one[""].numbers[0] for one in looks(world_of(world), witness)]
    assert min(found[index] for index in wrong) > 0.5
    assert max(found[index] for index in set(range(40)) - wrong) < -0.2


def test_no_label_is_its_own_witness():
    clean, spoilt = World(4, 6), World(4, 6, FAULTS["inverted"], {5})
    before, after = (store_witness(world_of(world))(clean[5]) for world in (clean, spoilt))
    assert torch.equal(before, after)


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
    photos, store = write_photos(tmp_path / "photos", 24), tmp_path / "labels"
    job(photos).run(store)
    count = inspect(ImageFolder(photos), store, predictor=predictor)
    assert len(read_suspects(store)) == count
    before = (store / "suspects.jsonl").read_bytes()
    assert inspect(ImageFolder(photos), store, predictor=predictor, workers=4) == count
    assert (store / "suspects.jsonl").read_bytes() == before


def test_trusted_labels_give_the_limit_of_an_inspection(tmp_path):
    photos, store = write_photos(tmp_path / "photos", 3), tmp_path / "labels"
    job(photos).run(store)
    with pytest.raises(ValueError, match="trusted labels for limits"):
        inspect(ImageFolder(photos), store, predictor=Blurred(), trusted=World(1, 30))


def test_every_fault_is_made_on_purpose_and_changes_the_label():
    *_, last = looks(world_of(World(8, 9)), asked(Blurred()), faults=True)
    assert set(last) == {"", *ON_PURPOSE}
    for fault in ON_PURPOSE:
        assert not torch.equal(last[fault].label, last[""].label)
        assert torch.equal(last[fault].witness, last[""].witness)


def test_trusted_labels_are_named_on_the_command_line(tmp_path, capsys):
    photos, store = write_photos(tmp_path / "photos", 24), tmp_path / "labels"
    job(photos).run(store)
    command = ["labels", "inspect", str(store), "--data", str(photos)]
    assert cli.main(command) == 0
    assert cli.main([*command, "--trusted", str(store)]) == 2
    assert "24 trusted labels for limits" in capsys.readouterr().err
