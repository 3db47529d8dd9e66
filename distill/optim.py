"""AdamW and Muon over named groups, rates as functions of the step, the average of weights."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor


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
    listed = [{"name": name, "params": group} for name, group in _trainable(groups).items()]
    return torch.optim.AdamW(listed, lr=0.0, betas=betas, weight_decay=weight_decay, fused=True)


class Muon(torch.optim.Optimizer):
    """Muon for the matrices, in groups of their own named `... matrices`, AdamW for the rest.

    Jordan et al. 2024: a matrix moves along its momentum with all singular values made equal, so
    that rare directions learn as fast as common ones; a transformer that starts from scratch
    leaves its plateau earlier. The step has the root mean square of AdamW's (Liu et al. 2025,
    section 2.2), so both take rates of one size. Rates are 0 until `set_rates`.

    Args:
        groups: parameters by name.
        weight_decay: of both.
        betas: of AdamW.
        momentum: of Muon.

    Raises:
        ValueError: nothing can be trained, no matrix among it, or a parameter stands in two
            groups.
    """

    def __init__(
        self,
        groups: Mapping[str, Sequence[nn.Parameter]],
        *,
        weight_decay: float = 0.01,
        betas: tuple[float, float] = (0.9, 0.999),
        momentum: float = 0.95,
    ) -> None:
        trainable = _trainable(groups)
        matrices = [
            {"name": f"{name} matrices", "params": found}
            for name, group in trainable.items()
            if (found := [p for p in group if p.ndim == 2])
        ]
        if not matrices:
            raise ValueError(f"muon: no matrix in the groups {sorted(groups)}; use adamw")
        rest = {name: [p for p in group if p.ndim != 2] for name, group in trainable.items()}
        self._adamw = adamw(rest, weight_decay=weight_decay, betas=betas)
        self._muon = torch.optim.Muon(
            matrices,
            lr=0.0,
            weight_decay=weight_decay,
            momentum=momentum,
            adjust_lr_fn="match_rms_adamw",
        )
        super().__init__([*self._adamw.param_groups, *self._muon.param_groups], {})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride] - overloads
        """Move every parameter that has a gradient; none where the veto is 1."""
        assert closure is None, "one gradient a step"
        count = len(self._adamw.param_groups)
        parts = self.param_groups[:count], self.param_groups[count:]
        for part, groups in zip((self._adamw, self._muon), parts, strict=True):
            part.param_groups, part.state = groups, self.state  # new objects after each load
        flag = getattr(self, "found_inf", None)
        if flag is None:
            self._adamw.step()
            self._muon.step()
            return
        veto(self._adamw, flag)
        self._adamw.step()
        self._step_matrices(flag > 0)

    def _step_matrices(self, held: Tensor) -> None:
        """Muon's step, taken back on the device where `held`; all matrices are kept for that."""
        moved = [p for g in self._muon.param_groups for p in g["params"] if p.grad is not None]
        for parameter in moved:
            self.state[parameter].setdefault("momentum_buffer", torch.zeros_like(parameter))
        changed = [t for p in moved for t in (p, self.state[p]["momentum_buffer"])]
        before = [t.clone() for t in changed]
        self._muon.step()
        for now, then in zip(changed, before, strict=True):
            now.copy_(torch.where(held, then, now))


def _trainable(groups: Mapping[str, Sequence[nn.Parameter]]) -> dict[str, list[nn.Parameter]]:
    """The parameters that are not frozen, without groups that are empty.

    Raises:
        ValueError: nothing can be trained, or a parameter stands in two groups.
    """
    found = {name: [p for p in group if p.requires_grad] for name, group in groups.items()}
    parameters = [parameter for group in found.values() for parameter in group]
    if not parameters:
        raise ValueError(f"optimizer: no trainable parameter in the groups {sorted(groups)}")
    if len({id(parameter) for parameter in parameters}) < len(parameters):
        raise ValueError(f"optimizer: a parameter is in two of the groups {sorted(groups)}")
    return {name: group for name, group in found.items() if group}


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
    are forgotten early. Buffers are copied. Of weights in pieces each process averages its own.

    Attributes:
        weights: by their names in the module's `state_dict`.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.weights = {name: w.detach().clone() for name, w in module.state_dict().items()}
        self.decay = decay

    @torch.no_grad()
    def update(self, module: nn.Module, step: int, veto: Tensor) -> None:
        """Move towards `module` after update number `step`; not at all where `veto` is 1."""
        rate = (1 - min(self.decay, (1 + step) / (10 + step))) * (1 - veto)
        learned = {name for name, _ in module.named_parameters(remove_duplicate=False)}
        for name, theirs in module.state_dict().items():
            mine, new = _own(self.weights[name]), _own(theirs)
            if name in learned:
                mine.add_((new - mine) * rate)
            else:
                mine.copy_(new)


def _own(tensor: Tensor) -> Tensor:
    """What this process holds of it."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor
