from functools import partial

import pytest
import torch
from contracts import check_loss

from distill.alignment import least_squares_difference
from distill.losses.gradient_matching import gradient_matching

# of these 12 pixels the median is 0 and the mean deviation 1, for both maps
PRED = [[0.0, 3.0, 0.0, -3.0], [0.0, 3.0, 0.0, -3.0], [0.0, 0.0, 0.0, 0.0]]
TARGET = [[0.0, 3.0, 0.0, 0.0], [0.0, 3.0, 0.0, 0.0], [0.0, -3.0, 0.0, -3.0]]


def test_contract():
    # difference: rows (0 0 0 -3) (0 0 0 -3) (0 3 0 3); level 0: across 3 + 3 + 9, down 0 + 3 + 6,
    # over 12; level 1 keeps (0 0) (0 0), level 2 and 3 keep one pixel
    check_loss(
        gradient_matching,
        invariances=[lambda pred: 3 * pred + 7],
        example=(PRED, TARGET, (15 + 9) / 12),
    )


def weighted(pred, target, valid):
    """Columns of weight 1, 1/2, 1/3, ...; nothing is known where not valid."""
    column = 1 / torch.arange(1, pred.shape[2] + 1, device=pred.device)
    weight = torch.where(valid, column.expand_as(target), torch.nan)
    return gradient_matching(pred, target, valid, weight=weight)


def test_contract_weighted():
    # weights 1 1/2 1/3 1/4 a row. Across, each pair with the smaller: 3/4 + 3/4 + (3/2 + 1 + 3/4);
    # down, by column: 3 at 1/2 and 6 at 1/4, over 3 * 25/12; level 1 and on have no difference
    across, down = 0.75 + 0.75 + (1.5 + 1 + 0.75), 3 / 2 + 6 / 4
    check_loss(
        weighted,
        invariances=[lambda pred: 3 * pred + 7],
        example=(PRED, TARGET, (across + down) / 6.25),
    )


def test_equal_weights_are_none_and_no_weight_is_no_loss():
    pred, target, chance = torch.rand(3, 2, 9, 11, generator=torch.Generator().manual_seed(0))
    valid = chance > 0.2
    even = gradient_matching(pred, target, valid, weight=torch.full_like(pred, 0.3))
    torch.testing.assert_close(even, gradient_matching(pred, target, valid))
    pred.requires_grad_()
    none = gradient_matching(pred, target, valid, weight=torch.zeros_like(target))
    (gradient,) = torch.autograd.grad(none.sum(), pred)
    assert none.tolist() == [0, 0]
    assert (gradient == 0).all()


def test_vector_on_given_differences():
    # test vector T4
    i, j = torch.meshgrid(torch.arange(8), torch.arange(8), indexing="ij")
    difference = ((i * j) % 5).float()[None]
    valid = torch.ones(1, 8, 8, dtype=torch.bool)
    matching = partial(gradient_matching, difference=_as_given)
    assert matching(difference, difference, valid).item() == pytest.approx(5.6875)
    assert matching(difference, difference, valid, scales=1).item() == 2.5625
    valid[:, 2:4, 3:6] = False
    assert matching(difference, difference, valid).item() == pytest.approx(5.1436782)


def _as_given(pred, target, valid):
    return torch.where(valid, pred, 0.0), valid


def test_contract_by_least_squares():
    # shift and scale of T6: the difference of each row is 0 .25 -.75 .75 -.25, ninths of the target
    rows = [[0.0, 1.0, 1.0, 3.0, 7.0]] * 3, [[1.0, 2.0, 3.0, 4.0, 10.0]] * 3
    across = 3 * (0.25 + 1.0 + 1.5 + 1.0) / 9 / 15
    coarse = 2 * (0.75 + 0.5) / 9 / 6
    coarser = 0.25 / 9 / 2
    check_loss(
        partial(gradient_matching, difference=least_squares_difference),
        invariances=[lambda pred: 3 * pred + 7],
        example=(*rows, across + coarse + coarser),
    )


def test_what_the_loss_leaves_out_may_be_left_out_here():
    """One pixel of twenty is wrong: with it out no edge is left to match."""
    target = torch.arange(20.0).view(1, 4, 5)
    pred = target.clone()
    pred[0, 1, 2] += 40.0
    valid = torch.ones_like(pred, dtype=torch.bool)
    matching = partial(gradient_matching, difference=lambda p, t, v: (p - t, v))
    assert matching(pred, target, valid).item() == pytest.approx(4 * 40 / 20)
    assert matching(pred, target, valid, trim=0.05).item() == 0
    assert matching(pred, target, valid, trim=0.25, region=2).item() == 0
    with pytest.raises(ValueError, match="gradient_matching: trim is"):
        matching(pred, target, valid, trim=1.0)


def test_no_difference_straddles_invalid_pixels():
    """Two flat halves a step apart, the border between them invalid: no gradient to match."""
    pred = torch.zeros(1, 6, 7)
    pred[:, :, 4:] = 5.0
    target = torch.arange(42.0).view(1, 6, 7) * 0
    target[:, :, 4:] = -5.0
    valid = torch.ones_like(pred, dtype=torch.bool)
    assert gradient_matching(pred, target, valid, scales=1).item() > 0
    valid[:, :, 3] = False
    assert gradient_matching(pred, target, valid, scales=1).item() == 0


def test_no_scales_are_refused():
    maps = torch.rand(1, 4, 5, generator=torch.Generator().manual_seed(0))
    with pytest.raises(ValueError, match="scales is 0; it must be at least 1"):
        gradient_matching(maps, maps, maps > 0, scales=0)
