from functools import partial

import numpy as np
import pytest
import torch
from contracts import check_loss

from distill.losses.affine_invariant import affine_invariant
from distill.losses.context_normalised import context_normalised

# two flat groups of 12 pixels, far apart: 0 to 2 in the first row, 10 to 12 in the second
TARGET = [[0.0, 1.0, 2.0] * 4, [10.0, 11.0, 12.0] * 4]
PRED = [[0.0, 2.0, 4.0] * 4, [30.0, 30.0, 33.0] * 4]


def affine(pred):
    return 3 * pred + 7


def test_contract():
    # level 2 alone: the first row is right up to scale, the second has 0 0 1.5 about its median
    # where deviation 1 makes it 0 0 3; the target has -1.5 0 1.5 about it: 1.5, 0, 1.5 of three
    check_loss(
        partial(context_normalised, levels=(2,)),
        invariances=[affine],
        example=(PRED, TARGET, (0 + 3.0 / 3) / 2),
    )


def test_contract_of_the_hybrid():
    maps = torch.tensor([PRED]), torch.tensor([TARGET])
    value = float(reference(maps[0][0].numpy(), maps[1][0].numpy(), (1, 2, 4)))
    check_loss(context_normalised, invariances=[affine], example=(PRED, TARGET, value))


def test_none_is_the_difference_itself():
    check_loss(
        partial(context_normalised, levels=()),
        example=(PRED, TARGET, float(np.abs(np.array(PRED) - np.array(TARGET)).mean())),
    )


def reference(pred, target, levels):
    """He et al. 2025, section 3.2, pixel by pixel, from the formulas; everything valid."""
    low, high = target.min(), target.max()
    total, number = np.zeros(target.shape), np.zeros(target.shape)
    for level in levels:
        edges = [low + (high - low) * k / level for k in range(level + 1)]
        for k in range(level):
            last = k == level - 1
            inside = (target >= edges[k]) & ((target <= high) if last else (target < edges[k + 1]))
            if inside.sum() < 10 or np.ptp(target[inside]) == 0:
                continue

            def normalised(x, where=inside):
                values = np.sort(x[where])
                middle = values[(len(values) - 1) // 2]
                return (x - middle) / max(np.abs(values - middle).mean(), 1e-6)

            difference = np.abs(normalised(pred) - normalised(target))
            total[inside] += difference[inside]
            number[inside] += 1
    return (total[number > 0] / number[number > 0]).mean()


@pytest.mark.parametrize("levels", [(1,), (4,), (1, 2, 4), (3, 5)])
def test_against_the_formulas(levels):
    rng = np.random.default_rng(0)
    pred, target = rng.random((2, 3, 30, 40)).astype(np.float32)
    target = target**2
    maps = torch.from_numpy(pred), torch.from_numpy(target)
    values = context_normalised(*maps, torch.ones(3, 30, 40) > 0, levels=levels)
    expected = [reference(*pair, levels) for pair in zip(pred, target, strict=True)]
    assert values.tolist() == pytest.approx(expected, rel=1e-4)


def test_one_context_is_the_affine_invariant_loss():
    pred, target, chance = torch.rand(3, 2, 20, 30, generator=torch.Generator().manual_seed(0))
    maps = pred, target, chance > 0.3
    torch.testing.assert_close(context_normalised(*maps, levels=(1,)), affine_invariant(*maps))


def test_noise_far_away_does_not_reach_the_other_contexts():
    """What the paper is about: a wrong near region moves every pixel of the global loss."""
    target = torch.linspace(0, 1, 400).view(1, 20, 20).clone()
    wrong = target.clone()
    wrong[:, 15:] += torch.rand(1, 5, 20, generator=torch.Generator().manual_seed(0))
    wrong[0, -1, -1] = target.max()
    valid = torch.ones_like(target) > 0
    clean = target < 0.7

    def gradient(levels):
        pred = (target + 0.01 * torch.sin(40 * target)).requires_grad_()
        loss = context_normalised(pred, wrong.clamp(max=1.0), valid, levels=levels)
        exact = context_normalised(pred, target, valid, levels=levels)
        (first,) = torch.autograd.grad(loss.sum(), pred, retain_graph=True)
        (second,) = torch.autograd.grad(exact.sum(), pred)
        return ((first - second).abs() * clean).sum() / (second.abs() * clean).sum()

    assert gradient((4,)) < 0.5 * gradient((1,))


def test_the_largest_pixel_has_a_context():
    """HDN's upper edge loses it in float32; here its error counts."""
    target = torch.linspace(0, 1, 40).view(1, 4, 10)
    pred = target.clone()
    pred[0, -1, -1] += 0.5
    assert context_normalised(pred, target, torch.ones_like(target) > 0, levels=(2,)).item() > 0.01


def test_empty_and_constant_segments_are_no_contexts():
    """Nothing between 0.5 and 0.9, and the nearest are all the same: one context of the level."""
    generator = torch.Generator().manual_seed(0)
    target = torch.rand(1, 10, 10, generator=generator) / 2
    target[:, 5:] = 1.0
    pred = torch.rand(1, 10, 10, generator=generator).requires_grad_()
    valid = torch.ones_like(target) > 0
    value = context_normalised(pred, target, valid, levels=(2,))
    rows = torch.zeros_like(valid)
    rows[:, :5] = True
    torch.testing.assert_close(value, affine_invariant(pred, target, rows))
    (gradient,) = torch.autograd.grad(value.sum(), pred)
    assert gradient.isfinite().all()
    assert (gradient[:, 5:] == 0).all()


def test_levels_are_checked():
    maps = torch.rand(1, 4, 5, generator=torch.Generator().manual_seed(0))
    with pytest.raises(ValueError, match="context_normalised: levels"):
        context_normalised(maps, maps, maps > 0, levels=(1, 0))
