"""A witness made of a store: what its other labels say that a picture like this looks like.

A ridge regression from the colours and textures around a place, and its height in the picture, to
the rank of the label there. Random filters at four scales (Coates & Ng 2011 found that random ones
suffice) make it one linear system of fixed size, however many labels there are. Two are solved,
each from one half of the keys, so that no label is its own witness.
"""

import hashlib
from collections.abc import Callable, Iterable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from distill.labels.suspicion import equalised
from distill.types import Sample

_SIDE = 16  # places along the short side
_FILTERS = 32
_SCALES = 4
_RIDGE = 3e3  # pixels that speak for a weight of 0


def store_witness(
    samples: Iterable[Sample],
) -> Callable[[Sample], Float[Tensor, "_ _"]]:
    """Fit both halves; the answer is a coarse map of expected ranks, larger is closer.

    Args:
        samples: labelled ones, each read once; some thousands are enough.

    Raises:
        ValueError: one half is empty.
    """
    sums = [_Sums(), _Sums()]
    for sample in samples:
        assert sample.target is not None, sample.key
        assert sample.valid is not None, sample.key
        assert sample.space is not None, sample.key
        features = _features(sample.image)
        rank = equalised(sample.target, sample.valid, sample.space)
        coarse = functional.interpolate(rank[None, None], features.shape[1:], mode="area")
        sums[_half(sample.key)].add(features.flatten(1).T.double(), coarse.flatten().double())
    if any(part.pixels == 0 for part in sums):
        raise ValueError("store_witness: too few labels for two halves; give a model as witness")
    weights = [part.solve() for part in sums]

    def witness(sample: Sample) -> Float[Tensor, "_ _"]:
        features = _features(sample.image)
        found = features.flatten(1).T @ weights[1 - _half(sample.key)].float()
        return found.view(features.shape[1:])

    return witness


class _Sums:
    """The normal equations of one half."""

    def __init__(self) -> None:
        self.pixels = 0
        self.gram: Tensor = torch.zeros(())
        self.cross: Tensor = torch.zeros(())

    def add(self, features: Float[Tensor, "p f"], ranks: Float[Tensor, " p"]) -> None:
        self.pixels += len(features)
        self.gram = self.gram + features.T @ features
        self.cross = self.cross + features.T @ ranks

    def solve(self) -> Float[Tensor, " f"]:
        """Each weight is held back in proportion to the power of its feature."""
        power = self.gram.diagonal() / self.pixels
        return torch.linalg.solve(self.gram + torch.diag(_RIDGE * (power + 1e-6)), self.cross)


def _half(key: str) -> int:
    return hashlib.sha256(key.encode()).digest()[0] % 2


def _features(image: Float[Tensor, "3 h w"]) -> Float[Tensor, "f _ _"]:
    height, width = image.shape[1:]
    short = min(height, width)
    grid = max(1, round(height * _SIDE / short)), max(1, round(width * _SIDE / short))
    level = functional.interpolate(image[None], [4 * side for side in grid], mode="area")
    filters = torch.randn(_FILTERS, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    filters = filters - filters.mean((2, 3), keepdim=True)
    filters = filters / filters.flatten(1).norm(dim=1)[:, None, None, None]
    found: list[Tensor] = [level.mean((2, 3), keepdim=True).expand(1, 3, *grid)]
    for _ in range(_SCALES):
        texture = functional.conv2d(functional.pad(level, (2, 2, 2, 2), mode="replicate"), filters)
        signs = torch.cat([texture[:, ::2].abs(), texture[:, 1::2].clamp(min=0)], dim=1)
        colour = torch.cat([level, level.square()], dim=1)
        found += [functional.adaptive_avg_pool2d(m, grid) for m in ((20 * signs).log1p(), colour)]
        level = functional.avg_pool2d(level, 2)
    seen = torch.cat(found, dim=1)[0]
    down = torch.linspace(-1, 1, grid[0])[:, None].expand(grid)
    across = torch.linspace(-1, 1, grid[1]).expand(grid)
    place = torch.stack([torch.ones(grid), down, down**2, down**3, across**2])
    return torch.cat([seen, seen * down, place])
