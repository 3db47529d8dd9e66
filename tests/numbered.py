"""Samples that hold their own number, and batches of them."""

import contextlib
import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from distill.loading import batches
from distill.types import Sample, Space


class Numbers:
    """Samples that hold their own index; `broken` ones cannot be read."""

    def __init__(
        self, name, length, *, label="truth", side=4, broken=(), error: type[Exception] = ValueError
    ):
        self.name, self.length, self.label, self.side = name, length, label, side
        self.broken, self.error = broken, error

    def __len__(self):
        return self.length

    def key(self, index):
        return f"{self.name}/{index:05d}"

    def __getitem__(self, index):
        if index in self.broken:
            raise self.error("the file is cut short")
        target = torch.full((self.side, self.side), float(index))
        sample = Sample(key=self.key(index), image=torch.full((3, *target.shape), 0.5))
        if self.label == "none":
            return sample
        if self.label == "truth":
            return replace(
                sample, target=target, valid=target >= 0, far=target < 0, space=Space.METRIC_DEPTH
            )
        return replace(
            sample,
            target=target,
            valid=target >= 0,
            space=Space.AFFINE_DISPARITY,
            pseudo_label=True,
        )


def noisy(sample, rng):
    noise = torch.from_numpy(rng.random(sample.image.shape, dtype=np.float32))
    return replace(sample, image=noise)


def drawn(mixture, count, **settings) -> list[Any]:
    stream = batches(mixture, **{"batch_size": 6, "seed": 5, "transform": noisy, **settings})
    with contextlib.closing(stream):
        return list(itertools.islice(stream, count))


def keys(taken):
    return [key for batch in taken for key in batch["key"]]


def same(first, second):
    assert len(first) == len(second)
    for a, b in zip(first, second, strict=True):
        assert a.keys() == b.keys()
        for name, value in a.items():
            equal = torch.equal(value, b[name]) if torch.is_tensor(value) else value == b[name]
            assert equal, name
