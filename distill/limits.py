"""Rules that the numbers of a run keep to: losses near the recent ones, an output that lives.

They look at one update after the other and remember what they need: the same on every process and,
as a checkpoint holds it, after a resume. `benchmarks/guard_bounds.py` measured that within the
bounds of the output, and far outside of them, losses come within 4 % of a sound output's in 30
updates, and how rarely a sound loss passes its own bound.
"""

import logging
from collections import deque
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from distill import job
from distill.types import Space

RECENT = 100  # losses that the next one is held against
FIRST = 50  # updates without a bound: losses fall fast, and little is known of them
REACH = 5.0  # times as many powers above the median as the top twentieth of the recent losses
DEAD = 10  # updates in a row whose output is mostly zero: one may be half sky
DRIFTED = 100  # updates in a row outside the bounds of the output: drifting is slow
LARGEST, LEAST, FLATTEST = 65504.0, 1e-4, 1e4  # mean size, spread, size in units of spread
EARLY = 10.0  # times nearer than its bound the output is warned of

_KNOWN_SCALE = {Space.METRIC_DEPTH, Space.METRIC_INVERSE_DEPTH}
_SINGLE = np.finfo(np.float32)

log = logging.getLogger(__name__)


class Limits:
    """The rules and their memory.

    Args:
        spike: how many times the median of the recent losses the next one may be; None: any.
        drift: whether an output of unknown scale is held within its bounds.
        space: of the output; in a metric one nothing can drift.
    """

    def __init__(
        self, *, spike: float | None = None, drift: bool = True, space: Space | None = None
    ) -> None:
        self._spike, self._drift = spike, drift and space is not None and space not in _KNOWN_SCALE
        self._losses: deque[float] = deque(maxlen=RECENT)
        self._dead = self._outside = self._near = 0

    @property
    def loss(self) -> float:
        """The largest loss that the next update may have, a float32 number; infinite for any."""
        if self._spike is None or len(self._losses) < FIRST:
            return float("inf")
        return float(bound(np.array(self._losses), self._spike))

    def describe(self, loss: float) -> str:
        """A loss above the bound, beside those before it."""
        middle = float(np.median(self._losses))
        return (
            f"{loss:.4g}, {loss / middle:.3g} times the median of the {len(self._losses)} before "
            f"it, {middle:.4g}, where {self.loss:.4g} is the most"
        )

    def take(self, step: int, numbers: Mapping[str, float]) -> dict[str, float]:
        """Remember the numbers of update `step`; the column that the row of metrics gains.

        Raises:
            GuardStop: the output has been mostly zero, or outside its bounds, for long.
        """
        if "loss" in numbers:
            self._losses.append(numbers["loss"])
        self._dead = self._dead + 1 if numbers.get("zeros", 0.0) > 0.5 else 0
        if self._dead >= DEAD:
            raise job.GuardStop(died(numbers["zeros"], f"{DEAD} updates up to {step}"))
        return self._drifting(step, numbers) if self._drift and "spread" in numbers else {}

    def state(self) -> dict[str, Any]:
        """The memory, as plain JSON."""
        counts = {"dead": self._dead, "near": self._near, "outside": self._outside}
        return {"losses": list(self._losses), **counts}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Put the memory back; that of a version without one is empty."""
        self._losses.extend(state.get("losses", ()))
        self._dead, self._near, self._outside = (
            state.get(name, 0) for name in ("dead", "near", "outside")
        )

    def _drifting(self, step: int, numbers: Mapping[str, float]) -> dict[str, float]:
        mean, spread = numbers["mean"], numbers["spread"]
        outside, near = _beyond(mean, spread, 1.0), _beyond(mean, spread, EARLY)
        self._outside = self._outside + 1 if outside else 0
        self._near = self._near + 1 if near else 0
        size = f"mean size {mean:.3g}, standard deviation within an image {spread:.3g}"
        if self._outside >= DRIFTED:
            raise job.GuardStop(
                f"the output is {outside} in {DRIFTED} updates up to {step}: {size}; "
                "the loss leaves its scale and shift free. Start again from an earlier "
                "checkpoint with a lower learning rate or more weight decay, or from other weights"
            )
        if self._near == DRIFTED:
            log.warning("update %d: the output comes to be %s: %s", step, near, size)
        return {"drift": float(self._near)}


def bound(losses: Float[ndarray, "*runs n"], factor: float) -> Float[ndarray, "*runs"]:
    """The largest loss that may follow these: above both bounds of their median lies a spike.

    One is `factor` times the median; the other lies `REACH` times as many powers above it as the
    95th percentile does, so that losses of a heavy tail have a bound further out. No tail is seen
    where most losses are 0, as of updates without a usable sample: none of them has a bound.
    """
    powers = np.log(np.maximum(losses, _SINGLE.tiny))
    middle, high = np.quantile(powers, (0.5, 0.95), axis=-1)
    reach = middle + np.maximum(np.log(factor), REACH * (high - middle))
    within = np.minimum(np.exp(np.minimum(reach, 100.0)), float(_SINGLE.max))
    rounded = within.astype(np.float32).astype(np.float64)
    return np.where(np.median(losses, axis=-1) > _SINGLE.tiny, rounded, np.inf)


def died(zeros: float, where: str) -> str:
    """What to say of an output of which this share is exactly 0."""
    return (
        f"{zeros:.0%} of the output is exactly 0 in {where}: the final ReLU has died; "
        "lower the head's learning rate, warm up, or start its last bias higher"
    )


def _beyond(mean: float, spread: float, margin: float) -> str | None:
    """Which bound is passed, or nearer than `margin`; None for a sound output."""
    found = {
        "too large": mean * margin > LARGEST,
        "too small": spread < LEAST * margin,
        "too flat": mean * margin > FLATTEST * spread,
    }
    return next((name for name, passed in found.items() if passed), None)
