"""Strategies against a teacher whose answers are known."""

import pytest
import torch
from tiny_teacher import TinyTeacher

from pseudo_labels.strategies.plain import plain
from pseudo_labels.strategies.tta import flip, flip_agreement


class Teacher(TinyTeacher):
    """Answers with the first channel, plus `lean` times the column, 0 to 1, as it sees it."""

    def __init__(self, lean=0.0):
        super().__init__()
        self.lean = lean

    def predict_network(self, pixels):
        return pixels[:, 0] + self.lean * torch.linspace(0, 1, pixels.shape[-1]).to(pixels)


@pytest.fixture
def pixels():
    return torch.rand(3, 3, 20, 30, generator=torch.Generator().manual_seed(0))


def test_plain_is_the_answer(pixels):
    values, confidence = plain(Teacher(), pixels)
    assert torch.equal(values, pixels[:, 0])
    assert confidence is None


def test_half_precision_answers_become_float32(pixels):
    assert plain(Teacher(), pixels.bfloat16())[0].dtype == torch.float32
    assert flip(Teacher(), pixels.bfloat16())[0].dtype == torch.float32


def test_a_teacher_without_sides_agrees_with_itself(pixels):
    values, confidence = flip(Teacher(), pixels)
    assert torch.equal(values, pixels[:, 0])
    assert confidence.tolist() == [1, 1, 1]


def test_a_lean_averages_out_and_costs_confidence(pixels):
    values, confidence = flip(Teacher(lean=0.5), pixels)
    assert torch.allclose(values, pixels[:, 0] + 0.25, atol=1e-6)
    _, worse = flip(Teacher(lean=2.0), pixels)
    assert (worse < confidence).all()
    assert (confidence < 1).all()


def test_agreement_by_hand():
    """Mean map 1 2 3: median 2, mean deviation 2/3; mean difference 2/3: one half."""
    straight, mirrored = torch.tensor([[[1.0, 3.0, 3.0]]]), torch.tensor([[[1.0, 1.0, 3.0]]])
    assert flip_agreement(straight, mirrored).item() == pytest.approx(0.5)


def test_agreement_knows_no_scale_nor_shift(pixels):
    a, b = pixels[:, 0], pixels[:, 1]
    expected = flip_agreement(a, b)
    assert torch.allclose(flip_agreement(7 * a - 3, 7 * b - 3), expected, atol=1e-5)
    assert torch.allclose(flip_agreement(1e-4 * a, 1e-4 * b), expected, atol=1e-5)


def test_maps_that_say_nothing_have_no_confidence(pixels):
    flat = torch.ones(1, 4, 4)
    assert flip_agreement(flat, flat).item() == 0
    broken = pixels[:1, 0].clone()
    broken[0, 2, 3] = torch.nan
    assert flip_agreement(broken, broken).item() == 0
