"""Learning from truth: the loss is the mean over the samples that say enough."""

from functools import partial
from typing import Any

import pytest
import torch
from training import Planes, Student, planes, supervised

from distill.losses.affine_invariant import affine_invariant
from distill.losses.silog import silog
from distill.objectives.supervised import Supervised
from distill.objectives.terms import Term
from distill.types import Batch, Space


def first(objective: Supervised) -> Any:
    """Six planes, of which the fifth is too sparse to count."""
    made: Any = next(planes(data={}, batch_size=24, seed=0))
    order = sorted(range(24), key=made["key"].__getitem__)[:6]
    index = torch.tensor(order)
    return Batch(
        key=[made["key"][i] for i in order],
        image=made["image"][index],
        space=[made["space"][i] for i in order],
        target=made["target"][index],
        valid=made["valid"][index],
        far=made["far"][index],
        labelled=[made["labelled"][i] for i in order],
    )


def test_loss_is_the_mean_over_usable_samples():
    objective = supervised(dropout=0.0)
    made = first(objective)
    terms = objective(made)
    pred = objective.student(made["image"])
    usable = torch.tensor([0, 1, 2, 3, 5])
    disparity = 1 / made["target"]
    affine = affine_invariant(pred[usable], disparity[usable], made["valid"][usable]).mean()
    torch.testing.assert_close(terms["affine"], affine.detach())
    torch.testing.assert_close(terms["loss"], terms["affine"] + 2 * terms["gradient"])
    assert {name: float(count) for name, count in objective.counts(made).items()} == {
        "samples": 5,
        "images": 6,
    }


def test_samples_may_weigh_as_they_have_pixels():
    """As one mean over the pixels of the batch, which released code takes."""
    made = first(supervised())
    made["valid"][0, :8], made["target"][0, :8] = False, torch.nan
    term = Term("affine", 1.0, affine_invariant)
    objective = Supervised(partial(Student, dropout=0.0), [term], by_pixels=True)
    pixels = made["valid"].flatten(1).sum(1)[[0, 1, 2, 3, 5]]  # the fifth has too few
    pred, disparity = objective.student(made["image"]), 1 / made["target"]
    losses = affine_invariant(pred, disparity, made["valid"])[[0, 1, 2, 3, 5]]
    assert objective.counts(made)["samples"] == pixels.sum()
    expected = (losses * pixels).sum() / pixels.sum()
    torch.testing.assert_close(objective(made)["loss"], expected)
    assert expected.item() != pytest.approx(losses.mean().item(), rel=1e-4)


def test_shares_of_an_update_add_up_to_its_mean():
    objective = supervised(dropout=0.0)
    made = first(objective)
    whole = objective(made)
    halves = [
        Batch(
            key=made["key"][part],
            image=made["image"][part],
            space=made["space"][part],
            target=made["target"][part],
            valid=made["valid"][part],
        )
        for part in (slice(0, 3), slice(3, 6))
    ]
    counts = [objective.counts(half) for half in halves]
    totals = {name: counts[0][name] + counts[1][name] for name in counts[0]}
    parts = [objective(half, totals) for half in halves]
    for name, value in whole.items():
        torch.testing.assert_close(parts[0][name] + parts[1][name], value)


def test_nothing_usable_gives_zero_and_a_live_graph():
    objective = supervised()
    made = first(objective)
    made["valid"] = torch.zeros_like(made["valid"])
    made["target"] = torch.full_like(made["target"], torch.nan)
    loss = objective(made)["loss"]
    loss.backward()
    assert loss == 0
    gradients = [p.grad for p in objective.parameters() if p.requires_grad]
    assert all(gradient is not None and (gradient == 0).all() for gradient in gradients)


def test_sky_is_learnt_as_disparity_zero():
    objective = supervised(dropout=0.0)
    made = first(objective)
    before = objective(made)["affine"]
    made["far"] = torch.zeros_like(made["valid"])
    made["far"][0, :8], made["valid"][0, :8], made["target"][0, :8] = True, False, torch.nan
    after = objective(made)["affine"]
    made["far"] = torch.zeros_like(made["far"])
    masked = objective(made)["affine"]
    assert len({float(before), float(after), float(masked)}) == 3


def test_metres_and_depth_up_to_scale_train_together():
    """As rendered sets and reconstructions in one batch; the unknown scale changes nothing."""
    objective = supervised(dropout=0.0)
    made = first(objective)
    metric = objective(made)["loss"]
    gradients = torch.autograd.grad(metric, list(objective.student.parameter_groups()["encoder"]))
    made["space"] = [Space.METRIC_DEPTH, Space.SCALE_INVARIANT_DEPTH] * 3
    made["target"] = made["target"] * torch.tensor([1, 0.01, 1, 300.0, 1, 7])[:, None, None]
    mixed = objective(made)["loss"]
    torch.testing.assert_close(mixed, metric)
    again = torch.autograd.grad(mixed, list(objective.student.parameter_groups()["encoder"]))
    torch.testing.assert_close(again, gradients)
    assert all(gradient.abs().sum() > 0 for gradient in gradients)


def test_metric_depth_learns_with_silog():
    def student() -> Student:
        made = Student()
        made.space = Space.METRIC_DEPTH
        return made

    objective = Supervised(student, [Term("silog", 1.0, silog)])
    loss = objective(first(objective))["loss"]
    loss.backward()
    assert loss > 0


def test_terms_are_checked():
    with pytest.raises(ValueError, match="at least one term"):
        Supervised(partial(Student), [])


def test_groups_are_the_students():
    objective = supervised()
    assert {name: len(group) for name, group in objective.parameter_groups().items()} == {
        "encoder": 2,
        "head": 2,
    }
    assert Planes().key(3) == "planes/003.png"
