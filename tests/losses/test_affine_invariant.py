from functools import partial

import pytest
import torch
from contracts import check_loss

from distill.alignment import least_squares_difference
from distill.losses.affine_invariant import affine_invariant

# test vectors T1 and T1b with each pixel three times: the statistics stay, and 15 pixels are enough
PRED, TARGET = [[0.0, 1.0, 1.0, 3.0, 7.0]] * 3, [[1.0, 2.0, 3.0, 4.0, 10.0]] * 3


def affine(pred):
    return 3 * pred + 7


@pytest.mark.parametrize("trim", [0.0, 0.2])
def test_contract(trim):
    # T1: residuals .353535 .454545 0 .656566 .151515, three each; without a fifth the three
    # largest are gone
    value = {0.0: 0.3232323, 0.2: (0.353535 + 0.454545 + 0.151515) / 4}[trim]
    check_loss(
        partial(affine_invariant, trim=trim), invariances=[affine], example=(PRED, TARGET, value)
    )


def test_masked_vector():
    pred, target = torch.tensor([PRED]), torch.tensor([TARGET])
    valid = torch.ones_like(pred, dtype=torch.bool)
    valid[:, :, -1] = False
    assert affine_invariant(pred, target, valid).item() == pytest.approx(0.5)


def test_target_may_have_any_scale_and_shift_but_not_the_other_sign():
    # test vector T1c
    pred, target = torch.tensor([PRED]), torch.tensor([TARGET])
    valid = torch.ones_like(pred, dtype=torch.bool)
    value = affine_invariant(pred, target, valid).item()
    assert affine_invariant(pred, (target - 1) / 9, valid).item() == pytest.approx(value)
    assert affine_invariant(-pred, target, valid).item() == pytest.approx(2.0)


def test_trim_drops_the_largest_of_each_sample():
    """Two of 21 pixels differ, by amounts that leave median 0 and mean deviation 20/21."""
    target = torch.tensor([-1.0] * 10 + [0.0] + [1.0] * 10).view(1, 1, 21)
    pred = target.clone()
    pred[..., [0, 20]] += 0.5
    valid = torch.ones_like(pred, dtype=torch.bool)
    assert affine_invariant(pred, target, valid).item() == pytest.approx(2 * 0.5 / 20)
    maps = torch.cat([pred, target]), torch.cat([target, target]), valid.repeat(2, 1, 1)
    assert affine_invariant(*maps, trim=0.1).tolist() == [0, 0]


def test_trim_keeps_the_rounded_down_share():
    generator = torch.Generator().manual_seed(0)
    for count in (10, 11, 20, 21, 999, 1000):
        pred, target = torch.rand(2, 1, 1, count, generator=generator)
        pred.requires_grad_()
        valid = torch.ones_like(target, dtype=torch.bool)
        residual = _residuals(pred.detach(), target, valid)
        kept = residual.sort().values[: count * 9 // 10]
        value = affine_invariant(pred, target, valid, trim=0.1)
        assert value.item() == pytest.approx(kept.mean().item(), rel=1e-5)


def _residuals(pred, target, valid):
    def normalised(x):
        x = x[valid].double()
        return (x - x.median()) / (x - x.median()).abs().mean()

    return (normalised(pred) - normalised(target)).abs()


def test_equal_residuals_are_all_kept():
    # test vector T3, second half: a mirrored two-valued map has the residual 2 everywhere
    target = torch.tensor([[[-1.0, 1.0] * 10]])
    pred = (-target).requires_grad_()
    valid = torch.ones_like(target, dtype=torch.bool)
    value = affine_invariant(pred, target, valid, trim=0.1)
    assert value.item() == pytest.approx(affine_invariant(pred, target, valid).item())
    assert value.item() > 0
    (gradient,) = torch.autograd.grad(value.sum(), pred)
    assert gradient.isfinite().all()


def test_statistics_come_from_all_valid_pixels():
    """Doubling the differences that are dropped changes the others through the deviation."""
    generator = torch.Generator().manual_seed(0)
    pred, target = torch.rand(2, 1, 5, 20, generator=generator)
    valid = torch.ones_like(target, dtype=torch.bool)
    value = affine_invariant(pred, target, valid, trim=0.1)
    pred[0, 0, 0] = 50.0
    assert affine_invariant(pred, target, valid, trim=0.1).item() != pytest.approx(value.item())


def test_constant_target_has_no_loss_and_no_gradient():
    pred = torch.rand(1, 4, 5, generator=torch.Generator().manual_seed(0)).requires_grad_()
    value = affine_invariant(pred, torch.full((1, 4, 5), 0.3), torch.ones(1, 4, 5) > 0)
    (gradient,) = torch.autograd.grad(value.sum(), pred)
    assert value.item() == 0
    assert (gradient == 0).all()


def falling(maps):
    """Weights 1, 1/2, 1/3, ... of the pixels of each sample, on any device."""
    count = maps.shape[1] * maps.shape[2]
    return 1 / torch.arange(1, count + 1, device=maps.device).view(1, *maps.shape[1:]).expand(
        len(maps), -1, -1
    )


def weighted(pred, target, valid, *, trim=0.0):
    weight = torch.where(valid, falling(target), torch.nan)  # nothing is known of the others
    return affine_invariant(pred, target, valid, trim=trim, weight=weight)


@pytest.mark.parametrize("trim", [0.0, 0.2])
def test_contract_weighted(trim):
    residuals = [0.353535, 0.454545, 0, 0.656566, 0.151515] * 3
    rows = [
        (r, 1 / (n + 1)) for n, r in enumerate(residuals) if not (trim and n % 5 == 3)
    ]  # the fourth column is the largest
    value = sum(r * w for r, w in rows) / sum(w for _, w in rows)
    check_loss(partial(weighted, trim=trim), invariances=[affine], example=(PRED, TARGET, value))


def test_equal_weights_are_none_and_no_weight_is_no_loss():
    pred, target, chance = torch.rand(3, 2, 9, 11, generator=torch.Generator().manual_seed(0))
    valid = chance > 0.2
    plain = affine_invariant(pred, target, valid, trim=0.1)
    even = affine_invariant(pred, target, valid, trim=0.1, weight=torch.full_like(pred, 0.3))
    torch.testing.assert_close(even, plain)
    pred.requires_grad_()
    none = affine_invariant(pred, target, valid, trim=0.1, weight=torch.zeros_like(target))
    (gradient,) = torch.autograd.grad(none.sum(), pred)
    assert none.tolist() == [0, 0]
    assert (gradient == 0).all()


def test_what_is_trimmed_does_not_depend_on_the_weights():
    """The largest difference goes, be its weight 0 or all there is beside another."""
    target = torch.tensor([-1.0] * 10 + [0.0] + [1.0] * 10).view(1, 1, 21)
    pred = target.clone()
    pred[..., [0, 20]] += torch.tensor([0.25, 0.5])
    valid = torch.ones_like(pred, dtype=torch.bool)
    for heavy in (0.0, 100.0):
        weight = torch.ones_like(pred)
        weight[..., 20] = heavy
        value = affine_invariant(pred, target, valid, trim=0.05, weight=weight)
        assert value.item() == pytest.approx(
            affine_invariant(pred, target, valid, trim=0.05).item(), rel=1e-5
        )


@pytest.mark.parametrize("trim", [-0.1, 1.0])
def test_trim_out_of_bounds_is_refused(trim):
    maps = torch.rand(1, 4, 5, generator=torch.Generator().manual_seed(0))
    with pytest.raises(ValueError, match="affine_invariant: trim is"):
        affine_invariant(maps, maps, maps > 0, trim=trim)


@pytest.mark.parametrize("squared", [True, False])
def test_contract_by_least_squares(squared):
    # T6: scale 1.25 and shift 1 leave 0 .25 -.75 .75 -.25, of a target that spans 9
    differences = [0, 0.25, 0.75, 0.75, 0.25]
    value = sum((d / 9) ** 2 if squared else d / 9 for d in differences) / 5
    check_loss(
        partial(affine_invariant, difference=least_squares_difference, squared=squared),
        invariances=[affine, lambda pred: -pred],  # least squares do not see the sign
        example=(PRED, TARGET, value),
    )


def test_a_trimmed_sum_may_be_divided_by_all_that_is_valid():
    pred, target, chance = torch.rand(3, 2, 9, 11, generator=torch.Generator().manual_seed(0))
    valid = chance > 0.2
    count = valid.flatten(1).sum(1)
    kept = (0.9 * count.double() + 1e-6).long()
    by_kept = affine_invariant(pred, target, valid, trim=0.1)
    by_valid = affine_invariant(pred, target, valid, trim=0.1, divide_by="valid")
    torch.testing.assert_close(by_valid, by_kept * kept / count)
    with pytest.raises(ValueError, match="divided by the weight of the kept"):
        affine_invariant(pred, target, valid, divide_by="valid", weight=chance)


def test_regions_are_left_out_whole():
    """The worst of four squares goes with the pixels in it that were right."""
    target = torch.arange(64.0).view(1, 8, 8)
    pred = target.clone()
    pred[0, 1, 1] += 30.0  # one pixel, far off
    pred[0, 4:, 4:] += 5.0 + torch.arange(16.0).view(4, 4) / 100  # sixteen pixels, a little
    valid = torch.ones_like(pred, dtype=torch.bool)
    raw = partial(affine_invariant, difference=lambda p, t, v: (p - t, v), trim=0.25)
    assert raw(pred, target, valid).item() == pytest.approx(5 / 48, rel=1e-5)
    assert raw(pred, target, valid, region=4).item() == pytest.approx(30 / 48, rel=1e-5)
    valid[0, 4:, 4:] = False  # nothing there to be left out: three squares, two are kept
    assert raw(pred, target, valid, region=4).item() == 0
