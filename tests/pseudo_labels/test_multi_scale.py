"""One teacher at several sizes."""

import pytest
import torch
from analytic_teacher import Seer, asked, fitted, picture
from scenes import pinhole, room

from distill.types import Space
from pseudo_labels.strategies.multi_scale import multi_scale
from pseudo_labels.strategies.tta import flip


@pytest.fixture(scope="module")
def truth():
    near = (1 / room(56, 84, pinhole(56, 84)).depth).float()
    return (near - near.min()) / (near.max() - near.min())


def test_the_teacher_is_asked_at_multiples_of_its_patch(truth):
    teacher = Seer(side=56)
    answer = asked(multi_scale([teacher]), picture(truth), picture(truth, seed=1))
    assert teacher.seen == [(2, 3, 42, 56), (2, 3, 56, 84), (2, 3, 70, 112)]
    assert answer.values.shape == (2, 56, 84)


def test_scales_that_agree_give_the_map_and_full_agreement(truth):
    answer = asked(multi_scale([Seer(side=56)]), picture(truth), picture(truth, seed=1))
    close = fitted(answer.values, truth.expand(2, -1, -1)) - truth
    assert close.abs().mean() < 0.01
    assert (answer.agreement["scale"] > 0.9).all()
    assert answer.confidence is not None
    assert answer.confidence.shape == answer.values.shape


def test_one_size_that_fails_does_not_move_the_map_but_costs_agreement(truth):
    def wrong_when_large(seen):
        return seen.flip(-1) if seen.shape[-1] > 84 else seen

    sound = asked(multi_scale([Seer(side=56)]), picture(truth))
    answer = asked(multi_scale([Seer(side=56, change=wrong_when_large)]), picture(truth))
    assert (fitted(answer.values, truth[None]) - truth).abs().mean() < 0.02
    assert answer.agreement["scale"] < sound.agreement["scale"] - 0.1


def test_a_flip_inside_keeps_its_agreement(truth):
    answer = asked(multi_scale([Seer(side=56)], inner=flip), picture(truth))
    assert set(answer.agreement) == {"flip", "scale"}
    assert answer.agreement["flip"].shape == (1,)


def test_metric_maps_stay_metric(truth):
    depth = 0.3 + 0.5 * truth
    answer = asked(multi_scale([Seer(side=56, space=Space.METRIC_DEPTH)]), picture(depth))
    assert (answer.values[0] - depth).abs().mean() < 0.01


def test_what_is_wrong_is_said():
    with pytest.raises(ValueError, match="multi_scale asks one teacher and got 2"):
        multi_scale([Seer(), Seer()])
    for scales in ((1.0,), (0.0, 1.0)):
        with pytest.raises(ValueError, match="give two or more above 0"):
            multi_scale([Seer()], scales=scales)
    silent = Seer()
    silent.preprocessing = {}
    with pytest.raises(ValueError, match="does not tell of what its sides are multiples"):
        multi_scale([silent])
    assert multi_scale([silent], multiple=8).multiple == 8


def test_images_do_not_mix(truth):
    pictures = picture(truth), picture(truth.flip(0), seed=3)
    both = asked(multi_scale([Seer(side=56)]), *pictures)
    alone = asked(multi_scale([Seer(side=56)]), pictures[1])
    torch.testing.assert_close(both.values[1:], alone.values)
