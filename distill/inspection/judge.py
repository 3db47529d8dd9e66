"""From evidence to one number for each reason: the odds of a fault, learnt from faults on purpose.

Good labels are spoilt in every way that is looked for, and for each way a logistic regression tells
the spoilt from the good. Its log odds are on one scale for all reasons, so that the largest names
the reason and one limit on it bounds the false alarms of all reasons together.
"""

import statistics
from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from scipy.stats import binom
from torch import Tensor

from distill.inspection.evidence import FAULTS, Look
from distill.inspection.likeness import Likeness

_RIDGE = 1.0
_STEPS = 30  # of Newton's method
_DOUBT = 0.1


class Judge:
    """What evidence speaks for which fault.

    Args:
        good: labels as they are, most of them right.
        spoilt: the same with each of `FAULTS`.

    Raises:
        ValueError: a fault is missing: too few labels.
    """

    def __init__(self, good: Sequence[Look], spoilt: Mapping[str, Sequence[Look]]) -> None:
        missing = [fault for fault in FAULTS if not spoilt.get(fault)]
        if missing or not good:
            raise ValueError(f"firewall: {len(good)} labels are too few to learn {missing} from")
        self._likeness = Likeness(*_coarse(good))
        plain = self._evidence(good)
        self._middle = plain.median(0).values
        below, above = (plain.quantile(q, 0) for q in (0.16, 0.84))
        self._spread = self._middle - below + 1e-6, above - self._middle + 1e-6
        clean = self._bent(plain)
        columns = [_logistic(clean, self._bent(self._evidence(spoilt[f]))) for f in FAULTS]
        self._weights = torch.stack(columns, 1)

    def odds(self, looks: Sequence[Look]) -> Float[Tensor, "n 5"]:
        """Natural log of the odds of each of `FAULTS`, if every second label had it."""
        return _with_one(self._bent(self._evidence(looks))) @ self._weights

    def _evidence(self, looks: Sequence[Look]) -> Float[Tensor, "n 10"]:
        numbers = torch.stack([look.numbers for look in looks]).double()
        return torch.cat([numbers, self._likeness.strangeness(*_coarse(looks))], 1)

    def _bent(self, evidence: Float[Tensor, "n e"]) -> Float[Tensor, "n e"]:
        """In robust deviations of either side, large ones logarithmic: no outlier rules a fit."""
        off = evidence - self._middle
        return torch.where(off < 0, off / self._spread[0], off / self._spread[1]).asinh()


def trusted_limit(largest: Float[Tensor, " n"], alarms: float) -> float:
    """What at most a share `alarms` of good labels exceeds, in nine of ten calibrations.

    The tolerance limit of Wilks (1941): so few of the n lie above it that, were the share larger,
    one calibration of ten at most would have so few. Holds whatever the scores, if the labels are
    good, like those to be judged, and unknown to the judge.

    Raises:
        ValueError: `alarms` outside (0, 1), or too few labels: 114 for a share of 0.02.
    """
    count = len(largest)
    above = int(binom.ppf(_DOUBT, count, alarms)) if 0 < alarms < 1 else 0
    above -= int(binom.cdf(above, count, alarms) > _DOUBT)  # the largest number with cdf <= doubt
    if not 0 < alarms < 1 or above < 0:
        raise ValueError(
            f"firewall: {count} trusted labels for limits and a share of {alarms} false alarms; "
            "give a share in (0, 1), and more labels than 2.3 over it"
        )
    return float(largest.sort(descending=True).values[above])


def own_limit(largest: Float[Tensor, " n"], alarms: float) -> float:
    """The same for a store that may hold wrong labels: the tail is told from what lies before it.

    From the median to the ninth decile the odds are taken as normal and are continued to `alarms`;
    a few wrong labels in a hundred hardly move either.
    """
    middle, high = (float(largest.quantile(q)) for q in (0.5, 0.9))
    normal = statistics.NormalDist()
    return middle + (high - middle) * normal.inv_cdf(1 - alarms) / normal.inv_cdf(0.9)


def _coarse(looks: Sequence[Look]) -> tuple[Float[Tensor, "n 256"], Float[Tensor, "n 256"]]:
    return torch.stack([k.label for k in looks]), torch.stack([k.witness for k in looks])


def _with_one(evidence: Float[Tensor, "n e"]) -> Float[Tensor, "n f"]:
    return torch.cat([evidence, torch.ones(len(evidence), 1).double()], 1)


def _logistic(good: Float[Tensor, "n e"], spoilt: Float[Tensor, "m e"]) -> Float[Tensor, " f"]:
    """Weights and, last, the constant; each kind weighs the same."""
    x = _with_one(torch.cat([good, spoilt]))
    y = torch.cat([torch.zeros(len(good)), torch.ones(len(spoilt))]).double()
    weigh = torch.where(y > 0, len(x) / (2 * len(spoilt)), len(x) / (2 * len(good)))
    ridge = _RIDGE * torch.eye(x.shape[1]).double()
    ridge[-1, -1] = 1e-3
    weights = torch.zeros(x.shape[1]).double()
    for _ in range(_STEPS):
        chance = (x @ weights).clamp(-30, 30).sigmoid()
        slope = x.T @ (weigh * (chance - y)) + ridge @ weights
        bend = (x * (weigh * chance * (1 - chance))[:, None]).T @ x + ridge
        weights = weights - torch.linalg.solve(bend, slope)
    return weights
