"""Learning from teachers inside the objective: whole pictures, their parts, one teacher a batch."""

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate
from training import Student

from distill.losses.context_normalised import context_normalised
from distill.losses.feature_alignment import feature_alignment
from distill.losses.gradient_matching import gradient_matching
from distill.objectives.cross_context import CrossContext, LocalCrops
from distill.objectives.terms import Term
from distill.types import Batch, Space

SHARED = Term("shared", 1.0, context_normalised)
GRADIENT = Term("gradient", 2.0, gradient_matching)
LOCAL = LocalCrops(term=Term("local", 0.5, context_normalised), count=2, side=(0.5, 0.5))
FEATURE = Term("feature", 1.0, feature_alignment)


class Teacher(nn.Module):
    """A fixed mixture of colours, and a record of what it was shown."""

    def __init__(self, mix: tuple[float, ...] = (0.3, 0.5, 1.0), space=Space.AFFINE_DISPARITY):
        super().__init__()
        self.mix, self.space = nn.Parameter(torch.tensor(mix)), space
        self.seen: list[Tensor] = []

    def forward(self, image: Tensor) -> Tensor:
        self.seen.append(image)
        return torch.einsum("c,bchw->bhw", self.mix, image) + 0.1


class Encoder(nn.Module):
    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, 4, stride=4)

    def forward(self, image: Tensor) -> Tensor:
        return self.patches(image).flatten(2).transpose(1, 2)


def student() -> Student:
    return Student(dropout=0.0)


def batch(size: int = 3, *, side: int = 32, seed: int = 0) -> Any:
    """Pictures whose red and green tell column and row, so that a part tells where it is from."""
    generator = torch.Generator().manual_seed(7)
    ramp = torch.arange(side) / side
    image = torch.rand(size, 3, side, side, generator=generator)
    image[:, 0], image[:, 1] = ramp, ramp[:, None]
    return Batch(
        key=[f"photos/{i}" for i in range(size)], image=image, space=[None] * size, seed=seed
    )


def objective(**changes: Any) -> CrossContext:
    given = {"student": student, "teachers": [Teacher], "terms": [SHARED, GRADIENT], "size": 16}
    return CrossContext(**given | changes)


def teacher_of(made: CrossContext, number: int = 0) -> Teacher:
    found = made.frozen[f"teacher{number}"]
    assert isinstance(found, Teacher)
    return found


def reference(pred: np.ndarray, target: np.ndarray) -> float:
    """Hybrid distance of one sample, segment by segment, from the formulas of section 3.2."""
    low, high = target.min(), target.max()
    total, number = np.zeros(target.shape), np.zeros(target.shape)
    for level in (1, 2, 4):
        segment = np.minimum(np.floor((target - low) / (high - low) * level), level - 1)
        for k in range(level):
            inside = segment == k
            if inside.sum() >= 10:
                normal = []
                for x in (pred[inside], target[inside]):
                    middle = np.sort(x)[(len(x) - 1) // 2]
                    normal.append((x - middle) / np.abs(x - middle).mean())
                total[inside] += np.abs(normal[0] - normal[1])
                number[inside] += 1
    return (total[number > 0] / number[number > 0]).mean()


def test_the_total_is_that_of_the_formulas():
    made, given = objective(local=LOCAL), batch(seed=3)
    terms = made(given)
    teacher = teacher_of(made)
    whole, *parts = teacher.seen
    pred = made.student(interpolate(given["image"], (16, 16), mode="bilinear", antialias=True))
    pred = pred.detach().numpy()
    target = teacher(whole).detach().numpy()
    shared = np.mean([reference(p, t) for p, t in zip(pred, target, strict=True)])
    local = []
    assert len(parts) == 2
    for part in parts:
        labels = teacher(part).detach()
        labels = interpolate(labels[:, None], (8, 8), mode="bilinear", antialias=True)[:, 0]
        for n in range(3):
            left, top = (round(part[n, c, 0, 0].item() * 16) for c in (0, 1))
            assert torch.equal(
                part[n], given["image"][n, :, 2 * top : 2 * top + 16, 2 * left : 2 * left + 16]
            )
            inside = pred[n, top : top + 8, left : left + 8]
            local.append(reference(inside, labels[n].numpy()))
    assert terms["shared"].item() == pytest.approx(shared, rel=1e-4)
    assert terms["local"].item() == pytest.approx(np.mean(local), rel=1e-4)
    total = terms["shared"] + 2 * terms["gradient"] + 0.5 * terms["local"]
    torch.testing.assert_close(terms["loss"].detach(), total)


def test_a_student_that_agrees_has_no_loss(monkeypatch: pytest.MonkeyPatch):
    made = objective(local=LOCAL)
    monkeypatch.setattr(
        made.student, "forward", lambda image: (3 * teacher_of(made)(image) + 2).requires_grad_()
    )
    terms = made(batch(side=16))
    assert terms["shared"] < 1e-5
    assert terms["gradient"] < 1e-4
    assert 0 < terms["local"] < 1, "parts are enlarged for the teacher and reduced again"


def test_parts_have_their_own_scale_and_shift():
    """A teacher whose answers change with what it sees, by a scale and a shift, changes nothing."""

    class Moody(Teacher):
        def forward(self, image: Tensor) -> Tensor:
            mood = image.mean((1, 2, 3))[:, None, None]
            return 10 * mood * super().forward(image) + 100 * mood

    plain, moody = objective(local=LOCAL), objective(local=LOCAL, teachers=[Moody])
    moody.load_state_dict(plain.state_dict())
    terms = moody(batch())
    for name, value in plain(batch()).items():
        torch.testing.assert_close(terms[name], value, rtol=1e-3, atol=1e-4)


def test_each_batch_has_one_teacher_by_its_chances():
    made = objective(
        teachers=[Teacher, partial(Teacher, (1.0, 0.0, 0.0))], chances=(7.0, 3.0), local=LOCAL
    )
    chosen = []
    for seed in range(200):
        before = [len(teacher_of(made, n).seen) for n in (0, 1)]
        made(batch(1, seed=seed))
        asked = [len(teacher_of(made, n).seen) - before[n] for n in (0, 1)]
        assert sorted(asked) == [0, 3], "the whole and two parts, of one teacher"
        chosen.append(asked.index(3))
    assert 40 < sum(chosen) < 80


def test_what_is_drawn_follows_from_the_seed_alone():
    made = objective(local=LOCAL)
    values = [made(batch(seed=seed))["local"] for seed in (3, 4, 3)]
    assert values[0] == values[2] != values[1]
    torch.rand(1)
    assert made(batch(seed=3))["local"] == values[0]


def test_a_metric_teacher_is_turned_over():
    metric = partial(Teacher, space=Space.METRIC_DEPTH)
    made = objective(teachers=[metric], terms=[SHARED])
    given = batch(side=16)
    truth = 1 / teacher_of(made)(given["image"]).detach()
    pred = made.student(given["image"])
    expected = context_normalised(pred, truth, truth > 0).mean().detach()
    torch.testing.assert_close(made(given)["shared"], expected)


def test_what_is_no_number_is_not_learned_from():
    class Holes(Teacher):
        def forward(self, image: Tensor) -> Tensor:
            values = super().forward(image)
            return torch.where(image[:, 0] < 0.3, torch.inf, values)

    made = objective(teachers=[Holes], local=LOCAL)
    terms = made(batch())
    terms["loss"].backward()
    assert all(torch.isfinite(value) for value in terms.values())
    assert all(p.grad.isfinite().all() for p in made.parameters() if p.grad is not None)
    blind = objective(teachers=[partial(Teacher, (0.0, 0.0, 0.0))], local=LOCAL)
    assert blind(batch())["loss"] == 0


def test_shares_of_an_update_add_up_to_its_mean():
    made = objective(local=LOCAL, feature=FEATURE, encoder=Encoder)
    halves = [batch(3, seed=1), batch(5, seed=2)]
    counts = [made.counts(half) for half in halves]
    totals = {"images": counts[0]["images"] + counts[1]["images"]}
    parts = [made(half, totals) for half in halves]
    alone = [made(half) for half in halves]
    for name in ("shared", "local", "gradient", "feature"):
        mean = (3 * alone[0][name] + 5 * alone[1][name]) / 8
        torch.testing.assert_close(parts[0][name] + parts[1][name], mean)


def test_teachers_and_encoder_never_move_and_are_not_saved():
    made = objective(local=LOCAL, feature=FEATURE, encoder=partial(Encoder, 12)).train()
    made(batch())["loss"].backward()
    assert isinstance(made.student, nn.Module)
    assert made.student.training
    assert not any(module.training for module in made.frozen.modules())
    assert all(p.grad is None and not p.requires_grad for p in made.frozen.parameters())
    names = {name.split(".")[0] for name in made.state_dict()}
    assert names == {"student", "frozen", "projection"}, "what begins with frozen is not saved"
    assert any(p is made.projection.weight for p in made.parameter_groups()["head"])
    assert made.projection.weight.grad is not None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"teachers": []}, "at least one teacher"),
        ({"chances": (1.0, 2.0)}, "for 1 teachers"),
        ({"feature": FEATURE}, "feature and encoder go together"),
        ({"size": 18}, "size is 18; the student needs a multiple of 4"),
        ({"terms": [SHARED, SHARED]}, "two terms are named 'shared'"),
    ],
)
def test_what_is_wrong_is_said(changes: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        objective(**changes)


def test_pictures_and_parts_must_fit():
    for side in (24, 40):
        with pytest.raises(ValueError, match=r"photos/0: .* multiple of 16, such as 32"):
            objective()(batch(side=side))
    wrongs: tuple[dict[str, Any], ...] = (
        {"count": 0},
        {"side": (0.8, 0.5)},
        {"side": (0.5, 1.5)},
    )
    for wrong in wrongs:
        with pytest.raises(ValueError, match="give at least one part"):
            LocalCrops(term=SHARED, **wrong)
