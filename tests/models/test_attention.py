import pytest
import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention

from distill.models.attention import attention

MODULE = nn.Identity()


def maps(tokens: int, dtype: torch.dtype = torch.float32) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    made = [torch.randn(2, 3, tokens, 16, generator=generator).to(dtype) for _ in range(4)]
    return [map_.requires_grad_() for map_ in made[:3]] + made[3:]


def results(query, key, value, grad):
    found, none = attention(MODULE, query, key, value, None, scaling=0.25)
    assert none is None
    return [found, *torch.autograd.grad(found, (query, key, value), grad.transpose(1, 2))]


def expected(query, key, value, grad):
    found = scaled_dot_product_attention(query, key, value)
    return [found.transpose(1, 2), *torch.autograd.grad(found, (query, key, value), grad)]


@pytest.mark.parametrize("tokens", [5, 600])
def test_the_same_as_torchs_own(tokens: int):
    for ours, theirs in zip(results(*maps(tokens)), expected(*maps(tokens)), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_in_bfloat16_with_a_backward_pass():
    """Near the exact values, as near as rounded scores let it: 2^-9 of products up to 4."""
    found = results(*maps(600, torch.bfloat16))
    exact = expected(*(map_.float().detach().requires_grad_() for map_ in maps(600)))
    for ours, theirs in zip(found, exact, strict=True):
        assert ours.dtype == torch.bfloat16
        assert (ours - theirs).norm() < 0.02 * theirs.norm()


def test_under_autocast_weights_stay_in_half_precision():
    query, key, value, _ = maps(600, torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        found, _ = attention(MODULE, query, key, value, None, scaling=0.25)
    kept: list[torch.dtype] = []
    hooks = torch.autograd.graph.saved_tensors_hooks(
        lambda t: kept.append(t.dtype) or t, lambda t: t
    )
    with torch.autocast("cpu", torch.bfloat16), hooks:
        attention(MODULE, query, key, value, None, scaling=0.25)
    assert found.dtype == torch.bfloat16
    assert set(kept) == {torch.bfloat16}
