"""A student's tokens beside those of a frozen encoder that may be wider or narrower."""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from distill.objectives.terms import Student


def projection(student: Student, frozen: nn.Module) -> nn.Module:
    """From the student's feature width to the frozen encoder's; nothing where they agree.

    V1 issue 224: a linear layer on the student's side. The widths are asked of the networks.

    Raises:
        ValueError: they cut an image into different numbers of patches.
    """
    image = torch.zeros(1, 3, *[4 * student.multiple] * 2)
    with torch.no_grad():
        ours, theirs = student.forward_features(image)[1], frozen(image)
    if ours.shape[1] != theirs.shape[1]:
        raise ValueError(
            f"the student has {ours.shape[1]} tokens where the frozen encoder has "
            f"{theirs.shape[1]}; both need the same patch size"
        )
    width, frozen_width = ours.shape[2], theirs.shape[2]
    return nn.Linear(width, frozen_width) if width != frozen_width else nn.Identity()


def with_projection(
    groups: Mapping[str, Sequence[nn.Parameter]], layer: nn.Module
) -> dict[str, list[nn.Parameter]]:
    """A student's parameter groups, the projection in the one of the head, as it is as new.

    Raises:
        ValueError: a projection is needed and the student has no group "head".
    """
    joined = {name: list(group) for name, group in groups.items()}
    if extra := list(layer.parameters()):
        if "head" not in joined:
            raise ValueError(f"no group 'head' for the projection among {sorted(joined)}")
        joined["head"] += extra
    return joined


def tokens_of(frozen: nn.Module, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b n d"]:
    """What a frozen encoder says; nothing of how is kept."""
    with torch.inference_mode():
        tokens = frozen(image)
    return tokens.clone()  # one of inference mode could not be saved for a backward pass
