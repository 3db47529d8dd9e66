"""Weights to start from scratch: the size of what passes, and where attention looks."""

import pytest
import torch
from transformers import Dinov2Model

from distill.models.dinov2 import Encoder, configuration
from distill.models.scratch import initialise


def scratch(seed: int) -> Dinov2Model:
    encoder = Encoder(width=96, depth=6, heads=3, patch=8, image_size=112)
    model = Dinov2Model(configuration(encoder))
    model.set_attn_implementation("eager")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # noqa: TID251 - the fork ends with the block
        initialise(model)
    return model.eval()


@torch.no_grad()
def test_variance_passes() -> None:
    hidden = scratch(0)(torch.randn(2, 3, 112, 112), output_hidden_states=True).hidden_states
    assert hidden is not None
    spread = [float(tokens.std()) for tokens in hidden]
    assert 0.5 < spread[0] < 2
    assert spread[0] < spread[-1] < 5 * spread[0]


@pytest.mark.parametrize("seed", range(3))
@torch.no_grad()
def test_each_head_starts_as_a_convolution(seed: int) -> None:
    """Most tokens look most at one neighbour, which lies equally far from all of them."""
    found = scratch(seed)(torch.zeros(1, 3, 112, 112), output_attentions=True).attentions
    assert found is not None
    offsets = set()
    for attention in found[0][0, :, 1:, 1:]:
        inner = attention.view(14, 14, 14, 14)[2:-2, 2:-2].flatten(0, 1).flatten(1)
        weight, place = inner.max(1)
        rows, columns = torch.meshgrid(torch.arange(2, 12), torch.arange(2, 12), indexing="ij")
        down, right = place // 14 - rows.flatten(), place % 14 - columns.flatten()
        assert down.unique().numel() == right.unique().numel() == 1
        assert down.abs().max() <= 2
        assert right.abs().max() <= 2
        assert weight.min() > 0.2
        offsets.add((int(down[0]), int(right[0])))
    assert len(offsets) > 1


def test_the_seed_decides() -> None:
    first, same, other = (dict(scratch(seed).named_parameters()) for seed in (0, 0, 1))
    name = "encoder.layer.3.attention.q_proj.weight"
    assert torch.equal(first[name], same[name])
    assert not torch.equal(first[name], other[name])
