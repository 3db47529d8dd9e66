"""What the numbers of depth maps are like: markers, range, levels, holes, where near and far lie.

Of one map as it is stored, and of several together. Nothing here knows a file or a data set.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool
from numpy.typing import NDArray

_KEPT = 20_000  # values of one map from which quantiles and correlations are taken
_BANDS = 10  # from top to bottom
_LARGEST = 2_000_000  # pixels; of larger maps every second row is looked at, or fewer
_DIVISORS = (5, 8, 256, 257)  # TUM's fifths of a millimetre, SUN RGB-D's rotated bits, 8 bits
_OFTEN = 0.02  # of a map; one exact number in so many pixels is more likely a marker than a depth
_SMALL = 4096  # pixels; fewer may have few levels without being coarse


@dataclass(frozen=True, kw_only=True)
class MapFacts:
    """One map. Shares lie in [0, 1]; all but `markers` is about the pixels that hold no marker.

    Attributes:
        size: (h, w).
        dtype: in which it is stored.
        markers: share of pixels with each number that likely means "nothing was measured".
        valid: share of pixels.
        values: up to 20 000 of them, spread over the map, sorted.
        levels: how many different numbers.
        divisible: share of the numbers that 5, 8, 256, 257 divide; empty for floats.
        often: the most frequent number at an end of the range, and its share of all pixels.
        adjacent: share whose right-hand neighbour is valid, too.
        bands: share of valid pixels in each tenth of the height, from the top.
        slope: rank correlation of number and row, positive where numbers grow downwards; None
            where there is nothing to correlate.
    """

    size: tuple[int, int]
    dtype: str
    markers: Mapping[str, float]
    valid: float
    values: NDArray[np.float64]
    levels: int
    divisible: Mapping[int, float]
    often: tuple[float, float] | None
    adjacent: float
    bands: tuple[float, ...]
    slope: float | None


def measure(
    stored: NDArray[Any], *, also: Collection[float | int] = (), read: bool = False
) -> MapFacts:
    """The facts of one map, (h, w).

    Args:
        stored: integers or floats, as they lie in the file.
        also: numbers that are markers beside 0, the largest integer, negative ones, NaN, infinity.
        read: a reader has decided already: NaN is the only marker.
    """
    size = (stored.shape[0], stored.shape[1])
    stored = stored[:: -(-stored.size // _LARGEST)]  # whole rows: neighbours stay neighbours
    masks = {"NaN": np.isnan(stored)} if read else _markers(stored, also)
    valid = ~np.logical_or.reduce(list(masks.values()))
    rows, columns = np.nonzero(valid)
    chosen = slice(None, None, max(1, len(rows) // _KEPT))
    rows, columns = rows[chosen], columns[chosen]
    values = stored[rows, columns].astype(np.float64)
    tendency = rank_correlation(values, rows)
    numbers, counts = np.unique(stored[valid], return_counts=True)
    if values.size:
        values = np.sort(values)
        values[[0, -1]] = numbers[[0, -1]]
    total = max(int(valid.sum()), 1)
    whole = stored.dtype.kind in "iu"
    wide = numbers.astype(np.int64 if whole else np.float64)
    divisible = {d: float(counts[wide % d == 0].sum()) / total for d in _DIVISORS if whole}
    return MapFacts(
        size=size,
        dtype=str(stored.dtype),
        markers={name: float(mask.mean()) for name, mask in masks.items() if mask.any()},
        valid=float(valid.mean()),
        values=values,
        levels=len(numbers),
        divisible=divisible,
        often=_often(numbers, counts / stored.size),
        adjacent=float((valid[:, 1:] & valid[:, :-1]).sum() / max(valid[:, :-1].sum(), 1)),
        bands=tuple(float(b.mean()) if b.size else 0.0 for b in np.array_split(valid, _BANDS)),
        slope=tendency,
    )


def marked(
    stored: NDArray[Any], *, also: Collection[float | int] = (), read: bool = False
) -> Bool[np.ndarray, "h w"]:
    """Where a map holds one of the markers that `measure` knows."""
    if read:
        return np.isnan(stored)
    return np.logical_or.reduce(list(_markers(stored, also).values()))


def rank_correlation(a: NDArray[np.generic], b: NDArray[np.generic]) -> float | None:
    """Spearman's, equal numbers sharing the mean of their ranks; None where one does not vary."""
    if len(a) < 2:
        return None
    ranks = []
    for numbers in (a, b):
        _, inverse, counts = np.unique(numbers, return_inverse=True, return_counts=True)
        ranks.append((np.cumsum(counts) - (counts - 1) / 2)[inverse])
    deviations = [rank - rank.mean() for rank in ranks]
    product = float(np.prod([np.sqrt(np.square(d).sum()) for d in deviations]))
    return float(np.dot(*deviations)) / product if product else None


def frequent(facts: Sequence[MapFacts]) -> float | None:
    """A number that ends the range of at least half of the maps and fills 2 % of each of those.

    The sky's stand-in, or whatever somebody wrote where nothing was measured.
    """
    ends = [m.often[0] for m in facts if m.often is not None and m.often[1] >= _OFTEN]
    for number in sorted(set(ends), key=ends.count, reverse=True)[:1]:
        if ends.count(number) >= max(2, len(facts) / 2):
            return number
    return None


def eight_bits(facts: Sequence[MapFacts]) -> str | None:
    """Why these maps hold no more than eight bits; None where they do or none is large enough."""
    if all(m.dtype in ("uint8", "int8") for m in facts):
        return "stored in 8 bits: at most 256 levels"
    for divisor in (257, 256):
        if all(m.divisible.get(divisor, 0) == 1 and m.levels > 1 for m in facts):
            return f"every number is a multiple of {divisor}: 8 bits stretched to 16"
    large = [m for m in facts if m.valid * m.size[0] * m.size[1] >= _SMALL]
    most = max((m.levels for m in large), default=0)
    if large and most <= 256:
        return f"no map has more than {most} different numbers, as 8 bits have"
    return None


def pattern(facts: Sequence[MapFacts]) -> str:
    """`dense`, `dense with holes`, `sparse` or `lidar`: sparse, and nothing in the upper fifth."""
    valid = float(np.mean([m.valid for m in facts]))
    adjacent = float(np.mean([m.adjacent for m in facts]))
    if valid < 0.7 and adjacent < 0.8:
        top = float(np.mean([m.bands[: _BANDS // 5] for m in facts]))
        return "lidar" if top < 0.01 else "sparse"
    return "dense" if valid > 0.98 else "dense with holes"


def slope(facts: Sequence[MapFacts]) -> float | None:
    """The mean rank correlation of number and row; None where no map has one."""
    slopes = [m.slope for m in facts if m.slope is not None]
    return float(np.mean(slopes)) if slopes else None


def quantiles(facts: Sequence[MapFacts]) -> tuple[float, float, float, float, float] | None:
    """Least, 1 %, half, 99 %, largest; each map counts alike. None without any valid pixel."""
    some = [m.values for m in facts if m.values.size]
    if not some:
        return None
    least = max(map(len, some))
    even = [np.interp(np.linspace(0, 1, least), np.linspace(0, 1, len(v)), v) for v in some]
    p1, half, p99 = (float(q) for q in np.quantile(np.concatenate(even), (0.01, 0.5, 0.99)))
    return min(float(v[0]) for v in some), p1, half, p99, max(float(v[-1]) for v in some)


def _markers(
    stored: NDArray[Any], also: Collection[float | int]
) -> dict[str, Bool[np.ndarray, "h w"]]:
    masks = {"0": stored == 0}
    if stored.dtype.kind == "u":
        top = np.iinfo(stored.dtype).max
        masks[str(top)] = stored == top
    elif stored.dtype.kind == "i":
        masks |= {"-1": stored == -1, "negative": stored < -1}
        top = np.iinfo(stored.dtype).max
        masks[str(top)] = stored == top
    else:
        masks |= {"-1": stored == -1, "negative": (stored < 0) & (stored != -1)}
        masks["negative"] &= np.isfinite(stored)
        masks |= {"NaN": np.isnan(stored), "infinity": np.isinf(stored)}
    return masks | {f"{number:g}": stored == number for number in also}


def _often(numbers: NDArray[np.generic], shares: NDArray[np.float64]) -> tuple[float, float] | None:
    """The more frequent of smallest and largest number; None if there are not even three."""
    if len(numbers) < 3:
        return None
    place = max((0, -1), key=lambda end: shares[end])
    return float(numbers[place]), float(shares[place])
