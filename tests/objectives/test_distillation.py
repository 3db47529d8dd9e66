"""Learning from pseudo-labels: two regions a sample, V1's parts, features of a frozen encoder."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from training import Student

from distill.losses.affine_invariant import affine_invariant
from distill.losses.feature_alignment import feature_alignment
from distill.losses.gradient_matching import gradient_matching
from distill.objectives.distillation import Distillation
from distill.objectives.terms import Term
from distill.perturb import CutMix, cutmix
from distill.types import Batch, Space

AFFINE = Term("affine", 1.0, partial(affine_invariant, trim=0.1))
GRADIENT = Term("gradient", 2.0, gradient_matching)
FEATURE = Term("feature", 1.0, feature_alignment)


class Frozen(nn.Module):
    """Tokens of the student's grid, of another width if asked."""

    def __init__(self, width: int = 8, *, stride: int = 4) -> None:
        super().__init__()
        self.dropout = nn.Dropout(0.5)
        self.patches = nn.Conv2d(3, width, stride, stride=stride)
        self.seen: Tensor | None = None

    def forward(self, image: Tensor) -> Tensor:
        self.seen = image
        return self.dropout(self.patches(image)).flatten(2).transpose(1, 2)


def batch(size: int = 4, *, labelled: int = 0, seed: int = 0) -> Any:
    generator = torch.Generator().manual_seed(7)
    target = torch.rand(size, 16, 16, generator=generator) + 0.1
    return Batch(
        key=[f"photos/{i}" for i in range(size)],
        image=torch.rand(size, 3, 16, 16, generator=generator),
        space=[Space.METRIC_DEPTH if i < labelled else Space.AFFINE_DISPARITY for i in range(size)],
        target=target,
        valid=torch.ones_like(target) > 0,
        labelled=[i < labelled for i in range(size)],
        seed=seed,
    )


def student() -> Student:
    return Student(dropout=0.0)


def boxes(mask: Tensor) -> Callable[[Tensor, torch.Generator], CutMix]:
    """CutMix with these boxes, the partner being the batch reversed."""

    def perturb(image: Tensor, generator: torch.Generator) -> CutMix:
        del generator
        partner = torch.arange(len(image) - 1, -1, -1)
        return CutMix(torch.where(mask[:, None], image.flip(0), image), mask, partner, len(image))

    return perturb


@pytest.mark.parametrize("inside", [False, True])
def test_an_empty_or_full_box_is_the_plain_loss(inside: bool):
    # T12: M = 0 is the loss on the sample's own label, M = 1 on its partner's
    made, mask = batch(), torch.full((4, 16, 16), inside)
    mixed = Distillation(student, [AFFINE, GRADIENT], perturb=boxes(mask))
    plain = Distillation(student, [AFFINE, GRADIENT])
    plain.load_state_dict(mixed.state_dict())
    expected = plain(made)
    actual = mixed(made)
    for name in ("loss", "affine", "gradient"):
        torch.testing.assert_close(actual[name], expected[name])


def test_each_region_is_normalised_by_itself_and_weighs_its_area():
    made, mask = batch(2), torch.zeros(2, 16, 16, dtype=torch.bool)
    mask[0, :4] = True  # a quarter of the first sample shows the second
    objective = Distillation(student, [AFFINE], perturb=boxes(mask))
    image = made["image"].clone()
    image[0, :, :4] = made["image"][1, :, :4]
    pred = objective.student(image)
    part = torch.zeros(1, 16, 16, dtype=torch.bool)
    part[:, :4] = True
    inside = AFFINE.loss(pred[:1], made["target"][1:], part)
    outside = AFFINE.loss(pred[:1], made["target"][:1], ~part)
    second = AFFINE.loss(pred[1:], made["target"][1:], ~torch.zeros_like(part))
    expected = (inside / 4 + 3 * outside / 4 + second) / 2
    torch.testing.assert_close(objective(made)["affine"], expected[0].detach())


def test_no_difference_crosses_the_box(monkeypatch):
    # each region right up to a scale and shift of its own: no edge is wrong but the box's
    made, mask = batch(2), torch.zeros(2, 16, 16, dtype=torch.bool)
    mask[:, 4:8, 4:8] = True
    ramp = torch.linspace(0, 1, 16).repeat(16, 1)
    made["target"] = torch.stack([ramp, ramp + 100.0])
    objective = Distillation(student, [GRADIENT], perturb=boxes(mask))
    regions = torch.where(mask, 3 * made["target"].flip(0) + 7, made["target"])
    monkeypatch.setattr(objective.student, "forward", lambda image: regions.requires_grad_())
    assert objective(made)["gradient"] < 1e-5


def test_a_region_that_says_too_little_is_dropped():
    made, mask = batch(2), torch.zeros(2, 16, 16, dtype=torch.bool)
    mask[:, :3, :3] = True  # nine pixels
    mixed = Distillation(student, [AFFINE], perturb=boxes(mask))
    made["valid"] = ~mask
    alone = Distillation(student, [AFFINE], perturb=boxes(mask & False))
    alone.load_state_dict(mixed.state_dict())
    image = torch.where(mask[:, None], made["image"].flip(0), made["image"])
    expected = alone({**made, "image": image})
    torch.testing.assert_close(mixed(made)["affine"], expected["affine"])
    constant: Any = {**made, "target": torch.ones(2, 16, 16), "valid": torch.ones(2, 16, 16) > 0}
    assert mixed(constant)["loss"] == 0
    assert mixed.counts(constant)["pseudo"] == 0


def test_boxes_follow_from_the_seed_alone():
    objective = Distillation(student, [AFFINE], perturb=partial(cutmix, p=1.0))
    losses = [float(objective(batch(seed=seed))["loss"].detach()) for seed in (3, 4, 3)]
    assert losses[0] == losses[2] != losses[1]
    torch.rand(1)
    assert float(objective(batch(seed=3))["loss"].detach()) == losses[0]


def test_labelled_samples_stay_clean_and_have_a_mean_of_their_own():
    # V1 averages the three means
    third = 1 / 3
    objective = Distillation(
        student,
        [Term("unlabelled", third, AFFINE.loss)],
        labelled_terms=[Term("labelled", third, affine_invariant)],
        perturb=partial(cutmix, p=1.0),
        feature=Term("feature", third, feature_alignment),
        frozen=Frozen,
    )
    made = batch(6, labelled=2)
    terms = objective(made)
    pred = objective.student(made["image"])[:2]
    truth = affine_invariant(pred, 1 / made["target"][:2], made["valid"][:2]).mean()
    torch.testing.assert_close(terms["labelled"], truth.detach())
    mean = (terms["labelled"] + terms["unlabelled"] + terms["feature"]) / 3
    torch.testing.assert_close(terms["loss"].detach(), mean)
    assert {name: float(count) for name, count in objective.counts(made).items()} == {
        **{"pseudo": 4, "labelled": 2, "pseudo_images": 4, "images": 6},
    }
    assert isinstance(objective.frozen, Frozen)
    assert objective.frozen.seen is not None
    assert objective.frozen.seen.shape[0] == 4, "features are aligned on pseudo-labelled images"


@pytest.mark.parametrize("labelled", [0, 3])
def test_a_part_may_be_empty(labelled: int):
    objective = Distillation(
        student,
        [AFFINE],
        labelled_terms=[Term("labelled", 1.0, affine_invariant)],
        perturb=cutmix,
        feature=FEATURE,
        frozen=Frozen,
    )
    terms = objective(batch(3, labelled=labelled))
    terms["loss"].backward()
    assert torch.isfinite(terms["loss"])
    assert (terms["labelled"] == 0) == (labelled == 0)
    assert (terms["affine"] == 0) == (labelled == 3)


def test_without_terms_of_its_own_truth_is_treated_as_labels_are():
    objective = Distillation(student, [AFFINE], perturb=partial(cutmix, p=1.0))
    truth, made = batch(labelled=4), batch()
    made["target"] = 1 / truth["target"]
    torch.testing.assert_close(objective(truth), objective(made))
    assert objective.counts(truth)["labelled"] == 0


def test_frozen_encoder_sees_what_the_student_sees_and_never_moves():
    made, mask = batch(), torch.zeros(4, 16, 16, dtype=torch.bool)
    mask[:, 4:12, 4:12] = True
    objective = Distillation(
        student, [AFFINE], perturb=boxes(mask), feature=FEATURE, frozen=Frozen
    ).train()
    objective(made)["loss"].backward()
    frozen = objective.frozen
    assert isinstance(frozen, Frozen)
    expected = torch.where(mask[:, None], made["image"].flip(0), made["image"])
    assert frozen.seen is not None
    assert torch.equal(frozen.seen, expected)
    assert not frozen.training
    assert not frozen.dropout.training
    assert all(p.grad is None and not p.requires_grad for p in frozen.parameters())
    names = {name.split(".")[0] for name, p in objective.named_parameters() if p.requires_grad}
    assert names == {"student"}, "equal widths need no projection"


def test_another_width_is_projected_and_the_projection_is_trained_but_not_exported():
    objective = Distillation(student, [AFFINE], feature=FEATURE, frozen=partial(Frozen, 12))
    objective(batch())["loss"].backward()
    weight = objective.projection.weight
    assert isinstance(weight, nn.Parameter)
    assert weight.shape == (12, 8)
    assert weight.grad is not None
    assert any(p is weight for p in objective.parameter_groups()["head"])
    assert not any("projection" in name for name in student().state_dict())


def test_another_patch_is_refused():
    with pytest.raises(ValueError, match="both need the same patch size"):
        Distillation(student, [AFFINE], feature=FEATURE, frozen=partial(Frozen, stride=2))


@pytest.mark.parametrize("given", [{"feature": FEATURE}, {"frozen": Frozen}])
def test_feature_and_frozen_go_together(given: dict[str, Any]):
    with pytest.raises(ValueError, match="feature and frozen go together"):
        Distillation(student, [AFFINE], **given)


def test_a_projection_needs_a_head():
    class Headless(Student):
        def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
            return {"all": list(self.parameters())}

    objective = Distillation(Headless, [AFFINE], feature=FEATURE, frozen=partial(Frozen, 12))
    with pytest.raises(ValueError, match="no group 'head' for the projection among"):
        objective.parameter_groups()


def test_names_are_checked_over_all_parts():
    with pytest.raises(ValueError, match="two terms are named 'affine'"):
        Distillation(student, [AFFINE], labelled_terms=[AFFINE])


def sure(size: int = 4) -> Any:
    """A batch whose confidence grows from 0 on the left to 1 on the right, in steps of 1/15."""
    made = batch(size)
    made["confidence"] = torch.linspace(0, 1, 16).expand(size, 16, 16).clone()
    return made


def test_confidence_means_nothing_unless_asked_for():
    objective = Distillation(student, [AFFINE, GRADIENT], perturb=partial(cutmix, p=1.0))
    for name, value in objective(batch()).items():
        assert torch.equal(objective(sure())[name], value)


def test_pixels_of_little_confidence_are_not_learned_from():
    objective = Distillation(student, [AFFINE, GRADIENT], min_confidence=0.5)
    plain = Distillation(student, [AFFINE, GRADIENT])
    plain.load_state_dict(objective.state_dict())
    made, cut = sure(), sure()
    cut["valid"][:, :, :8] = False
    expected = plain(cut)
    made["target"][:, :, :8] = 1e6
    for name in ("affine", "gradient"):
        torch.testing.assert_close(objective(made)[name], expected[name])


def test_a_sample_with_too_little_confidence_leaves_the_mean():
    objective = Distillation(student, [AFFINE], min_confidence=0.5)
    made = sure(3)
    made["confidence"][1] = 0.4
    assert objective.counts(made)["pseudo"] == 2
    alone = {**made, "confidence": made["confidence"][:1]}
    for name in ("image", "target", "valid", "labelled"):
        alone[name] = made[name][:1]
    alone["key"], alone["space"] = made["key"][:1], made["space"][:1]
    share = objective(alone)["affine"] / 2
    assert 0 < share < objective(made)["affine"]


def test_confidence_as_weight_follows_the_box():
    mask = torch.zeros(2, 16, 16, dtype=torch.bool)
    mask[0, 4:12, 4:12] = True
    objective = Distillation(student, [AFFINE], perturb=boxes(mask), weighted=True)
    made = sure(2)
    made["confidence"][1] = made["confidence"][1].T.clone() * 0.5 + 0.25
    weight = made["confidence"].clone()
    weight[0, 4:12, 4:12] = weight[1, 4:12, 4:12]
    valid = weight > 0
    image = made["image"].clone()
    image[0, :, 4:12, 4:12] = made["image"][1, :, 4:12, 4:12]
    pred = objective.student(image)
    inside = AFFINE.loss(pred[:1], made["target"][1:], mask[:1] & valid[:1], weight=weight[:1])
    outside = AFFINE.loss(pred[:1], made["target"][:1], ~mask[:1] & valid[:1], weight=weight[:1])
    second = AFFINE.loss(pred[1:], made["target"][1:], valid[1:], weight=weight[1:])
    expected = (inside / 4 + 3 * outside / 4 + second) / 2
    torch.testing.assert_close(objective(made)["affine"], expected[0].detach())


def test_equal_confidence_weighs_like_none():
    objective = Distillation(student, [AFFINE, GRADIENT], perturb=cutmix, weighted=True)
    plain = Distillation(student, [AFFINE, GRADIENT], perturb=cutmix)
    plain.load_state_dict(objective.state_dict())
    made = sure()
    made["confidence"] = torch.full_like(made["confidence"], 0.6)
    for name, value in plain(made).items():
        torch.testing.assert_close(objective(made)[name], value)


def test_truth_is_never_doubted():
    objective = Distillation(
        student,
        [AFFINE],
        labelled_terms=[Term("labelled", 1.0, affine_invariant)],
        weighted=True,
        min_confidence=0.9,
    )
    made = batch(3, labelled=3)
    assert objective(made)["labelled"] > 0, "no confidence is needed where nothing is a label"
    made["confidence"] = torch.zeros(3, 16, 16)
    assert objective.counts(made)["labelled"] == 3


def test_what_confidence_needs_is_said():
    asked: tuple[dict[str, Any], ...] = ({"weighted": True}, {"min_confidence": 0.5})
    for given in asked:
        objective = Distillation(student, [AFFINE], **given)
        with pytest.raises(ValueError, match="photos/0: its label has no confidence"):
            objective(batch())
    with pytest.raises(ValueError, match=r"min_confidence is 1\.5; it must lie in"):
        Distillation(student, [AFFINE], min_confidence=1.5)

    def silent(pred: Tensor, target: Tensor, valid: Tensor) -> Tensor:
        return affine_invariant(pred, target, valid)

    with pytest.raises(ValueError, match="term silent: its loss takes no weight"):
        Distillation(student, [Term("silent", 1.0, silent)], weighted=True)


def test_shares_of_an_update_add_up_to_its_mean():
    objective = Distillation(student, [AFFINE], perturb=cutmix, feature=FEATURE, frozen=Frozen)
    halves = [batch(3, seed=1), batch(5, seed=2)]
    counts = [objective.counts(half) for half in halves]
    totals = {name: counts[0][name] + counts[1][name] for name in counts[0]}
    parts = [objective(half, totals) for half in halves]
    alone = [objective(half) for half in halves]
    for name in ("affine", "feature"):
        mean = (3 * alone[0][name] + 5 * alone[1][name]) / 8
        torch.testing.assert_close(parts[0][name] + parts[1][name], mean)
