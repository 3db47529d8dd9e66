"""Feature alignment: the student's tokens stay near those of a frozen encoder."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import cosine_similarity

from distill import masked


def feature_alignment(
    student: Float[Tensor, "b n d"],
    frozen: Float[Tensor, "b n e"],
    *,
    tolerance: float = 0.15,
    divide_by: Literal["kept", "all"] = "kept",
) -> Float[Tensor, " b"]:
    """Cosine distance of the tokens that are not yet near, per sample. Yang et al. 2024, sec. 3.3.

    Args:
        student: patch tokens of the student's encoder after its final norm.
        frozen: the same of the frozen encoder, for the same image; no gradient reaches it.
        tolerance: a token is skipped where 1 - cosine < tolerance (the paper's alpha is 1 - this).
        divide_by: the number of tokens that are not skipped, or of all: the loss then fades out as
            tokens come near.

    Returns:
        Mean of 1 - cosine over the tokens that are not skipped, or their sum by all; 0 with a
        gradient of 0 where all are. A token of zeros has a cosine of 0.

    Raises:
        ValueError: the tokens have different lengths, or `tolerance` is negative.
    """
    if student.shape[-1] != frozen.shape[-1]:
        raise ValueError(
            f"feature_alignment: student tokens have {student.shape[-1]} channels, frozen ones "
            f"{frozen.shape[-1]}; take the frozen encoder of the student's size"
        )
    if tolerance < 0:
        raise ValueError(f"feature_alignment: tolerance is {tolerance}; it must not be negative")
    student, frozen = masked.full_precision(student), masked.full_precision(frozen).detach()
    distance = 1 - cosine_similarity(student, frozen, dim=-1)[:, None]
    kept = ~(distance < tolerance)
    if divide_by == "all":
        return masked.mean(masked.fill(distance, kept), torch.ones_like(kept))
    return masked.mean(distance, kept)
