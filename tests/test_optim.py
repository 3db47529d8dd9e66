"""Groups, rates as functions of the step, the veto, the moving average."""

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from distill.optim import Average, Muon, adamw, cosine, polynomial, set_rates, veto


def groups() -> dict[str, list[nn.Parameter]]:
    generator = torch.Generator().manual_seed(0)
    return {
        name: [nn.Parameter(torch.randn(3, 5, generator=generator)) for _ in range(2)]
        for name in ("encoder", "head")
    }


def test_fused_adamw_equals_the_reference_and_skips_what_is_frozen():
    ours, theirs = groups(), groups()
    ours["encoder"][1].requires_grad_(False)
    optimizer = adamw(ours, weight_decay=0.1, betas=(0.8, 0.99))
    reference = torch.optim.AdamW(
        [{"params": theirs["encoder"][:1], "lr": 0.01}, {"params": theirs["head"], "lr": 0.1}],
        weight_decay=0.1,
        betas=(0.8, 0.99),
        foreach=False,
    )
    frozen = ours["encoder"][1].detach().clone()
    for step in range(5):
        set_rates(optimizer, {"encoder": 0.01, "head": 0.1})
        for mine, other in zip(
            [p for group in ours.values() for p in group],
            [p for group in theirs.values() for p in group],
            strict=True,
        ):
            mine.grad = other.grad = torch.sin(other.detach() * (step + 1))
        optimizer.step()
        reference.step()
    torch.testing.assert_close(ours["head"], theirs["head"])
    torch.testing.assert_close(ours["encoder"][0], theirs["encoder"][0])
    assert torch.equal(ours["encoder"][1], frozen)


def test_groups_are_checked():
    made = groups()
    with pytest.raises(ValueError, match="a parameter is in two of the groups"):
        adamw({**made, "again": made["head"]})
    for parameter in made["encoder"]:
        parameter.requires_grad_(False)
    with pytest.raises(ValueError, match=r"no trainable parameter in the groups \['encoder'\]"):
        adamw({"encoder": made["encoder"]})


@pytest.mark.parametrize("rates", [{"encoder": 1.0}, {"encoder": 1.0, "head": 1.0, "neck": 1.0}])
def test_each_group_has_one_rate(rates: dict[str, float]):
    with pytest.raises(ValueError, match=r"parameter groups \['encoder', 'head'\]"):
        set_rates(adamw(groups()), rates)


def mixed() -> dict[str, list[nn.Parameter]]:
    """Matrices and vectors."""
    made = groups()
    return made | {"head": [*made["head"], nn.Parameter(torch.ones(4))]}


def test_muon_takes_the_matrices_and_adamw_the_rest():
    ours, theirs = mixed(), mixed()
    optimizer = Muon(ours, weight_decay=0.1)
    set_rates(optimizer, {"encoder matrices": 0.01, "head matrices": 0.1, "head": 0.2})
    *matrices, vector = [p for group in theirs.values() for p in group]
    muon = torch.optim.Muon(
        [{"params": matrices[:2], "lr": 0.01}, {"params": matrices[2:], "lr": 0.1}],
        weight_decay=0.1,
        adjust_lr_fn="match_rms_adamw",
    )
    references = [muon, torch.optim.AdamW([vector], lr=0.2, weight_decay=0.1)]
    for _ in range(4):
        for groups_ in (ours, theirs):
            for parameter in (p for group in groups_.values() for p in group):
                parameter.grad = torch.sin(3 * parameter.detach())
        for each in (optimizer, *references):
            each.step()
    torch.testing.assert_close(ours, theirs)


def test_muon_goes_on_from_its_state():
    def step(optimizer: torch.optim.Optimizer, parameters: dict[str, list[nn.Parameter]]) -> None:
        set_rates(optimizer, {"encoder matrices": 0.01, "head matrices": 0.1, "head": 0.2})
        for parameter in (p for group in parameters.values() for p in group):
            parameter.grad = torch.sin(3 * parameter.detach())
        optimizer.step()

    whole, first, second = mixed(), mixed(), mixed()
    uninterrupted, before, after = Muon(whole), Muon(first), Muon(second)
    for _ in range(4):
        step(uninterrupted, whole)
    for _ in range(2):
        step(before, first)
    for name, group in first.items():
        for mine, saved in zip(second[name], group, strict=True):
            mine.data.copy_(saved.data)
    after.load_state_dict(copy.deepcopy(before.state_dict()))
    for _ in range(2):
        step(after, second)
    for name, group in whole.items():
        assert all(map(torch.equal, group, second[name]))


def test_muon_wants_a_matrix():
    with pytest.raises(ValueError, match=r"no matrix in the groups \['head'\]; use adamw"):
        Muon({"head": [nn.Parameter(torch.ones(3))]})


@pytest.mark.parametrize("build", [adamw, Muon])
def test_a_veto_leaves_weights_and_moments_alone(
    build: Callable[..., torch.optim.Optimizer],
):
    made = mixed()
    optimizer, flag = build(made), torch.zeros(())
    veto(optimizer, flag)
    set_rates(optimizer, dict.fromkeys([g["name"] for g in optimizer.param_groups], 0.1))
    parameters = [p for group in made.values() for p in group]

    def step(value: float) -> list[torch.Tensor]:
        for parameter in parameters:
            parameter.grad = torch.full_like(parameter, value)
        optimizer.step()
        moments = [t for entry in optimizer.state.values() for t in entry.values()]
        return [t.detach().clone() for t in (*parameters, *moments)]

    before = step(1.0)
    flag.fill_(1.0)
    for value in (math.nan, math.inf, 2.0):
        for now, then in zip(step(value), before, strict=True):
            assert torch.equal(now, then)
    flag.zero_()
    assert not torch.equal(step(2.0)[0], before[0])


def test_polynomial_by_hand():
    rates = {"encoder": 5e-6, "head": 5e-5}
    assert polynomial(0, 10, rates=rates) == rates
    assert polynomial(5, 10, rates=rates)["head"] == pytest.approx(5e-5 * 0.5**0.9)
    assert polynomial(9, 10, rates=rates, power=1.0)["head"] == pytest.approx(5e-6)
    assert polynomial(7, 10, rates=rates, power=0.0) == rates
    rise = [polynomial(step, 10, rates={"head": 1.0}, power=1.0, warmup=4) for step in range(5)]
    assert [entry["head"] for entry in rise] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])


def test_cosine_by_hand():
    values = [cosine(step, 8, rates={"head": 2.0}, warmup=2)["head"] for step in range(8)]
    assert values[:3] == pytest.approx([2 / 3, 4 / 3, 2.0])
    assert values[5] == pytest.approx(1.0)
    assert values[7] == pytest.approx(1 + math.cos(math.pi * 5 / 6))


@pytest.mark.parametrize(("step", "warmup"), [(10, 0), (-1, 0), (0, 10), (0, -1)])
@pytest.mark.parametrize("schedule", [polynomial, cosine])
def test_schedules_know_their_range(schedule, step: int, warmup: int):
    with pytest.raises(ValueError, match=r"must lie in \[0, 10\)"):
        schedule(step, 10, rates={"head": 1.0}, warmup=warmup)


def test_average_by_hand():
    module: Any = nn.Linear(1, 1)
    module.register_buffer("count", torch.zeros(()))
    nn.init.zeros_(module.weight)
    average, free = Average(module, 0.9), torch.zeros(())
    own = average.weights
    nn.init.ones_(module.weight)
    module.count.fill_(3.0)
    average.update(module, 0, free)  # decay (1 + 0) / (10 + 0)
    assert own["weight"].item() == pytest.approx(0.9)
    average.update(module, 0, torch.ones(()))
    assert own["weight"].item() == pytest.approx(0.9), "a vetoed update moved it"
    average.update(module, 10**6, free)
    assert own["weight"].item() == pytest.approx(0.91)
    assert own["count"] == 3
    assert not any(p.requires_grad for p in own.values())
