"""Attention of networks that train, entered into transformers' own table of implementations."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

NAME = "distill"  # for `set_attn_implementation`; files do not carry it

_SHORT = 512  # tokens; below, the plain product is faster everywhere


def attention(
    module: nn.Module,
    query: Float[Tensor, "b h n d"],
    key: Float[Tensor, "b h n d"],
    value: Float[Tensor, "b h n d"],
    attention_mask: None,
    *,
    scaling: float,
    **_: Any,
) -> tuple[Float[Tensor, "b n h d"], None]:
    """Softmax of the scaled products, times the values, as transformers calls it.

    torch's fused kernel, except where the plain products are faster: of few tokens, and on a CPU in
    bfloat16 with a backward pass. The plain ones keep the weights, n * n numbers a head, and round
    the scores to bfloat16 before the softmax, as transformers' own do; the fused one does not.

    Args:
        module: whose attention it is.
        query: without scale.
        key: of the same tokens.
        value: likewise.
        attention_mask: none; all tokens see all.
        scaling: of the products, 1 / sqrt(d).
    """
    del module
    assert attention_mask is None, "all tokens see all"
    # a tensor's shadow, of which work is counted, is on no device
    on_cpu = query.device.type == "cpu" and type(query) is Tensor
    trains_on_cpu = on_cpu and query.dtype == torch.bfloat16 and torch.is_grad_enabled()
    if query.shape[2] < _SHORT or trains_on_cpu:
        scores = (query * scaling) @ key.mT
        with torch.autocast(query.device.type, enabled=False):
            weights = scores.softmax(-1)  # summed up in float32 whatever it is given
        found = weights @ value
    else:
        found = scaled_dot_product_attention(query, key, value, scale=scaling)
    return found.transpose(1, 2).contiguous(), None


AttentionInterface.register(NAME, attention)
