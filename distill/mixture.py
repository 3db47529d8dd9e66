"""Several data sets as one: which sample comes when, a pure function of a seed and a number."""

import bisect
import itertools
import math
from collections.abc import Sequence
from fractions import Fraction

from distill.shuffle import hashed, permuted
from distill.types import Dataset

_LARGEST_BLOCK = 1000  # samples after which the shares of a mixture are exact


class Mixture:
    """Data sets drawn from together: concatenated, or each with a fixed share.

    Without weights the data sets are one long one, and an epoch shuffles them together. With
    weights each is shuffled and repeated for itself, and every block of as many samples as the
    smallest whole-numbered ratio has holds exactly its share of each: with 1 and 2, one of the
    first and two of the second in every three samples. Several data sets may share a weight, as one
    long one.

    Args:
        sources: data sets, or several of them, and their weights; a weight is None for all or none.

    Raises:
        ValueError: no data set, one without samples, only some weights, a weight that is not
            positive, or weights that are no ratio of small whole numbers.
    """

    def __init__(
        self, sources: Sequence[tuple[Dataset | Sequence[Dataset], float | int | None]]
    ) -> None:
        parts = [(list(d) if isinstance(d, Sequence) else [d], weight) for d, weight in sources]
        datasets = [dataset for part, _ in parts for dataset in part]
        if not datasets or not all(part for part, _ in parts):
            raise ValueError("mixture: no data sets; give at least one")
        for dataset in datasets:
            if len(dataset) == 0:
                raise ValueError(f"mixture: {dataset.name} has no samples; leave it out")
        names = [part[0].name for part, _ in parts]
        for name, (_, weight) in zip(names, parts, strict=True):
            if (weight is None) != (parts[0][1] is None):
                raise ValueError(
                    f"mixture: {names[0]} has weight {parts[0][1]} and {name} "
                    f"{weight}; give every data set a weight, or none"
                )
        weights = [weight for _, weight in parts if weight is not None]
        self._groups = [_Group(part) for part, _ in parts] if weights else [_Group(datasets)]
        self._pattern = _interleaved(_whole_ratio(weights, names))
        self._earlier = [
            self._pattern[:place].count(group) for place, group in enumerate(self._pattern)
        ]

    def __len__(self) -> int:
        """Samples of all data sets together."""
        return sum(group.length for group in self._groups)

    @property
    def datasets(self) -> list[Dataset]:
        """What is drawn from, in the order given."""
        return [dataset for group in self._groups for dataset in group.datasets]

    def locate(self, n: int, seed: int, attempt: int = 0) -> tuple[Dataset, int]:
        """Data set and index of sample number `n` of the run with this seed.

        Args:
            n: counts from 0.
            seed: of the run.
            attempt: 0 for the sample itself; above, the one that takes its place when the earlier
                ones cannot be read: of the same share of the mixture.
        """
        block, place = divmod(n, len(self._pattern))
        group = self._pattern[place]
        count = block * self._pattern.count(group) + self._earlier[place]
        epoch, index = divmod(count, self._groups[group].length)
        if attempt:
            index = hashed(seed, n, attempt) % self._groups[group].length
        shuffled = permuted(index, self._groups[group].length, hashed(seed, group, epoch))
        return self._groups[group].locate(shuffled)


class _Group:
    """Data sets one after the other."""

    def __init__(self, datasets: Sequence[Dataset]) -> None:
        self.datasets = datasets
        self._ends = list(itertools.accumulate(len(dataset) for dataset in datasets))
        self.length = self._ends[-1]

    def locate(self, index: int) -> tuple[Dataset, int]:
        which = bisect.bisect_right(self._ends, index)
        return self.datasets[which], index - (self._ends[which - 1] if which else 0)


def _whole_ratio(weights: Sequence[float | int], names: Sequence[str]) -> list[int]:
    """The weights as the smallest whole numbers of the same ratio; one share without weights."""
    for weight, name in zip(weights, names, strict=False):
        if not (0 < weight < math.inf):
            raise ValueError(f"mixture: {name} has weight {weight}; it must be above 0 and finite")
    ratios = [Fraction(weight).limit_denominator(_LARGEST_BLOCK) for weight in weights or [1]]
    factor = math.lcm(*(ratio.denominator for ratio in ratios))
    shares = [int(ratio * factor) for ratio in ratios]
    shares = [share // math.gcd(*shares) for share in shares]
    if sum(shares) > _LARGEST_BLOCK or 0 in shares:
        raise ValueError(
            f"mixture: weights {list(weights)} make blocks of {sum(shares)} samples; take whole "
            f"numbers that sum to at most {_LARGEST_BLOCK}, like 1 and 2"
        )
    return shares


def _interleaved(shares: Sequence[int]) -> list[int]:
    """Which data set each place of a block draws from, each spread evenly."""
    places = [
        ((turn + 0.5) / share, which) for which, share in enumerate(shares) for turn in range(share)
    ]
    return [which for _, which in sorted(places)]
