"""The line between two maps of which parts are wrong."""

import pytest
import torch
from scenes import pinhole, room

from distill.labels.robust_fit import robust_fit, sampled
from distill.types import Space

AFFINE = Space.AFFINE_DISPARITY


@pytest.fixture
def truth():
    return (1 / room(60, 80, pinhole(60, 80)).depth).float().flatten()[None]


def everywhere(x):
    return torch.ones_like(x, dtype=torch.bool)


def test_an_exact_line_is_found(truth):
    fit = robust_fit(truth, 3 * truth + 200, everywhere(truth), space=AFFINE)
    assert fit.scale.item() == pytest.approx(3, rel=1e-3)
    assert fit.shift.item() == pytest.approx(200, rel=1e-4)
    assert fit.distance.item() < 1e-2


@pytest.mark.parametrize("share", [0.1, 0.3, 0.45])
@pytest.mark.parametrize("junk", [0.0, 0.4, 3.0, 1e6])
@pytest.mark.parametrize("wrong", ["pred", "target"])
def test_a_wrong_minority_does_not_move_it(truth, share, junk, wrong):
    pred, target = truth.clone(), 3 * truth + 2
    (pred if wrong == "pred" else target)[:, : int(share * truth.numel())] = junk
    fit = robust_fit(pred, target, everywhere(truth), space=AFFINE)
    assert fit.scale.item() == pytest.approx(3, rel=1e-2)
    assert fit.shift.item() == pytest.approx(2, rel=1e-2)
    assert fit.distance.item() == pytest.approx(share, abs=0.1)


def test_a_sky_of_one_value_does_not_hide_the_rest(truth):
    low = torch.where(torch.arange(truth.numel()) < 0.7 * truth.numel(), 0.05, truth)
    fit = robust_fit(low, 3 * low + 2, everywhere(low), space=AFFINE)
    assert fit.scale.item() == pytest.approx(3, rel=1e-3)


def test_noise_flattens_nothing_and_both_directions_are_one_line(truth):
    noise = torch.randn(truth.shape, generator=torch.Generator().manual_seed(0))
    there = robust_fit(truth, 3 * (truth + 0.02 * noise), everywhere(truth), space=AFFINE)
    back = robust_fit(3 * (truth + 0.02 * noise), truth, everywhere(truth), space=AFFINE)
    assert (there.scale * back.scale).item() == pytest.approx(1, rel=0.05)
    assert there.distance.item() == pytest.approx(back.distance.item(), rel=0.05)


def test_invalid_pixels_may_hold_anything(truth):
    valid = torch.arange(truth.numel())[None] % 3 > 0
    fits = [
        robust_fit(torch.where(valid, truth, junk), 2 * truth, valid, space=AFFINE)
        for junk in (0.0, torch.nan, torch.inf)
    ]
    assert fits[0].scale.item() == pytest.approx(2, rel=1e-3)
    assert torch.equal(fits[0].scale, fits[1].scale)
    assert torch.equal(fits[0].scale, fits[2].scale)


def test_what_is_known_is_not_fitted(truth):
    one = robust_fit(truth, 3 * truth, everywhere(truth), space=Space.SCALE_INVARIANT_DISPARITY)
    assert one.shift.item() == 0
    assert one.scale.item() == pytest.approx(3, rel=1e-3)
    none = robust_fit(truth, 3 * truth, everywhere(truth), space=Space.METRIC_DEPTH)
    assert (none.scale.item(), none.shift.item()) == (1, 0)
    assert none.distance.item() > 0.5
    same = robust_fit(truth, truth, everywhere(truth), space=Space.METRIC_DEPTH)
    assert same.distance.item() == 0


@pytest.mark.parametrize("space", [AFFINE, Space.SCALE_INVARIANT_DEPTH, Space.METRIC_DEPTH])
def test_degenerate_maps(truth, space):
    flat = torch.full_like(truth, 0.3)
    maps = torch.cat([flat, truth, truth]), torch.cat([truth, flat, truth])
    valid = everywhere(maps[0])
    valid[2] = False
    fit = robust_fit(*maps, valid, space=space)
    assert fit.distance.tolist()[:2] == [1, 1]
    assert fit.distance[2] == 1
    assert torch.isfinite(fit.scale).all()
    assert torch.isfinite(fit.shift).all()


def test_a_batch_is_its_parts_and_nothing_is_random(truth):
    pred = torch.cat([truth, truth.flip(1), truth**2])
    target = torch.cat([truth * 2, truth, truth])
    whole = robust_fit(pred, target, everywhere(pred), space=AFFINE)
    torch.rand(5)
    parts = [
        robust_fit(p[None], t[None], everywhere(p[None]), space=AFFINE)
        for p, t in zip(pred, target, strict=True)
    ]
    torch.testing.assert_close(whole.scale, torch.cat([part.scale for part in parts]))


def test_an_order_has_no_line(truth):
    with pytest.raises(ValueError, match="ordinal maps have neither scale nor shift"):
        robust_fit(truth, truth, everywhere(truth), space=Space.ORDINAL)


def test_the_grid_is_bounded_and_the_same_for_maps_of_one_size():
    big = torch.arange(600 * 800.0).view(1, 600, 800)
    assert 4000 < sampled(big).shape[-1] < 17000
    assert torch.equal(sampled(2 * big), 2 * sampled(big))
    small = torch.rand(2, 5, 6)
    assert torch.equal(sampled(small), small.flatten(1))
