import math
from functools import partial

import pytest
import torch
from contracts import check_loss

from distill.losses.silog import silog

E = math.e
PRED, TARGET = [[1.0] * 10, [1.0] * 10], [[E] * 10, [E**3] * 10]


@pytest.mark.parametrize("focus", [0.0, 0.5, 1.0])
def test_contract(focus):
    # log differences 1 and 3: mean of squares 5, square of mean 4
    scaled = [lambda pred: 3 * pred] if focus == 1 else []
    check_loss(
        partial(silog, variance_focus=focus),
        invariances=scaled,
        example=(PRED, TARGET, math.sqrt(5 - 4 * focus)),
    )


def test_zero_prediction_is_finite():
    pred = torch.zeros(1, 4, 5).requires_grad_()
    value = silog(pred, torch.ones(1, 4, 5), torch.ones(1, 4, 5) > 0)
    (gradient,) = torch.autograd.grad(value.sum(), pred)
    assert value.item() == pytest.approx(math.sqrt(0.5) * math.log(1e6), rel=1e-5)
    assert gradient.isfinite().all()


def test_a_wall_counts():
    """A constant target says something about metric depth, unlike up to scale and shift."""
    depth = torch.full((1, 4, 5), 2.0)
    assert silog(depth * 2, depth, depth > 0).item() == pytest.approx(math.sqrt(0.5) * math.log(2))


@pytest.mark.parametrize("focus", [-0.1, 1.1])
def test_focus_out_of_bounds_is_refused(focus):
    depth = torch.ones(1, 4, 5)
    with pytest.raises(ValueError, match="silog: variance_focus is"):
        silog(depth, depth, depth > 0, variance_focus=focus)
