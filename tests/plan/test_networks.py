"""Networks without weights: the shapes of the real ones, whatever stands on the disk."""

from functools import partial
from pathlib import Path

import pytest
import torch
from tiny_models import save_depth_anything

from distill.models.depth_anything import depth_anything
from distill.models.dinov2 import FrozenDinov2
from distill.objectives.distillation import Distillation
from distill.objectives.terms import Term
from distill.perturb import cutmix
from distill.plan import counting, networks
from recipes import student


def test_a_shadow_has_the_parameters_of_the_network():
    real = depth_anything("tiny")
    with counting.shadows():
        made = networks.weightless(partial(depth_anything, "tiny", encoder="facebook/none"))()
    shapes = [(name, p.shape, p.requires_grad) for name, p in real.named_parameters()]
    assert [(name, p.shape, p.requires_grad) for name, p in made.named_parameters()] == shapes


def test_an_objective_is_rebuilt_inside_out():
    hub = "facebook/dinov2-small"
    objective = partial(
        Distillation,
        partial(depth_anything, "vits", encoder=hub),
        [Term("affine", 1.0, lambda *_: torch.zeros(()))],
        perturb=cutmix,
        feature=Term("feature", 1.0, lambda *_: torch.zeros(())),
        frozen=partial(FrozenDinov2, hub),
    )
    with counting.shadows():
        made = networks.weightless(objective)()
    assert made.perturb is None
    assert sum(p.numel() for p in made.student.parameters()) == 24_785_089  # published: 24.8 M
    held = [*made.frozen.parameters(), made.frozen.encoder.cls, made.frozen.encoder.stored]
    folded = 12 * 2 * 384 + 384  # layer scales, and the mask token that it never needs
    assert sum(p.numel() for p in held) == 22_056_576 - folded  # published: 22.1 M
    assert not any(p.requires_grad for p in made.frozen.parameters())


def test_what_is_no_partial_call_stays():
    assert networks.weightless(student.vits) is student.vits


def test_unknown_encoders_and_teachers_name_the_remedy(tmp_path: Path):
    with counting.shadows(), pytest.raises(ValueError, match=r"x/y.*config\.json.*dinov2-small"):
        networks.weightless(partial(FrozenDinov2, "x/y"))()
    with pytest.raises(ValueError, match=r"no shape of the teacher .*--set teacher=NAME.*vitg"):
        networks.Stand(tmp_path)


@pytest.mark.parametrize("size", ["vits", "vitl"])
def test_the_measured_points_are_counted_as_the_plan_counts(size: str):
    from distill.plan.hardware import H200

    point = H200.points["labelling"][size == "vitl"]
    flops, _ = networks.Stand(size).forward(torch.Size((1, 3, 518, 518)), low=True)
    assert flops == pytest.approx(point.flops, rel=1e-3)


def test_vitg_takes_what_its_authors_layout_takes():
    flops, peak = networks.Stand("vitg").forward(torch.Size((2, 3, 518, 518)), low=True)
    assert flops / 2 == pytest.approx(4.53e12, rel=2e-3)
    assert peak > 2 * 1370 * 4096 * 2


def test_a_teacher_in_a_folder(tmp_path: Path):
    stand = networks.Stand(save_depth_anything(tmp_path))
    pixels = torch.zeros(2, 3, 112, 140)
    answer = stand.predict_network(pixels)
    assert answer.shape == (2, 112, 140)
    assert not torch.equal(answer, stand.predict_network(pixels))
    assert stand.asked == [pixels.shape, pixels.shape]
    assert stand.forward(pixels.shape, low=False)[0] > 0
