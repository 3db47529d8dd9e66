"""Scale and shift between two maps of one image, of which parts may be wrong.

Least squares follows what is wrong; least absolute distances still follow a wrong region of extreme
values, and a median of residuals is content with the sky. So pairs of pixels propose a line each,
the line that most pixels are near wins, and the pixels near it refine it.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64, Shaped
from torch import Tensor

from distill import masked
from distill.types import Space

_NEAR = 0.5  # of a map's spread: a pixel farther from the line has no say
_SMALLEST = 0.01  # of the spread: no line is known better
_PROPOSALS = 128
_JUDGES = 1024  # pixels that judge the proposals
_PIXELS = 8192  # that refine the best
_ROUNDS = 6
_METRIC = {Space.METRIC_DEPTH, Space.METRIC_INVERSE_DEPTH}
_UP_TO_SCALE = {Space.SCALE_INVARIANT_DEPTH, Space.SCALE_INVARIANT_DISPARITY}


@dataclass(frozen=True)
class Fit:
    """`target = scale * pred + shift` where they agree, one line for each pair of maps.

    Attributes:
        scale: above 0; 0 for a constant `pred`, which has no line.
        shift: in the unit of `target`.
        distance: in [0, 1], of the line from the pixels: the mean of |difference| relative to half
            the spread of the flatter map, at most 1 for each pixel. A third of the pixels wrong
            and the others exact gives 1/3; maps that have nothing in common, nearly 1.
    """

    scale: Float[Tensor, " n"]
    shift: Float[Tensor, " n"]
    distance: Float[Tensor, " n"]


def sampled(maps: Shaped[Tensor, "*n h w"]) -> Shaped[Tensor, "*n p"]:
    """Pixels of a grid as coarse as the fit needs them; maps of one size have them in common."""
    stride = max(1, round((maps.shape[-2] * maps.shape[-1] / _PIXELS) ** 0.5))
    return maps[..., stride // 2 :: stride, stride // 2 :: stride].flatten(-2)


def robust_fit(
    pred: Float[Tensor, "n p"],
    target: Float[Tensor, "n p"],
    valid: Bool[Tensor, "n p"],
    *,
    space: Space,
) -> Fit:
    """The line that most pixels are near: random sample consensus with a fixed choice of pairs.

    Fischler & Bolles 1981, with the truncated distance of Torr & Zisserman 2000 (MSAC) and Tukey's
    biweight to refine. The scale is the ratio of the deviations (reduced major axis), which unlike
    a regression is the same in both directions and not flattened by noise. Both spreads count, so
    that a wild region cannot hide by making its map's spread large.

    Args:
        pred: to be brought to `target`; numbers of one `space`, as `target`.
        target: what is kept.
        valid: pixels that both have; the others may hold anything.
        space: says what is unknown: scale and shift, scale alone (shift 0), nothing (scale 1).

    Returns:
        The lines, their distance 1 where a map is constant or nothing is valid.

    Raises:
        ValueError: an order has no line.
    """
    if space is Space.ORDINAL:
        raise ValueError("robust_fit: ordinal maps have neither scale nor shift to be found")
    x, x_middle, x_spread = _unit(pred, valid, space)
    y, y_middle, y_spread = _unit(target, valid, space)
    if space in _METRIC:
        slope, lift = x_spread / y_spread, torch.zeros_like(x_spread)
    else:
        slope, lift = _best_proposal(x, y, valid, space)
        near = _NEAR * slope.clamp(max=1.0)
        for _ in range(_ROUNDS):
            slope, lift, near = _refined(x, y, valid, (slope, lift, near), space)
    says = _varies(x, valid) & _varies(y, valid)
    distance = _distance(x, y, valid, slope[:, None], lift[:, None])[:, 0]
    scale = torch.where(_varies(x, valid), slope * y_spread / x_spread, 0.0)
    if space in _METRIC:
        scale = torch.ones_like(scale)
    shift = y_middle + y_spread * torch.where(scale > 0, lift, 0.0) - scale * x_middle
    return Fit(scale, shift, torch.where(says, distance, 1.0))


def _unit(values: Tensor, valid: Tensor, space: Space) -> tuple[Tensor, Tensor, Tensor]:
    """Values with spread 1, about 0 where a shift is free; the middle and spread they had."""
    values = masked.fill(values[:, None], valid[:, None])
    middle = masked.median(values, valid[:, None])
    spread = masked.mad(values, valid[:, None], middle)
    if space in _METRIC | _UP_TO_SCALE:
        middle = torch.zeros_like(middle)
    spread = torch.where(spread > 0, spread, 1.0)
    unit = (values[:, 0] - middle[:, None]) / spread[:, None]
    return torch.where(valid, unit, 0.0), middle, spread


def _varies(unit: Tensor, valid: Tensor) -> Bool[Tensor, " n"]:
    """Whether a map of spread 1 has one: a constant map was divided by 1 and stays as flat."""
    return masked.mad(unit[:, None], valid[:, None]) > 0.5


def _best_proposal(x: Tensor, y: Tensor, valid: Tensor, space: Space) -> tuple[Tensor, Tensor]:
    """Of the lines through two pixels each, and the one that equals the spreads, the nearest."""
    order = _shuffled(x.shape[1]).to(x.device)
    first = order[torch.arange(_PROPOSALS, device=x.device) % len(order)]
    second = order[(torch.arange(_PROPOSALS, device=x.device) + _PROPOSALS) % len(order)]
    here, there = valid[:, first], valid[:, second]
    if space in _UP_TO_SCALE:
        run, rise, usable = x[:, first], y[:, first], here
    else:
        run, rise, usable = x[:, second] - x[:, first], y[:, second] - y[:, first], here & there
    usable = usable & (run * rise > 0)
    slope = torch.where(usable, rise / torch.where(usable, run, 1.0), 1.0)
    free = space not in _UP_TO_SCALE
    lift = torch.where(usable & free, y[:, first] - slope * x[:, first], 0.0)
    judges = order[:_JUDGES]
    distance = _distance(x[:, judges], y[:, judges], valid[:, judges], slope, lift)
    best = distance.argmin(dim=1, keepdim=True)
    return slope.gather(1, best)[:, 0], lift.gather(1, best)[:, 0]


def _distance(x: Tensor, y: Tensor, valid: Tensor, slope: Tensor, lift: Tensor) -> Tensor:
    """Of each line of each pair of maps, (n, m)."""
    rest = (slope[..., None] * x[:, None] + lift[..., None] - y[:, None]).abs()
    near = _NEAR * slope.clamp(min=1e-6, max=1.0)
    counted = torch.where(valid[:, None], (rest / near[..., None]).clamp(max=1), 0.0)
    return counted.sum(-1) / valid.sum(-1).clamp(min=1)[:, None]


def _refined(
    x: Tensor, y: Tensor, valid: Tensor, line: tuple[Tensor, Tensor, Tensor], space: Space
) -> tuple[Tensor, Tensor, Tensor]:
    """Slope and lift of the pixels nearer than `near` to the line, and what is near from now on."""
    slope, lift, near = line
    rest = (slope[:, None] * x + lift[:, None] - y).abs()
    weight = torch.where(valid, (1 - (rest / near[:, None]).square()).clamp(min=0).square(), 0.0)
    total = weight.sum(1, keepdim=True)
    weight = weight / torch.where(total > 0, total, 1.0)
    if space in _UP_TO_SCALE:
        x_mean = y_mean = torch.zeros_like(total)
    else:
        x_mean, y_mean = ((weight * m).sum(1, keepdim=True) for m in (x, y))
    x_power, y_power = ((weight * (m - c).square()).sum(1) for m, c in ((x, x_mean), (y, y_mean)))
    found = (total[:, 0] > 0) & (x_power > 1e-8) & (y_power > 1e-8)
    ratio = torch.where(found, y_power, 1.0) / torch.where(found, x_power, 1.0)
    slope = torch.where(found, ratio.sqrt(), slope)
    lift = torch.where(found, (y_mean - slope[:, None] * x_mean)[:, 0], lift)
    deviation = (weight * rest).sum(1)
    return slope, lift, torch.minimum(near, (4 * deviation).clamp(min=_SMALLEST))


def _shuffled(count: int) -> Int64[Tensor, " p"]:
    """The same order at every call."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(0))
