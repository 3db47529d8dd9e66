"""Strategies against a teacher whose answers are known."""

import pytest
import torch
from PIL import Image
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


def ask(strategy, teacher, pixels):
    answer = strategy([teacher]).ask([pixels])
    assert answer.confidence is None or answer.confidence.shape == answer.values.shape
    return answer.values, answer.agreement.get("flip", torch.empty(0))


def test_plain_is_the_answer(pixels):
    answer = plain([Teacher()]).ask([pixels])
    assert torch.equal(answer.values, pixels[:, 0])
    assert (answer.confidence, dict(answer.agreement)) == (None, {})


@pytest.mark.parametrize("strategy", [plain, flip])
def test_views_are_the_teachers_input(strategy):
    teacher, image = Teacher(), Image.new("RGB", (40, 60), "red")
    (view,) = strategy([teacher]).views(image)
    assert torch.equal(view, teacher.prepare(image))
    assert strategy([teacher]).space is teacher.space


@pytest.mark.parametrize("strategy", [plain, flip])
def test_two_teachers_need_another_strategy(strategy):
    with pytest.raises(ValueError, match="asks one teacher and got 2: tiny, tiny"):
        strategy([Teacher(), Teacher()])


def test_half_precision_answers_become_float32(pixels):
    assert ask(plain, Teacher(), pixels.bfloat16())[0].dtype == torch.float32
    assert ask(flip, Teacher(), pixels.bfloat16())[0].dtype == torch.float32


def test_a_teacher_without_sides_agrees_with_itself(pixels):
    values, confidence = ask(flip, Teacher(), pixels)
    assert torch.equal(values, pixels[:, 0])
    assert confidence.tolist() == [1, 1, 1]


def test_a_lean_averages_out_and_costs_confidence(pixels):
    values, confidence = ask(flip, Teacher(lean=0.5), pixels)
    assert torch.allclose(values, pixels[:, 0] + 0.25, atol=1e-6)
    _, worse = ask(flip, Teacher(lean=2.0), pixels)
    assert (worse < confidence).all()
    assert (confidence < 1).all()


def test_agreement_by_hand():
    """Mean map 1 2 3: median 2, mean deviation 2/3; mean difference 2/3: one half."""
    straight, mirrored = torch.tensor([[[1.0, 3.0, 3.0]]]), torch.tensor([[[1.0, 1.0, 3.0]]])
    pixelwise, whole = flip_agreement(straight, mirrored)
    assert whole.item() == pytest.approx(0.5)
    assert pixelwise.flatten().tolist() == pytest.approx([1.0, 0.25, 1.0])  # 2/3 / (2/3 + 2)


def test_agreement_knows_no_scale_nor_shift(pixels):
    a, b = pixels[:, 0], pixels[:, 1]
    for scale, shift in ((7, -3), (1e-4, 0)):
        moved = flip_agreement(scale * a + shift, scale * b + shift)
        for found, expected in zip(moved, flip_agreement(a, b), strict=True):
            assert torch.allclose(found, expected, atol=1e-5)


def test_maps_that_say_nothing_have_no_confidence(pixels):
    flat = torch.ones(1, 4, 4)
    assert [found.max().item() for found in flip_agreement(flat, flat)] == [0, 0]
    broken = pixels[:1, 0].clone()
    broken[0, 2, 3] = torch.nan
    assert [found.max().item() for found in flip_agreement(broken, broken)] == [0, 0]
