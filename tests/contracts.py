"""Contracts: one test body for every loss, data set and model."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]


def check_loss(
    loss: Loss,
    *,
    invariances: Sequence[Callable[[Tensor], Tensor]] = (),
    example: tuple[list[list[float]], list[list[float]], float],
) -> None:
    """What every per-sample loss over `(pred, target, valid)` promises.

    Args:
        loss: to check; zero where `pred` equals `target`.
        invariances: changes of `pred` that leave the loss as it is.
        example: prediction, target and the loss computed by hand, all pixels valid.
    """
    _check_values(loss, invariances, example)
    _check_gradient(loss)
    _check_invalid_pixels(loss)
    _check_too_few_pixels(loss)
    _check_batch(loss)
    _check_precision(loss)
    _check_no_wait(loss)


def _maps(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    """Two samples of 6 x 7 with a fifth of the pixels invalid."""
    generator = torch.Generator().manual_seed(0)
    pred, target, chance = torch.rand(3, 2, 6, 7, generator=generator, dtype=torch.float64)
    return (pred + 0.5).to(dtype), (3 * target + 1).to(dtype), chance > 0.2


def _value_and_gradient(loss: Loss, pred: Tensor, target: Tensor, valid: Tensor) -> tuple:
    pred = pred.clone().requires_grad_()
    value = loss(pred, target, valid)
    (gradient,) = torch.autograd.grad(value.sum(), pred)
    return value.detach(), gradient


def _check_values(loss: Loss, invariances: Sequence[Callable], example: tuple) -> None:
    pred, target, valid = _maps()
    assert loss(target, target, valid).abs().max() < 1e-6, "not 0 at the optimum"
    before = loss(pred, target, valid)
    assert before.shape == (2,)
    assert (before > 0).all()
    for change in invariances:
        torch.testing.assert_close(loss(change(pred), target, valid), before)
    pred, target = (torch.tensor([values]) for values in example[:2])
    by_hand = torch.tensor([example[2]])
    torch.testing.assert_close(loss(pred, target, torch.ones_like(pred) > 0), by_hand)


def _check_gradient(loss: Loss) -> None:
    pred, target, valid = _maps(torch.float64)
    assert torch.autograd.gradcheck(lambda x: loss(x, target, valid), pred.requires_grad_())
    for degenerate in (target, torch.full_like(target, 2.0)):
        _, gradient = _value_and_gradient(loss, degenerate.float(), target.float(), valid)
        assert gradient.isfinite().all()


def _check_invalid_pixels(loss: Loss) -> None:
    pred, target, valid = _maps()
    value, gradient = _value_and_gradient(loss, pred, target, valid)
    assert (gradient[~valid] == 0).all()
    for junk in (torch.nan, torch.inf, -torch.inf, -1e30, 0.0):
        junk_pred, junk_target = (torch.where(valid, x, junk) for x in (pred, target))
        junk_value, junk_gradient = _value_and_gradient(loss, junk_pred, junk_target, valid)
        assert torch.equal(junk_value, value), f"{junk} outside valid changed the loss"
        assert torch.equal(junk_gradient, gradient), f"{junk} outside valid changed the gradient"


def _check_too_few_pixels(loss: Loss) -> None:
    pred, target, valid = _maps()
    whole, whole_gradient = _value_and_gradient(loss, pred, target, valid)
    nine = torch.zeros_like(valid[0]).flatten().index_fill(0, torch.arange(9), True)
    for few in (torch.zeros_like(valid[0]), nine.view_as(valid[0])):
        target = target.clone()
        target[0] = torch.where(few, target[0], torch.nan)
        value, gradient = _value_and_gradient(loss, pred, target, torch.stack([few, valid[1]]))
        assert value[0] == 0
        assert (gradient[0] == 0).all()
        assert torch.equal(value[1], whole[1])
        assert torch.equal(gradient[1], whole_gradient[1])


def _check_batch(loss: Loss) -> None:
    maps = _maps()
    alone = torch.cat([loss(*(x[i : i + 1] for x in maps)) for i in range(2)])
    torch.testing.assert_close(loss(*maps), alone, rtol=1e-6, atol=0)


def _check_precision(loss: Loss) -> None:
    pred, target, valid = _maps()
    whole = loss(pred, target, valid)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(loss(pred, target, valid), whole, rtol=1e-3, atol=0)
        half = loss(pred.bfloat16(), target, valid)
    assert half.dtype == torch.float32
    torch.testing.assert_close(
        half, loss(pred.bfloat16().float(), target, valid), rtol=1e-3, atol=0
    )


def _check_no_wait(loss: Loss) -> None:
    """The meta device holds no numbers: reading one, or a shape that depends on one, raises."""
    assert loss(*(x.to("meta") for x in _maps())).shape == (2,)
