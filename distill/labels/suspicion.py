"""How a label and a second opinion of the same image contradict each other, in a few numbers.

Each number grows with the suspicion of one fault. Only the order of a map's values counts: scale,
shift and any bend of the scale are equalised first. A fault is undone on trial: a label that fits
the witness better as its mirror image, or some pixels further, is mirrored or shifted.
"""

import math
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from distill.types import Space

_REACH = 8  # pixels that a label is moved on trial
_APART = 2.5  # pixels; nearer than that is not called a shift
_SOFT = 0.05  # correlations of nearly 1 do not make ratios without bound
_FARTHEST = 0.15  # of the pixels, by the witness
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


def contradictions(label: Float[Tensor, "h w"], witness: Float[Tensor, "h w"]) -> dict[str, float]:
    """What speaks for each reason but `quantised`, of two `equalised` maps.

    Args:
        label: of the store.
        witness: of the same image, from elsewhere.

    Returns:
        inverted, unlike: minus the correlation of the values, minus that of the gradients.
        mirrored, shifted: how much less the gradients leave unexplained once that is undone, as the
            log of the ratio of what is left.
        near sky: the mean rank of the pixels that the witness finds farthest.
    """
    label, witness = _smooth(label), _smooth(witness)
    moved = _moved(label, witness)
    middle = torch.arange(-_REACH, _REACH + 1)
    away = (middle[:, None].square() + middle.square()).sqrt()
    here = float(moved[_REACH, _REACH])
    mirrored = float(_moved(label.flip(-1), witness)[_REACH, _REACH])
    close = float(moved[away < _APART].max())
    apart = float(moved[(away >= _APART) & (away <= _REACH)].max())
    farthest = witness <= witness.flatten().kthvalue(_share(witness.numel())).values
    return {
        "inverted": -_correlation(label, witness),
        "unlike": -here,
        "mirrored": _less_left(here, mirrored),
        "shifted": _less_left(close, apart),
        "near sky": float(label[farthest].mean()),
    }


def _share(pixels: int) -> int:
    return max(1, int(_FARTHEST * pixels))


def _less_left(before: float, after: float) -> float:
    return math.log((1 + _SOFT - before) / (1 + _SOFT - after))


def _smooth(rank: Float[Tensor, "h w"]) -> Float[Tensor, "h w"]:
    """Over 3 x 3 pixels: what one map resolves and the other does not is no contradiction."""
    padded = functional.pad(rank[None, None], (1, 1, 1, 1), mode="replicate")
    return functional.avg_pool2d(padded, 3, 1)[0, 0]


def _correlation(a: Float[Tensor, "h w"], b: Float[Tensor, "h w"]) -> float:
    a, b = a - a.mean(), b - b.mean()
    norm = float((a.square().sum() * b.square().sum()).sqrt())
    return float((a * b).sum()) / norm if norm > 0 else 0.0


def _moved(label: Float[Tensor, "h w"], witness: Float[Tensor, "h w"]) -> Float[Tensor, "s s"]:
    """Correlation of the gradients at each move of the label by up to `_REACH` pixels.

    Entry (i, j) undoes a shift of the label by (i, j) - `_REACH`; by FFT, with an empty border as
    wide as the moves, so that no side meets the other.
    """
    size = [side + _REACH for side in label.shape]
    fft: Any = torch.fft  # untyped
    total = torch.zeros(size)
    energy = [0.0, 0.0]
    for axis in (0, 1):
        parts = [_slope(m, axis) for m in (label, witness)]
        energy = [e + float(part.square().sum()) for e, part in zip(energy, parts, strict=True)]
        one, other = (fft.rfft2(part, s=size) for part in parts)
        total += fft.irfft2(one * other.conj(), s=size)
    norm = math.sqrt(energy[0] * energy[1])
    total = torch.roll(total, (_REACH, _REACH), (0, 1))
    window = total[: 2 * _REACH + 1, : 2 * _REACH + 1]
    return window / norm if norm > 0 else torch.zeros_like(window)


def _slope(values: Float[Tensor, "h w"], axis: int) -> Float[Tensor, "h w"]:
    return torch.as_tensor(np.gradient(values.numpy(), axis=axis))
