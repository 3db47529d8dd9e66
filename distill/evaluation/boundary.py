"""Whether depth steps where the truth does: the scale-invariant boundary metrics of Depth Pro.

Bochkovskii et al. 2024, section 4 and appendix. Two neighbours are an edge at threshold t where the
nearer one's inverse depth is more than t times the other's; edges are counted separately for the
four directions in which one can lie behind the other, and the scores for ten thresholds are
averaged, each weighing as much as its threshold. No tolerance: an edge one pixel off is missed.
"""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

BOUNDARY_METRICS = ("bf1", "bf1_dirfix")
_THRESHOLDS = torch.linspace(1.05, 1.25, 10, dtype=torch.float64)
_SMALLEST = 1e-6  # metres
_ALPHA = 0.1  # of a matte: above is foreground


def boundary_scores(
    pred: Float[Tensor, "h w"], target: Float[Tensor, "h w"], valid: Bool[Tensor, "h w"]
) -> dict[str, float]:
    """F1 of the boundaries of two depth maps under two names, each in [0, 1], larger is better.

    A pair that touches a pixel outside `valid` is an edge of neither map.

    Returns:
        `bf1`: precision and recall are means over four directions, as published; a direction in
        which the truth has no edge counts 0, so that a perfect map of a scene that steps one way
        only scores 0.5. `bf1_dirfix`: the mean precision over the directions in which either map
        has an edge, the mean recall over those in which the truth has one. Both 0 without edges.
    """
    near_pred, near_target = (
        1 / depth.double().where(valid, 1.0).clamp(min=_SMALLEST) for depth in (pred, target)
    )
    pairs = [a & b for a, b in _directions(valid)]
    ratios = [[a / b for a, b in _directions(near)] for near in (near_pred, near_target)]
    published, fixed = [], []
    for t in _THRESHOLDS.tolist():
        counts = torch.tensor(
            [
                [int(x.sum()) for x in (p & g, p, g)]
                for p, g in (
                    ((rp > t) & both, (rt > t) & both)
                    for rp, rt, both in zip(*ratios, pairs, strict=True)
                )
            ],
            dtype=torch.float64,
        )
        hits, of_pred, of_target = counts.unbind(1)
        precision, recall = hits / of_pred.clamp(min=1), hits / of_target.clamp(min=1)
        published.append(_f1(precision.mean(), recall.mean()))
        some = (of_pred > 0) | (of_target > 0)
        fixed.append(_f1(_mean(precision, some), _mean(recall, of_target > 0)))
    return dict(zip(BOUNDARY_METRICS, map(_weighted, (published, fixed)), strict=True))


def boundary_recall(pred: Float[Tensor, "h w"], alpha: Float[Tensor, "h w"]) -> float:
    """The share of a matte's outline that is a boundary of the depth map, in [0, 1].

    A predicted edge is thinned: of each unbroken run of edges along its direction the steepest one
    (of equals the first) stays. There is no precision, as objects have edges of their own inside.

    Args:
        pred: depth.
        alpha: of the matte, in [0, 1]; more than 0.1 is the object.
    """
    near = 1 / pred.double().clamp(min=_SMALLEST)
    outlines = [a & ~b for a, b in _directions(alpha > _ALPHA)]
    ratios = [a / b for a, b in _directions(near)]
    thin: list[Callable[[Tensor, float], Tensor]] = [_thin, _thin_down] * 2
    scores = []
    for t in _THRESHOLDS.tolist():
        shares = [
            (thinned(ratio, t) & outline).sum() / outline.sum().clamp(min=1)
            for ratio, outline, thinned in zip(ratios, outlines, thin, strict=True)
        ]
        scores.append(torch.stack(shares).double().mean())
    return _weighted(scores)


def _directions(values: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Neighbours, the one that would be the nearer first: left, upper, right, lower one."""
    left, right, upper, lower = values[:, :-1], values[:, 1:], values[:-1], values[1:]
    return [(left, right), (upper, lower), (right, left), (lower, upper)]


def _thin(ratio: Float[Tensor, "h w"], threshold: float) -> Bool[Tensor, "h w"]:
    """The largest ratio of each run of pixels in a row that are above the threshold."""
    above = ratio > threshold
    starts = above.clone()
    starts[:, 1:] &= ~above[:, :-1]
    run = starts.flatten().cumsum(0)[above.flatten()] - 1  # the run of each pixel, row by row
    values = ratio[above]
    if not len(values):
        return above
    steepest = values.new_zeros(int(run[-1]) + 1).scatter_reduce(0, run, values, "amax")
    top = (values == steepest[run]).nonzero().squeeze(1)
    first = torch.full_like(steepest, len(values), dtype=torch.long)
    first = first.scatter_reduce(0, run[top], top, "amin")
    kept = torch.zeros_like(values, dtype=torch.bool)
    kept[first] = True
    return above.masked_scatter(above, kept)


def _thin_down(ratio: Float[Tensor, "h w"], threshold: float) -> Bool[Tensor, "h w"]:
    return _thin(ratio.T, threshold).T


def _mean(values: Float[Tensor, " n"], counted: Bool[Tensor, " n"]) -> Float[Tensor, ""]:
    return (values * counted).sum() / counted.sum().clamp(min=1)


def _f1(precision: Float[Tensor, ""], recall: Float[Tensor, ""]) -> Float[Tensor, ""]:
    return 2 * precision * recall / (precision + recall).clamp(min=torch.finfo(torch.float64).tiny)


def _weighted(scores: list[Tensor]) -> float:
    weight = _THRESHOLDS / _THRESHOLDS.sum()
    return (torch.stack(scores) * weight).sum().item()
