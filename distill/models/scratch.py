"""Weights from which a vision transformer trains from scratch, within hundreds of steps."""

import math
import re
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

_REACH = 2  # tokens, how far beside its own place a head starts to look


def initialise(encoder: nn.Module) -> None:
    """Fill a DINOv2 encoder from torch's seeded default generator.

    transformers draws every weight with a deviation of 0.02, which suits a width of 2500: at the
    width of a tiny model the branches start at a fraction of the residual stream. Here linear
    weights keep the variance of their input, and the patch projection counts as one of them.

    Attention starts as a convolution: every head looks at one neighbour, drawn from a window of 5
    by 5 tokens, as far as the position embedding says where it is (Zheng et al. 2024, "Structured
    Initialization for Attention in Vision Transformers", with sines in place of an optimisation).
    In the first block at least a fifth of its weight lies there (tests/models/test_scratch.py).
    """
    for name, parameter in encoder.named_parameters():
        with torch.no_grad():
            if name.endswith("position_embeddings"):
                parameter.zero_()
            elif name.endswith("lambda1") or re.search(r"norm\d?\.weight$", name):
                parameter.fill_(1.0)
            elif name.endswith("cls_token"):
                nn.init.normal_(parameter, std=0.02)
            elif parameter.ndim >= 2 and not name.endswith("mask_token"):
                fans = parameter.shape[0] + parameter[0].numel()
                nn.init.uniform_(parameter, -((6 / fans) ** 0.5), (6 / fans) ** 0.5)  # Xavier
            else:
                parameter.zero_()
    _look_at_neighbours(encoder)


@torch.no_grad()
def _look_at_neighbours(encoder: nn.Module) -> None:
    """Write the position embedding, and queries and keys that compare places alone."""
    heads = cast(int, encoder.config.num_attention_heads)  # pyright: ignore[reportAttributeAccessIssue] - of transformers
    named = dict(encoder.named_parameters())
    embedding = next(p for name, p in named.items() if name.endswith("position_embeddings"))
    tokens, width = embedding.shape[1] - 1, embedding.shape[2]
    channels, side = width // heads, int(tokens**0.5)
    waves = torch.linspace(math.pi / side, 0.6 * math.pi, channels // 4)
    used = 4 * len(waves)
    embedding[0, 1:, :used] = _sines(side, waves)
    # the product of a query and a key of one place: a weight of e^peak against `tokens` of e^0
    peak = math.log(tokens + 1)
    gain = (peak * channels**0.5 / (4 * len(waves))) ** 0.5
    for name in [name for name in named if name.endswith("q_proj.weight")]:
        query = named[name].view(heads, channels, width).zero_()
        key = named[name.replace("q_proj", "k_proj")].view(heads, channels, width).zero_()
        for head in range(heads):
            offset = torch.randint(-_REACH, _REACH + 1, (2,)).tolist()
            query[head, :used, :used] = gain * _shift(waves, *offset)
            key[head, :used, :used] = gain * torch.eye(used)


def _sines(side: int, waves: Float[Tensor, " f"]) -> Float[Tensor, "n c"]:
    """Sine and cosine of row and column, row by row of a square grid, of mean square 1."""
    axis = torch.arange(side, dtype=torch.float32)
    places = torch.meshgrid(axis, axis, indexing="ij")
    angles = [place.reshape(-1, 1) * waves for place in places]
    return 2**0.5 * torch.cat([f(a) for a in angles for f in (torch.sin, torch.cos)], dim=1)


def _shift(waves: Float[Tensor, " f"], *offset: int) -> Float[Tensor, "c c"]:
    """The matrix that takes the sines of a place to those of the place `offset` rows, columns on.

    sin(a + b) = sin a cos b + cos a sin b and cos(a + b) = cos a cos b - sin a sin b.
    """
    blocks = []
    for tokens in offset:
        cosine, sine = torch.diag(torch.cos(tokens * waves)), torch.diag(torch.sin(tokens * waves))
        blocks.append(torch.cat([torch.cat([cosine, sine], 1), torch.cat([-sine, cosine], 1)]))
    return torch.block_diag(*blocks)
