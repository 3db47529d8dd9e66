"""What every objective is made of: weighted terms, their targets and the mean over samples.

An update may be spread over several batches (accumulation) and processes. Its loss is one mean
over all its usable samples, so an objective divides by totals of the whole update (`counts`,
summed by the loop) and each batch returns its share of that mean: shares add up.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from distill import alignment, masked
from distill.geometry import to_space
from distill.types import Batch, Space

# what an objective reports about the network's output beside its terms
OUTPUT = ("zeros", "mean", "spread")

_NEEDS_CONTRAST = {Space.AFFINE_DEPTH, Space.AFFINE_DISPARITY, Space.ORDINAL}


@runtime_checkable
class Student(Protocol):
    """What an objective needs of the network it trains; `models.depth_anything` is one."""

    space: Space
    multiple: int

    def __call__(self, image: Tensor) -> Any:
        """Values in `space`, (b, h, w)."""
        ...

    def forward_features(self, image: Tensor) -> Any:
        """The same and the encoder's tokens, (b, n, d)."""
        ...

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """What is trained, by the name its learning rate goes by."""
        ...


@dataclass(frozen=True)
class Term:
    """One part of a loss.

    Attributes:
        name: under which it is reported.
        weight: its factor in the sum.
        loss: one value per sample; of (pred, target, valid), or of (student, frozen) tokens.

    Raises:
        ValueError: the name is taken by the loop, or the weight is negative or not finite.
    """

    name: str
    weight: float
    loss: Callable[..., Tensor]

    def __post_init__(self) -> None:
        if self.name in {"loss", *OUTPUT}:
            raise ValueError(f"a term cannot be named {self.name!r}: the objective reports that")
        if not math.isfinite(self.weight) or self.weight < 0:
            raise ValueError(f"term {self.name}: weight {self.weight} must be finite and >= 0")


def check_names(terms: Sequence[Term]) -> None:
    """Refuse an objective without terms, or with two of one name.

    Raises:
        ValueError: as said.
    """
    names = [term.name for term in terms]
    if not names:
        raise ValueError("an objective needs at least one term")
    if doubled := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"two terms are named {doubled[0]!r}; name each part differently")


def targets(batch: Batch, space: Space) -> tuple[Float[Tensor, "b h w"], Bool[Tensor, "b h w"]]:
    """The batch's targets in the student's space, and where they are valid; NaN elsewhere.

    Sky becomes disparity 0 and valid, as `geometry.to_space` says.

    Raises:
        ValueError: no sample has a target, or one cannot be converted.
    """
    if "target" not in batch or "valid" not in batch:
        raise ValueError(f"no sample of {batch['key'][0]}, ... has a target to learn from")
    target, valid = batch["target"].clone(), batch["valid"].clone()
    for source in {entry for entry in batch["space"] if entry is not None}:
        index = torch.tensor([i for i, entry in enumerate(batch["space"]) if entry is source])
        index = index.to(target.device, non_blocking=True)
        far = batch["far"][index] if "far" in batch else None
        target[index], valid[index] = to_space(
            target[index], valid[index], far, source=source, target=space
        )
    return target, valid


def usable(
    target: Float[Tensor, "b h w"], valid: Bool[Tensor, "b h w"], space: Space
) -> Bool[Tensor, " b"]:
    """Which samples say enough: pixels and, where scale or shift are unknown, contrast.

    As the losses see it, which give 0 for the others.
    """
    if space in _NEEDS_CONTRAST:
        return masked.enough(target, valid, alignment.median_mad(target, valid)[1])
    return masked.count(valid) >= masked.MIN_PIXELS


def votes(
    valid: Bool[Tensor, "b h w"], samples: Bool[Tensor, " b"], *, by_pixels: bool
) -> Float[Tensor, " b"]:
    """How much each sample weighs in a mean: the usable ones one each, or as they have pixels."""
    return samples.float() * (masked.count(valid) if by_pixels else 1)


def share(values: Float[Tensor, " b"], total: Float[Tensor, ""]) -> Float[Tensor, ""]:
    """These samples' part of a mean over `total` samples; 0 where there are none."""
    return values.sum() / total.clamp(min=1)


def report(
    values: Mapping[str, Float[Tensor, ""]],
    terms: Sequence[Term],
    pred: Float[Tensor, "b h w"],
    images: Float[Tensor, ""],
) -> dict[str, Float[Tensor, ""]]:
    """`loss` with its graph; each term and what `pred` looks like, without one.

    More and more exact zeros are a final ReLU that dies. An affine-invariant student may let its
    output grow, shrink or move without bound: its mean size and the standard deviation within an
    image show it.
    """
    loss = torch.stack([term.weight * values[term.name] for term in terms]).sum()
    output = pred.detach().flatten(1)
    centred = output - output.mean(1, keepdim=True)  # its square is quicker than `std`
    zeros = share((output == 0).float().mean(1), images)
    return {
        "loss": loss,
        **{name: value.detach() for name, value in values.items()},
        "zeros": zeros,
        "mean": share(output.abs().mean(1), images),
        "spread": share(centred.square().mean(1).sqrt(), images),
    }
