"""What unit stored depth likely has: a guess from type, range and holes, with its reason."""

from collections.abc import Sequence
from dataclasses import dataclass

from distill.inspection import measure
from distill.inspection.measure import MapFacts

INVERSE = 0.25  # of the rank correlation with the row; beyond, near and far are told apart
_HAND_HELD = 12.0  # metres; no hand-held sensor's structured light or time of flight sees farther
_NAMES = {
    256.0: "1/256 m",
    1000.0: "millimetres",
    100.0: "centimetres",
    5000.0: "1/5000 m",
    8000.0: "1/8000 m",
    1.0: "metres",
}


@dataclass(frozen=True, kw_only=True)
class Unit:
    """A guess.

    Attributes:
        name: for people.
        per_metre: divide by this for metres; None where there is no such number.
        sure: `likely`, or `a guess`.
        reason: what speaks for it, and what else it could be.
    """

    name: str
    per_metre: float | None
    sure: str
    reason: str


def guess(facts: Sequence[MapFacts]) -> Unit:
    """The unit of these maps, which are stored alike.

    By rules in this order: eight bits and inverse numbers have no unit; SUN RGB-D's rotated bits
    are multiples of 8, TUM's 1/5000 m of 5; sparse 16-bit maps are KITTI's 1/256 m; a marked sky
    means Virtual KITTI's centimetres; other integers are millimetres; floats are metres.
    """
    range_ = measure.quantiles(facts)
    if range_ is None:
        return Unit(name="unknown", per_metre=None, sure="a guess", reason="no valid pixel")
    if why := measure.eight_bits(facts):
        return Unit(name="none", per_metre=None, sure="likely", reason=why)
    if kind(facts) == "inverse":
        why = "larger is nearer: an inverse depth or a disparity, whose scale is not in the file"
        return Unit(name="none", per_metre=None, sure="likely", reason=why)
    if all("float" in m.dtype for m in facts):
        return _of_floats(range_)
    return _of_integers(facts, range_)


def kind(facts: Sequence[MapFacts]) -> str:
    """`depth`, `inverse`, or `undecided`: what lies at the bottom of a picture is mostly near."""
    slope = measure.slope(facts)
    if slope is None or abs(slope) < INVERSE:
        return "undecided"
    return "depth" if slope < 0 else "inverse"


def _of_floats(range_: tuple[float, ...]) -> Unit:
    least, _, half, p99, largest = range_
    if least >= 0 and largest <= 1 and largest > 0.99:
        why = "from 0 to 1, as numbers that were divided by their largest"
        return Unit(name="none", per_metre=None, sure="likely", reason=why)
    if 0.2 <= half <= 300 and p99 <= 2000:
        return _unit(1.0, "likely", "floats", range_)
    if 300 < half <= 20_000 and p99 <= 100_000:
        return _unit(1000.0, "a guess", "floats as large as millimetres", range_)
    why = f"floats about {half:.3g}, neither metres nor millimetres: a reconstruction's own scale?"
    return Unit(name="unknown", per_metre=None, sure="a guess", reason=why)


def _of_integers(facts: Sequence[MapFacts], range_: tuple[float, ...]) -> Unit:
    _, _, half, p99, largest = range_
    fifths, eighths = (min(m.divisible.get(d, 0.0) for m in facts) > 0.999 for d in (5, 8))
    sky = max(m.markers.get("65535", 0.0) for m in facts) > 0.001
    spread = measure.pattern(facts)
    street = spread in ("sparse", "lidar") and 1 <= half / 256 <= 60
    sure = "likely" if spread == "lidar" else "a guess"
    tum = fifths and 500 * _HAND_HELD < p99 <= 5000 * _HAND_HELD
    rotated = "every number is a multiple of 8: SUN RGB-D's millimetres, rotated by three bits"
    rules = (  # the first that holds decides
        (eighths and largest <= 80_000, 8000.0, "likely", rotated),
        (tum, 5000.0, "likely", "every number is a multiple of 5, as in TUM's files"),
        (street, 256.0, sure, "16 bits, sparse, as KITTI and DDAD store lidar"),
        (sky and half >= 100, 100.0, "likely", "65535 marks the sky, as in Virtual KITTI 2"),
        (half >= 300 and p99 <= 1000 * _HAND_HELD, 1000.0, "likely", "the range of a room"),
        (half < 300, 100.0, "a guess", "too small for millimetres"),
        (True, 256.0, "a guess", "a long range"),
    )
    per_metre, sure, why = next(rule[1:] for rule in rules if rule[0])
    return _unit(per_metre, sure, why, range_)


def _unit(per_metre: float, sure: str, why: str, range_: tuple[float, ...]) -> Unit:
    _, p1, half, p99, _ = range_
    others = [n for n in (256.0, 1000.0, 100.0) if n != per_metre and per_metre != 1.0]
    said = ", ".join(f"{half / n:.3g} m as {_NAMES[n]}" for n in others)
    also = f" (it would be {said})" if said else ""
    low, median, high = (f"{number / per_metre:.3g}" for number in (p1, half, p99))
    reason = f"{why}; {low} to {high} m, half below {median} m{also}"
    return Unit(name=_NAMES[per_metre], per_metre=per_metre, sure=sure, reason=reason)
