"""The agreement "edges" beside any strategy's own."""

from functools import partial

import pytest
import torch
from analytic_teacher import Seer, asked, picture
from tiny_teacher import TinyTeacher, write_photos

from distill.datasets.images import read_pil
from pseudo_labels.predictor import views_of_file
from pseudo_labels.strategies.cross_context import cross_context
from pseudo_labels.strategies.edges import edges
from pseudo_labels.strategies.multi_scale import multi_scale
from pseudo_labels.strategies.plain import plain
from pseudo_labels.strategies.tta import flip


def steps():
    values = torch.linspace(0, 0.2, 96).repeat(64, 1)
    values[10:40, 20:50], values[30:60, 60:80] = 0.8, 0.5
    return picture(values)


def test_the_answer_is_the_inner_one_and_a_number_more():
    teacher = Seer(side=64)
    expected = asked(flip([teacher]), steps())
    answer = asked(edges([teacher], inner=flip), steps())
    assert torch.equal(answer.values, expected.values)
    assert answer.confidence is not None
    assert expected.confidence is not None
    assert torch.equal(answer.confidence, expected.confidence)
    assert set(answer.agreement) == {"flip", "edges"}
    assert answer.agreement["edges"].shape == (1,)
    assert edges([teacher]).space is teacher.space


def test_a_teacher_that_shifts_its_maps_is_told():
    sound = asked(edges([Seer(side=64)]), steps()).agreement["edges"]
    shifted = Seer(side=64, change=lambda seen: seen.roll(4, -1))
    wrong = asked(edges([shifted], inner=plain), steps()).agreement["edges"]
    assert sound > 0.3
    assert wrong < 0.7 * sound


def test_maps_larger_than_the_view():
    answer = asked(edges([Seer(side=64)], inner=cross_context), steps(), steps())
    assert answer.values.shape == (2, 128, 192)
    assert (answer.agreement["edges"] > 0.2).all()


class ReadsSooner(TinyTeacher):
    """Its view of a file is another one than that of the image in it."""

    def prepare_encoded(self, data, *, name=None):
        view, size = super().prepare_encoded(data, name=name)
        return torch.zeros_like(view), size


SEVERAL = partial(multi_scale, multiple=14)


@pytest.mark.parametrize("strategy", [edges, SEVERAL, partial(edges, inner=SEVERAL)])
def test_a_file_is_read_as_the_inner_asker_reads_it(tmp_path, strategy):
    path = next(write_photos(tmp_path, 1).rglob("*.*g"))
    asker, (height, width) = strategy([ReadsSooner()]), read_pil(path).size[::-1]
    views, size = views_of_file(asker, path.read_bytes(), name="one")
    assert size == (height, width)
    assert not any(view.any() for view in views)
    whole = views_of_file(cross_context([ReadsSooner()]), path.read_bytes(), name="one")
    assert all(view.any() for view in whole[0])  # which looks at parts, so it needs the image
    assert whole[1] == size
