"""What a label, its image and a witness say about each other, kept small: thousands fit in memory.

A label can be looked at as it is and under faults that are made on purpose, which is how a store
teaches what each of its faults would look like.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from distill.labels.edges import edge_match
from distill.labels.suspicion import contradictions, equalised, quantised
from distill.types import Sample, Space

Witness = Callable[[Sample], Float[Tensor, "_ _"]]
"""A second opinion: larger is closer, at any size that covers the whole image."""

FAULTS = ("mirrored", "inverted", "near sky", "another", "shifted")
"""What is made on purpose; each is a reason of the firewall."""

SIDE = 16  # of the coarse maps by which labels are told apart
_SHIFT = 4  # pixels
_APART = 2.5  # pixels; nearer than that is not called a shift
_SKY = 0.15  # of the pixels, the farthest by the witness
_STRANGER = 8  # labels ago; neighbours may show the same place


@dataclass(frozen=True)
class Look:
    """One label beside its witness.

    Attributes:
        key: of the image.
        quantised: see `suspicion.quantised`.
        numbers: `contradictions`, then how much better the label's edges lie on those of the image
            when mirrored, and when moved by more than 2.5 pixels.
        label: coarse ranks, row by row; the picture is squeezed into a square.
        witness: the same of the witness.
    """

    key: str
    quantised: float
    numbers: Float[Tensor, "7"]
    label: Float[Tensor, "256"]
    witness: Float[Tensor, "256"]


def looks(
    samples: Iterable[Sample], witness: Witness, *, faults: bool = False
) -> Iterator[dict[str, Look]]:
    """Each labelled sample as it is, under the name ""; and with each of `FAULTS`, if asked for.

    The label of another image is that of the eighth sample before.
    """
    before: deque[Tensor] = deque(maxlen=_STRANGER)
    for number, sample in enumerate(samples):
        assert sample.target is not None, sample.key
        assert sample.valid is not None, sample.key
        assert sample.space is not None, sample.key
        valid = sample.valid
        rank = equalised(sample.target, valid, sample.space)
        steps = quantised(sample.target, valid)
        said = _resized(witness(sample), rank.shape)
        second = equalised(said, torch.ones_like(valid), Space.ORDINAL)
        found = {"": _look(sample, steps, rank, second, valid)}
        if faults:
            other = before[0] if len(before) == _STRANGER else None
            for fault, spoilt in _spoilt(rank, second, other, number).items():
                again = equalised(spoilt, valid, Space.ORDINAL)
                found[fault] = _look(sample, steps, again, second, valid)
            before.append(rank)
        yield found


def _look(
    sample: Sample,
    steps: float,
    rank: Float[Tensor, "h w"],
    second: Float[Tensor, "h w"],
    valid: Bool[Tensor, "h w"],
) -> Look:
    said = contradictions(rank, second * valid)
    image = _resized(sample.image, rank.shape)
    both = edge_match(image.expand(2, *image.shape), torch.stack([rank, rank.flip(-1)]))
    apart = float(torch.hypot(both.row[0].float(), both.column[0].float()))
    shifted = float(both.best[0] - both.score[0]) if apart >= _APART else 0.0
    edges = [float(both.score[1] - both.score[0]), shifted]
    coarse = [_coarse(part) for part in (rank, second)]
    return Look(sample.key, steps, torch.tensor([*said.values(), *edges]), coarse[0], coarse[1])


def _spoilt(
    rank: Float[Tensor, "h w"],
    second: Float[Tensor, "h w"],
    other: Tensor | None,
    number: int,
) -> dict[str, Float[Tensor, "h w"]]:
    farthest = second <= second.flatten().quantile(_SKY)
    down, right = ((0, 1), (0, -1), (1, 0), (-1, 0))[number % 4]
    found = {
        "mirrored": rank.flip(-1),
        "inverted": -rank,
        "near sky": torch.where(farthest, 0.5, rank),
        "shifted": _moved(rank, _SHIFT * down, _SHIFT * right),
    }
    if other is not None:
        found["another"] = _resized(other, rank.shape)
    return found


def _moved(rank: Float[Tensor, "h w"], down: int, right: int) -> Float[Tensor, "h w"]:
    height, width = rank.shape
    rows = (torch.arange(height) - down).clamp(0, height - 1)
    columns = (torch.arange(width) - right).clamp(0, width - 1)
    return rank[rows][:, columns]


def _coarse(rank: Float[Tensor, "h w"]) -> Float[Tensor, "256"]:
    return functional.adaptive_avg_pool2d(rank[None, None], SIDE).flatten()


def _resized(values: Tensor, size: Sequence[int]) -> Tensor:
    maps = values.view(1, -1, *values.shape[-2:])
    found = functional.interpolate(maps, list(size), mode="bilinear", align_corners=False)
    return found.view(*values.shape[:-2], *size)
