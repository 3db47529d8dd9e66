"""Whether a label belongs to its image: how much likelier its witness makes it than no witness.

All labels of a store share a shape, near below and far above, so that any two of them correlate.
What they share is taken out: what counts is how a label differs from the mean one. A label is then
told from impostors, the other labels, as a speaker is told from others by probabilistic linear
discriminant analysis with normalised scores (Prince & Elder 2007; Kenny 2010, section 4).
"""

import torch
from jaxtyping import Float
from torch import Tensor

from distill.inspection.evidence import SIDE

_PARTS = 24  # principal components
_HELD = 0.02  # of the witness's mean power, which holds back the regression
_KEPT = 0.9  # of the labels, twice: the worst fitting are left out
_IMPOSTORS = 64


class Likeness:
    """Two normal distributions of coarse labels: given the witness, and whatever it says.

    Args:
        labels: coarse ranks; most of them right.
        witnesses: of the same images.
    """

    def __init__(self, labels: Float[Tensor, "n 256"], witnesses: Float[Tensor, "n 256"]) -> None:
        labels, witnesses = labels.double(), witnesses.double()
        self._middle = labels.mean(0), witnesses.mean(0)
        one, two = labels - self._middle[0], witnesses - self._middle[1]
        count = max(1, min(_PARTS, len(labels) // 4))
        self._parts = torch.linalg.svd(torch.cat([one, two]), full_matrices=False).Vh[:count].T
        a, b = one @ self._parts, two @ self._parts
        kept = torch.ones(len(a), dtype=torch.bool)
        for _ in range(3):
            self._told = _regression(a[kept], b[kept])
            off = (a - b @ self._told).square().sum(1)
            kept = off <= off.quantile(_KEPT)
        floor = 1e-4 * float(a.square().mean()) + 1e-12
        self._given, self._any = (_precision(m, floor) for m in (a - b @ self._told, a))
        every = -(-len(labels) // _IMPOSTORS)
        self._impostors = labels[::every], witnesses[::every]

    def odds(
        self, labels: Float[Tensor, "... 256"], witnesses: Float[Tensor, "... 256"]
    ) -> Float[Tensor, "..."]:
        """Log of the ratio of both densities, up to a constant; shapes broadcast."""
        a = (labels.double() - self._middle[0]) @ self._parts
        off = a - (witnesses.double() - self._middle[1]) @ self._parts @ self._told
        return (_power(a, self._any) - _power(off, self._given)) / 2

    def strangeness(
        self, labels: Float[Tensor, "n 256"], witnesses: Float[Tensor, "n 256"]
    ) -> Float[Tensor, "n 2"]:
        """How little a label is its image's, in deviations of the impostors; and how mirrored.

        The first is the mean of two: against impostor labels with the own witness, and against the
        own label with the witnesses of others. The second is what mirroring adds to `odds`.
        """
        own = self.odds(labels, witnesses)
        others = (
            self.odds(self._impostors[0][None], witnesses[:, None]),
            self.odds(labels[:, None], self._impostors[1][None]),
        )
        far = [(o.median(1).values - own) / (o.std(1, correction=0) + 1e-6) for o in others]
        mirrored = labels.view(-1, SIDE, SIDE).flip(-1).flatten(1)
        return torch.stack([(far[0] + far[1]) / 2, self.odds(mirrored, witnesses) - own], 1)


def _regression(a: Float[Tensor, "n q"], b: Float[Tensor, "n q"]) -> Float[Tensor, "q q"]:
    gram = b.T @ b
    held = _HELD * gram.diagonal().mean() + 1e-12
    return torch.linalg.solve(gram + held * torch.eye(len(gram)).double(), b.T @ a)


def _precision(values: Float[Tensor, "n q"], floor: float) -> Float[Tensor, "q q"]:
    off = values - values.mean(0)
    eye = torch.eye(values.shape[1]).double()
    return torch.linalg.inv(off.T @ off / max(1, len(off) - 1) + floor * eye)


def _power(values: Float[Tensor, "... q"], precision: Float[Tensor, "q q"]) -> Tensor:
    return ((values @ precision) * values).sum(-1)
