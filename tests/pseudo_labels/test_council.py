"""Several teachers: fused, or one by lot."""

import pytest
import torch
from analytic_teacher import Seer, asked, fitted, picture
from scenes import pinhole, room

from distill.types import Space
from pseudo_labels.strategies.council import council, select
from pseudo_labels.strategies.tta import flip


@pytest.fixture(scope="module")
def truth():
    near = (1 / room(56, 84, pinhole(56, 84)).depth).float()
    return (near - near.min()) / (near.max() - near.min())


def metric(side):
    """Depth of the same scene."""
    return Seer(side=side, space=Space.METRIC_DEPTH, change=lambda seen: 1 / (seen + 0.2))


def test_teachers_of_different_sizes_and_spaces_agree(truth):
    answer = asked(council([Seer(side=56), metric(42), Seer(side=28)]), picture(truth))
    assert answer.values.shape == (1, 56, 84)
    assert (fitted(answer.values, truth[None]) - truth).abs().mean() < 0.02
    assert answer.agreement["teachers"].item() > 0.85


@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("wrong", [lambda seen: -seen, lambda seen: seen.flip(-1)])
def test_one_of_three_may_be_wrong_altogether(truth, place, wrong):
    teachers = [Seer(side=56), Seer(side=56)]
    sound = asked(council([*teachers, Seer(side=56)]), picture(truth))
    teachers.insert(place, Seer(side=56, change=wrong))
    answer = asked(council(teachers), picture(truth))
    torch.testing.assert_close(answer.values, sound.values, rtol=0, atol=5e-3)
    assert answer.agreement["teachers"] < sound.agreement["teachers"] - 0.2


def test_members_may_be_asked_in_any_way(truth):
    class TwoViews:
        def __init__(self, teacher):
            self.inner = flip([teacher])
            self.space = self.inner.space

        def views(self, image):
            return (*self.inner.views(image), torch.zeros(3, 2, 2))

        def ask(self, views):
            assert len(views) == 2
            assert views[1].shape[2:] == (2, 2)
            return self.inner.ask(views[:1])

    def strategy(teachers):
        return TwoViews(teachers[0]) if teachers[0].name == "two" else flip(teachers)

    members = council([Seer(side=56), Seer(side=56, name="two"), Seer(side=42)], inner=strategy)
    answer = asked(members, picture(truth), picture(truth, seed=5))
    assert set(answer.agreement) == {"flip", "teachers"}
    assert answer.agreement["flip"].shape == (2,)
    assert (answer.agreement["teachers"] > 0.85).all()


def test_what_is_wrong_is_said():
    with pytest.raises(ValueError, match="council asks two teachers or more and got 1: seer"):
        council([Seer()])
    with pytest.raises(ValueError, match="cannot be fused"):
        council([Seer(), Seer(space=Space.AFFINE_DEPTH)])
    with pytest.raises(ValueError, match="2 teachers; give one above 0 for each"):
        select([Seer(), Seer()], chances=(1.0, 0.0))
    with pytest.raises(ValueError, match=r"chances .* for 3 teachers"):
        select([Seer(), Seer(), Seer()])


def test_the_lot_follows_from_the_image_and_has_its_chances(truth):
    asker = select([Seer(), Seer()], chances=(7.0, 3.0))
    pictures = [picture(truth, seed=n) for n in range(300)]
    places = [asker.choice(image) for image in pictures]
    assert places == [asker.choice(image.copy()) for image in pictures]
    assert 0.6 < places.count(0) / 300 < 0.8
    assert select([Seer(), Seer()]).choice(pictures[0]) == places[0], "7 : 3 is the default"


def test_only_the_chosen_teacher_looks_and_speaks_the_common_space(truth):
    teachers = Seer(side=56), metric(42)
    asker = select(teachers)
    assert asker.space is Space.AFFINE_DISPARITY
    for place in (0, 1):
        image = next(p for n in range(99) if asker.choice(p := picture(truth, seed=n)) == place)
        before = [len(teacher.seen) for teacher in teachers]
        answer = asked(asker, image)
        after = [len(teacher.seen) for teacher in teachers]
        assert [b - a for a, b in zip(before, after, strict=True)] == [1 - place, place]
        small = torch.nn.functional.interpolate(
            truth[None, None], answer.values.shape[1:], mode="area"
        )[0]
        assert (fitted(answer.values, small) - small).abs().mean() < 0.02


def test_images_of_different_teachers_are_never_in_one_batch(truth):
    asker = select([Seer(), Seer()])
    shapes = {0: set(), 1: set()}
    for n in range(20):
        image = picture(truth, seed=n)
        shapes[asker.choice(image)].add(tuple(view.shape for view in asker.views(image)))
    assert shapes[0]
    assert shapes[1]
    assert not shapes[0] & shapes[1]
