"""How a label and a second opinion of the same image contradict each other, in a few numbers.

Each number grows with the suspicion of one fault. Only the order of a map's values counts: scale,
shift and any bend of the scale are equalised first. A fault is undone on trial: a label that fits
the witness better as its mirror image, or some pixels further, is mirrored or shifted.
"""

from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from distill.labels.edges import fast_side
from distill.types import Space

_REACH = 8  # pixels that a label is moved on trial
_APART = 2.5  # pixels; nearer than that is not called a shift
_SOFT = 0.05  # correlations of nearly 1 do not make ratios without bound
_FARTHEST = 0.15  # of the pixels, by the witness
_NEAREST = 0.2  # of those
_FEW = 16  # distinct values, fewer of which say nothing about their spacing


def equalised(
    values: Float[Tensor, "h w"], valid: Bool[Tensor, "h w"], space: Space
) -> Float[Tensor, "h w"]:
    """The rank of each pixel, from -0.5 (farthest) to 0.5 (nearest); 0 where not `valid`.

    Equal values have the mean of their ranks, so a constant map is 0 everywhere.
    """
    near = values[valid] if space.is_inverse else -values[valid]
    ranks = torch.zeros_like(values)
    if near.numel() > 0:
        place, count = np.unique(near.numpy(), return_inverse=True, return_counts=True)[1:]
        middle = count.cumsum() - (count + 1) / 2
        rank = middle[place.reshape(-1)] / max(1, near.numel() - 1) - 0.5
        ranks[valid] = torch.as_tensor(rank, dtype=ranks.dtype)
    return ranks


def quantised(values: Float[Tensor, "h w"], valid: Bool[Tensor, "h w"], levels: int = 256) -> float:
    """1 where all values lie on `levels` equal steps between the extremes, near 0 where not.

    One minus four times the mean distance from a step, over the distinct values: a map that is half
    sky counts its sky once. A codec of 2048 levels moves what was quantised before by at most 1/16
    of a step, which leaves 0.75 or more. 0 for a map of fewer than 16 distinct values.
    """
    distinct = np.unique(values[valid].numpy()).astype(np.float64)
    if distinct.size < _FEW:
        return 0.0
    steps = (distinct - distinct[0]) / (distinct[-1] - distinct[0]) * (levels - 1)
    return float(1 - 4 * np.abs(steps - steps.round()).mean())


def contradictions(
    labels: Float[Tensor, "n h w"], witness: Float[Tensor, "h w"]
) -> dict[str, Float[Tensor, " n"]]:
    """What speaks for each reason but `quantised`, of `equalised` maps.

    Args:
        labels: of one image.
        witness: of the same image, from elsewhere.

    Returns:
        inverted, unlike: minus the correlation of the values, minus that of the gradients.
        mirrored, shifted: how much less the gradients leave unexplained once that is undone, as the
            log of the ratio of what is left.
        near sky: the mean rank of the pixels that the witness finds farthest.
        near in the sky: that of the nearest fifth of them.
    """
    labels, witness = _smooth(labels), _smooth(witness[None])
    moved, mirrored = _moved(torch.cat([labels, labels.flip(-1)]), witness).chunk(2)
    middle = torch.arange(-_REACH, _REACH + 1)
    away = (middle[:, None].square() + middle.square()).sqrt()
    here = moved[:, _REACH, _REACH]
    close = moved[:, away < _APART].amax(1)
    apart = moved[:, (away >= _APART) & (away <= _REACH)].amax(1)
    farthest = witness[0] <= witness.flatten().kthvalue(_share(witness.numel(), _FARTHEST)).values
    far = labels[:, farthest]
    return {
        "inverted": -_correlation(labels, witness),
        "unlike": -here,
        "mirrored": _less_left(here, mirrored[:, _REACH, _REACH]),
        "shifted": _less_left(close, apart),
        "near sky": far.mean(1),
        "near in the sky": far.topk(_share(far.shape[1], _NEAREST)).values.mean(1),
    }


def _share(pixels: int, share: float) -> int:
    return max(1, int(share * pixels))


def _less_left(before: Float[Tensor, " n"], after: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    return ((1 + _SOFT - before) / (1 + _SOFT - after)).log()


def _smooth(ranks: Float[Tensor, "n h w"]) -> Float[Tensor, "n h w"]:
    """Over 3 x 3 pixels: what one map resolves and the other does not is no contradiction."""
    return functional.avg_pool2d(functional.pad(ranks, (1, 1, 1, 1), mode="replicate"), 3, 1)


def _correlation(
    labels: Float[Tensor, "n h w"], witness: Float[Tensor, "1 h w"]
) -> Float[Tensor, " n"]:
    a, b = (maps.flatten(1) - maps.flatten(1).mean(1, keepdim=True) for maps in (labels, witness))
    return _ratio((a * b).sum(1), a.square().sum(1) * b.square().sum(1))


def _moved(
    labels: Float[Tensor, "n h w"], witness: Float[Tensor, "1 h w"]
) -> Float[Tensor, "n s s"]:
    """Correlation of the gradients at each move of a label by up to `_REACH` pixels.

    Entry (i, j) undoes a shift of the label by (i, j) - `_REACH`; by FFT, with an empty border as
    wide as the moves, so that no side meets the other.
    """
    size = [fast_side(side + _REACH) for side in labels.shape[1:]]
    fft: Any = torch.fft  # untyped
    slopes = [torch.gradient(maps, dim=(1, 2)) for maps in (labels, witness)]
    one, other = (torch.stack([_power(part) for part in parts]).sum(0) for parts in slopes)
    products = [
        fft.irfft2(fft.rfft2(a, s=size) * fft.rfft2(b, s=size).conj(), s=size)
        for a, b in zip(*slopes, strict=True)
    ]
    total = torch.roll(torch.stack(products).sum(0), (_REACH, _REACH), (1, 2))
    window = total[:, : 2 * _REACH + 1, : 2 * _REACH + 1]
    return _ratio(window, (one * other)[:, None, None])


def _power(maps: Float[Tensor, "n h w"]) -> Float[Tensor, " n"]:
    return maps.square().flatten(1).sum(1)


def _ratio(products: Float[Tensor, "n ..."], power: Float[Tensor, "n ..."]) -> Tensor:
    """Over the root of the power; 0 where there is none."""
    norm = power.sqrt()
    return torch.where(norm > 0, products / torch.where(norm > 0, norm, 1.0), 0.0)
