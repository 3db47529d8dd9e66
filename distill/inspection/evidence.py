"""What a label, its image and a witness say about each other, kept small: thousands fit in memory.

A label can be looked at as it is and under faults that are made on purpose, which is how a store
teaches what each of its faults would look like.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
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
_SKIES = (0.03, 0.06, 0.1, 0.15)  # of the pixels, the farthest by the witness
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
    numbers: Float[Tensor, "8"]
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
        said = _resized(witness(sample), rank.shape)
        second = equalised(said, torch.ones_like(valid), Space.ORDINAL)
        ranks = {"": rank}
        if faults:
            other = before[0] if len(before) == _STRANGER else None
            spoilt = _spoilt(rank, second, other, number)
            ranks |= {name: equalised(m, valid, Space.ORDINAL) for name, m in spoilt.items()}
            before.append(rank)
        yield dict(zip(ranks, _seen(sample, list(ranks.values()), second * valid), strict=True))


def _seen(
    sample: Sample, ranks: Sequence[Float[Tensor, "h w"]], witness: Float[Tensor, "h w"]
) -> Iterator[Look]:
    """A sample with each of these ranks as its label."""
    assert sample.target is not None
    assert sample.valid is not None
    steps, labels = quantised(sample.target, sample.valid), torch.stack(list(ranks))
    said = torch.stack(list(contradictions(labels, witness).values()))
    image = _resized(sample.image, labels.shape[1:])
    match = edge_match(image[None], torch.cat([labels, labels.flip(-1)]))
    score, mirrored = match.score.chunk(2)
    n = len(labels)
    apart = torch.hypot(match.row[:n].float(), match.column[:n].float()) >= _APART
    shifted = torch.where(apart, match.best[:n] - score, 0.0)
    numbers = torch.cat([said, (mirrored - score)[None], shifted[None]]).T
    coarse = _coarse(torch.cat([labels, witness[None]]))
    for place in range(n):
        yield Look(sample.key, steps, numbers[place], coarse[place], coarse[-1])


def _spoilt(
    rank: Float[Tensor, "h w"],
    second: Float[Tensor, "h w"],
    other: Tensor | None,
    number: int,
) -> dict[str, Float[Tensor, "h w"]]:
    farthest = second <= second.flatten().quantile(_SKIES[number // 4 % len(_SKIES)])
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


def _coarse(ranks: Float[Tensor, "n h w"]) -> Float[Tensor, "n 256"]:
    return functional.adaptive_avg_pool2d(ranks[:, None], SIDE).flatten(1)


def _resized(values: Tensor, size: Sequence[int]) -> Tensor:
    maps = values.view(1, -1, *values.shape[-2:])
    found = functional.interpolate(maps, list(size), mode="bilinear", align_corners=False)
    return found.view(*values.shape[:-2], *size)
