"""A data set in two parts, one to learn from and one that is held out, by key alone."""

import hashlib
from fractions import Fraction

from distill.types import Dataset, Sample

_BITS = 64


class Apart:
    """The samples of a data set that are held out, or the others.

    Which part a sample is in follows from its key: it stays there when files come or go, and on
    every machine. Frames of one film are alike: keep films apart by `by_folder`.

    Args:
        dataset: to divide; stays readable as an attribute.
        share: of the samples that are held out, in (0, 1).
        held_out: serve these; False: the others.
        by_folder: whole folders are held out instead of single samples.

    Raises:
        ValueError: `share` is out of its range, or the part is empty.
    """

    def __init__(
        self, dataset: Dataset, *, share: float, held_out: bool, by_folder: bool = False
    ) -> None:
        if not 0 < share < 1:
            raise ValueError(f"{dataset.name}: held-out share is {share}; it must lie in (0, 1)")
        self.name, self.dataset = dataset.name, dataset
        keys = [dataset.key(index) for index in range(len(dataset))]
        units = [key.rpartition("/")[0] if by_folder else key for key in keys]
        self._rows = [i for i, unit in enumerate(units) if (_place(unit) < share) == held_out]
        if not self._rows:
            part, kind = ("held out", "folders") if held_out else ("left", "folders")
            raise ValueError(
                f"{dataset.name}: nothing is {part} of {len(keys)} samples in {len(set(units))} "
                f"{kind if by_folder else 'units'} at a share of {share}; change the share"
            )

    def __len__(self) -> int:
        return len(self._rows)

    def key(self, index: int) -> str:
        """The key of sample `index`, without reading it."""
        return self.dataset.key(self._rows[index])

    def __getitem__(self, index: int) -> Sample:
        """As the whole data set has it."""
        return self.dataset[self._rows[index]]


def _place(unit: str) -> Fraction:
    """A number in [0, 1) that follows from the name."""
    digest = hashlib.sha256(unit.encode()).digest()
    return Fraction(int.from_bytes(digest[: _BITS // 8], "big"), 1 << _BITS)
