import copy

import pytest
import torch
from torch import nn

from distill.models.blocks import blocks_of, compile_blocks
from distill.models.depth_anything import depth_anything


def test_compiled_blocks_compute_the_same():
    torch.manual_seed(0)  # noqa: TID251 - the weights
    plain = depth_anything("tiny")
    compiled = copy.deepcopy(plain)
    compile_blocks(compiled)
    assert len(list(blocks_of(compiled))) == 6
    image = torch.rand(2, 3, 56, 56)
    losses = [network(image).square().mean() for network in (plain, compiled)]
    torch.testing.assert_close(losses[1], losses[0])
    for loss in losses:
        loss.backward()
    for ours, theirs in zip(compiled.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-3, atol=1e-6)
    assert next(blocks_of(compiled))._compiled_call_impl is not None
    assert next(blocks_of(copy.deepcopy(compiled)))._compiled_call_impl is None


def test_a_network_without_blocks_cannot_be_compiled():
    with pytest.raises(ValueError, match=r"Linear names no transformer blocks to compile"):
        compile_blocks(nn.Linear(1, 1))
