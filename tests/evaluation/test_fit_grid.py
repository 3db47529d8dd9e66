"""Which pixels a fit of a reduced image sees, against PyTorch's resampling and a plain search."""

import dataclasses
import math

import pytest
import torch
from torch.nn import functional

from distill.evaluation import fit_grid
from distill.evaluation.protocols import Alignment, Protocol
from distill.evaluation.scoring import score
from distill.types import Prediction, Space


def holes(size: tuple[int, int], share: float) -> torch.Tensor:
    generator = torch.Generator().manual_seed(size[0])
    return torch.rand(size, generator=generator) < share


@pytest.mark.parametrize("size", [(30, 47), (47, 30), (10, 16)])
def test_nearest_within_is_torch_upsample(size):
    measured, values = holes(size, 0.7), torch.arange(size[0] * size[1]).view(size).double()
    factor = 16 / max(size)
    reduce = torch.nn.Upsample(scale_factor=factor, mode="nearest")
    small = [reduce(m[None, None].double())[0, 0] for m in (values, measured)]
    expected = small[0][small[1] > 0.5].long() if factor < 1 else values[measured].long()
    assert fit_grid.nearest_within(measured, 16).tolist() == expected.tolist()


def plain_search(measured: torch.Tensor, side: int) -> list[int]:
    height, width = measured.shape
    tall, wide = max(1, height / side), max(1, width / side)
    found = []
    for i in range(side):
        for j in range(side):
            y, x = (i + 0.5) * height / side, (j + 0.5) * width / side
            top, left = round(y - tall / 2), round(x - wide / 2)
            near = [
                ((r + 0.5 - y) ** 2 + (c + 0.5 - x) ** 2, r * width + c)
                for r in range(max(top, 0), min(top + math.ceil(tall), height))
                for c in range(max(left, 0), min(left + math.ceil(wide), width))
                if measured[r, c]
            ]
            found += [min(near)[1]] if near else []
    return found


@pytest.mark.parametrize("size", [(24, 32), (23, 37), (5, 40), (8, 8), (3, 5)])
@pytest.mark.parametrize("share", [0.0, 0.05, 0.6, 1.1])
def test_nearest_of_cells_is_the_plain_search(size, share):
    measured = holes(size, share)
    assert fit_grid.nearest_of_cells(measured, 8).tolist() == plain_search(measured, 8)


def test_a_whole_image_gives_a_pixel_for_each_cell():
    chosen = fit_grid.nearest_of_cells(torch.ones(128, 192, dtype=torch.bool), 64)
    assert len(chosen) == len(set(chosen.tolist())) == 64 * 64


def functional_fit(values, target, grid):
    rules = Protocol(id="t", dataset="", alignment=Alignment.DEPTH, fit_grid=grid, source="")
    prediction = Prediction(values=values, space=Space.AFFINE_DEPTH)
    return score(prediction, target, torch.ones_like(target, dtype=torch.bool), rules)


def test_the_fit_sees_the_grid_and_the_metrics_see_all():
    """Every second column is spoilt; a reduction by two sees the even ones alone."""
    y, x = torch.meshgrid(torch.arange(16.0), torch.arange(2048.0), indexing="ij")
    target = 2 + 0.001 * x + 0.1 * y
    values = target.clone()
    values[:, 1::2] += 3 + torch.sin(y[:, 1::2])
    reduced, full = (functional_fit(values, target, g) for g in ("nearest 1024", "full"))
    assert (reduced["scale"], reduced["shift"]) == pytest.approx((1, 0), abs=1e-6)
    assert full["shift"] != pytest.approx(0, abs=0.1)
    assert reduced["n_valid"] == target.numel()
    assert reduced["abs_rel"] > 0.1
    values[2, 2] += 100  # a reduction by four would not see it
    assert functional_fit(values, target, "nearest 1024")["shift"] != pytest.approx(0, abs=1e-3)


def test_cells_are_fitted_by_weighted_l1():
    """MoGe's fit in depth, against the same solver on the pixels that were picked."""
    generator = torch.Generator().manual_seed(1)
    target = 1 + 5 * torch.rand(90, 130, generator=generator, dtype=torch.float64)
    target = functional.avg_pool2d(target[None], 9, 1, 4)[0]
    values = 0.5 * target + 1 + 0.1 * torch.rand(90, 130, generator=generator)
    rules = Protocol(
        id="t", dataset="", alignment=Alignment.L1_DEPTH, fit_grid="nearest 64 x 64", source=""
    )
    prediction = Prediction(values=values, space=Space.AFFINE_DEPTH)
    valid = holes((90, 130), 0.8)
    row = score(prediction, target, valid, rules)
    chosen = fit_grid.nearest_of_cells(valid, 64)
    x, y = (m.flatten()[chosen][None] for m in (values, target))
    alone = score(
        Prediction(values=x, space=Space.AFFINE_DEPTH), y, y > 0,
        dataclasses.replace(rules, fit_grid="full"),
    )  # fmt: skip
    assert (row["scale"], row["shift"]) == (alone["scale"], alone["shift"])
    assert row["n_valid"] == int(valid.sum()) > len(chosen)
