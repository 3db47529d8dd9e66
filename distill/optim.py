"""AdamW over named groups, learning rates as functions of the step, and the average of weights."""

import copy
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn


def adamw(
    groups: Mapping[str, Sequence[nn.Parameter]],
    *,
    weight_decay: float = 0.01,
    betas: tuple[float, float] = (0.9, 0.999),
) -> torch.optim.AdamW:
    """The fused AdamW, one parameter group a name; parameters that are frozen are left out.

    Loshchilov & Hutter 2019. Rates are 0 until `set_rates`.

    Raises:
        ValueError: nothing can be trained, or a parameter stands in two groups.
    """
    listed = [
        {"name": name, "params": [p for p in group if p.requires_grad]}
        for name, group in groups.items()
    ]
    parameters = [parameter for group in listed for parameter in group["params"]]
    if not parameters:
        raise ValueError(f"adamw: no trainable parameter in the groups {sorted(groups)}")
    if len({id(parameter) for parameter in parameters}) < len(parameters):
        raise ValueError(f"adamw: a parameter is in two of the groups {sorted(groups)}")
    listed = [group for group in listed if group["params"]]
    return torch.optim.AdamW(listed, lr=0.0, betas=betas, weight_decay=weight_decay, fused=True)


def set_rates(optimizer: torch.optim.Optimizer, rates: Mapping[str, float]) -> None:
    """Give each group its learning rate.

    Raises:
        ValueError: a group has no rate, or a rate no group.
    """
    names = {group["name"] for group in optimizer.param_groups}
    if names != set(rates):
        raise ValueError(
            f"learning rates for {sorted(rates)} but parameter groups {sorted(names)}; "
            "name each group once"
        )
    for group in optimizer.param_groups:
        group["lr"] = rates[group["name"]]


def veto(optimizer: torch.optim.Optimizer, flag: Tensor) -> None:
    """Make every later `step` change nothing while `flag` (float32, on the device) is 1.

    The fused kernels read the flag on the device, where a gradient scaler would put its own, so
    the host need not wait for it.
    """
    optimizer.grad_scale = None  # type: ignore[attr-defined]  # read beside the next one
    optimizer.found_inf = flag  # type: ignore[attr-defined]  # torch/optim/adam.py:_fused_adam


def polynomial(
    step: int, steps: int, *, rates: Mapping[str, float], power: float = 0.9, warmup: int = 0
) -> dict[str, float]:
    """Rates falling as (1 - done) ** power, after a linear rise over `warmup` steps.

    `power=1` is Depth Anything V1's linear decay, 0.9 the schedule of its author's released
    scripts, 0 a constant. The first step of a rise is not 0, the last step of a fall is not 0.

    Raises:
        ValueError: `step` or `warmup` is outside [0, steps).
    """
    if not 0 <= step < steps or not 0 <= warmup < steps:
        raise ValueError(f"polynomial: step {step} and warmup {warmup} must lie in [0, {steps})")
    if step < warmup:
        factor = (step + 1) / (warmup + 1)
    else:
        factor = (1 - (step - warmup) / (steps - warmup)) ** power
    return {name: rate * factor for name, rate in rates.items()}


def cosine(
    step: int, steps: int, *, rates: Mapping[str, float], warmup: int = 0
) -> dict[str, float]:
    """Rates falling as half a cosine after a linear rise. Loshchilov & Hutter 2017, eq. 5.

    Raises:
        ValueError: `step` or `warmup` is outside [0, steps).
    """
    falling = polynomial(step, steps, rates={"done": 1.0}, power=1.0, warmup=warmup)["done"]
    if step >= warmup:
        falling = 0.5 - 0.5 * float(torch.cos(torch.tensor(falling * torch.pi, dtype=torch.double)))
    return {name: rate * falling for name, rate in rates.items()}


class Average:
    """An exponential moving average of a module's weights, in float32.

    The decay rises as (1 + n) / (10 + n) up to its bound, so that the first steps' random weights
    are forgotten early. Buffers are copied.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.module = copy.deepcopy(module).requires_grad_(False).eval()
        self.decay = decay

    @torch.no_grad()
    def update(self, module: nn.Module, step: int, veto: Tensor) -> None:
        """Move towards `module` after update number `step`; not at all where `veto` is 1."""
        rate = (1 - min(self.decay, (1 + step) / (10 + step))) * (1 - veto)
        for mine, new in zip(self.module.parameters(), module.parameters(), strict=True):
            mine.add_((new - mine) * rate)
        for mine, theirs in zip(self.module.buffers(), module.buffers(), strict=True):
            mine.copy_(theirs)
