"""FLOPs and memory of shapes against what can be computed by hand, and nothing is allocated."""

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention as attention

from distill.plan import counting


def test_a_matrix_product_and_its_gradients():
    with counting.shadows():
        layer, x = nn.Linear(30, 50, bias=False), torch.empty(20, 30)
        forward = counting.cost(lambda: layer(x))
        both = counting.cost(lambda: layer(x).sum().backward())
    assert forward.flops == 2 * 20 * 30 * 50
    assert both.flops == 2 * forward.flops  # the input needs no gradient
    assert forward.peak == 20 * 50 * 4
    assert both.left == 30 * 50 * 4  # the weight's gradient alone


def test_attention_counts_and_keeps_no_matrix():
    tokens = 4096
    with counting.shadows():
        q = torch.empty(1, 2, tokens, 64, requires_grad=True)
        found = counting.cost(lambda: attention(q, q, q))
        both = counting.cost(lambda: attention(q, q, q).sum().backward())
    assert found.flops == 4 * 2 * tokens**2 * 64
    assert both.flops == pytest.approx(3.5 * found.flops)  # five products in the backward pass
    assert found.peak < 2 * tokens**2 * 4


def peak(work: Callable[[], object]) -> int:
    with counting.shadows():
        return counting.cost(work).peak


def test_memory_that_was_given_back_is_not_counted_twice():
    def one_after_the_other() -> None:
        for _ in range(5):
            torch.empty(1000)

    def together() -> object:
        return [torch.empty(1000) for _ in range(5)]

    def views() -> object:
        whole = torch.empty(1000)
        return [whole[n:] for n in range(5)]

    assert peak(one_after_the_other) == 4000
    assert peak(together) == 20000
    assert peak(views) == 4000


def test_shadows_of_a_terabyte_cost_nothing():
    with counting.building():
        module = nn.Linear(500_000, 500_000)
    module.bias.requires_grad_(False)
    with counting.shadows():
        counting.shadow(module)
        assert counting.size(module, trained=True) == 4 * 500_000**2
        assert counting.size(module, trained=False) == 4 * 500_000
        assert module(torch.empty(1, 500_000)).shape == (1, 500_000)
