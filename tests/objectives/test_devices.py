"""Objectives compute where their batch lies: shadows of a GPU's tensors refuse the host's."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily
from torch.overrides import TorchFunctionMode
from training import Student

from distill import perturb
from distill.loading import on_device
from distill.losses.affine_invariant import affine_invariant
from distill.losses.feature_alignment import feature_alignment
from distill.losses.gradient_matching import gradient_matching
from distill.objectives.cross_context import CrossContext, LocalCrops
from distill.objectives.distillation import Distillation
from distill.objectives.supervised import Supervised
from distill.objectives.terms import Term
from distill.types import Batch, Space

_READ = (Tensor.tolist, Tensor.item, Tensor.__int__, Tensor.__float__)
TERMS = (Term("affine", 1.0, affine_invariant), Term("gradient", 2.0, gradient_matching))


class Gpu(TorchFunctionMode):
    """Refuses indices of another device than the host's or the tensor's; draws numbers for real."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        named = kwargs or {}
        if "generator" in named or func in _READ:
            with unset_fake_temporarily():
                return func(*args, **named)
        if func in (Tensor.__getitem__, Tensor.__setitem__):
            within = args[1] if isinstance(args[1], tuple) else (args[1],)
            for index in within:
                if isinstance(index, Tensor) and index.device.type != "cpu":
                    assert index.device == args[0].device, f"{index.device} in {args[0].device}"
        return func(*args, **named)


class Encoder(nn.Module):
    """Tokens of the student's patches."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 8, 4, stride=4)

    def forward(self, image: Tensor) -> Tensor:
        return self.patches(image).flatten(2).transpose(1, 2)


class Teacher(nn.Module):
    """Its disparity."""

    def __init__(self) -> None:
        super().__init__()
        self.space, self.student = Space.AFFINE_DISPARITY, Student()

    def forward(self, image: Tensor) -> Tensor:
        return self.student(image)


def supervised() -> nn.Module:
    return Supervised(Student, TERMS)


def distillation(**settings: Any) -> nn.Module:
    return Distillation(
        Student,
        TERMS,
        perturb=perturb.cutmix,
        feature=Term("feature", 1.0, feature_alignment),
        frozen=Encoder,
        **settings,
    )


def joint(**settings: Any) -> nn.Module:
    return distillation(labelled_terms=[Term("labelled", 1.0, affine_invariant)], **settings)


def cross_context() -> nn.Module:
    return CrossContext(
        Student,
        [Teacher, Teacher],
        TERMS,
        size=16,
        local=LocalCrops(term=Term("local", 1.0, affine_invariant)),
        feature=Term("feature", 1.0, feature_alignment),
        encoder=Encoder,
    )


def batch(mode: FakeTensorMode) -> Batch:
    made: dict[str, Any] = {
        "image": torch.rand(4, 3, 32, 32),
        "target": torch.rand(4, 32, 32),
        "valid": torch.ones(4, 32, 32, dtype=torch.bool),
        "far": torch.zeros(4, 32, 32, dtype=torch.bool),
        "confidence": torch.rand(4, 32, 32),
    }
    maps = {name: mode.from_tensor(map_) for name, map_ in made.items()}
    named = {"key": list("abcd"), "labelled": [True, False, False, True], "seed": 5}
    spaces = {"space": [Space.METRIC_DEPTH, *2 * [Space.AFFINE_DISPARITY], Space.METRIC_DEPTH]}
    return on_device(Batch(**maps, **named, **spaces), torch.device("cuda"))  # type: ignore[arg-type, typeddict-item]  # of dicts


@pytest.mark.parametrize(
    "objective",
    [
        supervised,
        distillation,
        joint,
        partial(distillation, min_confidence=0.2, weighted=True),
        partial(joint, min_confidence=0.2, weighted=True),
        cross_context,
    ],
)
def test_an_objective_on_a_gpu(
    objective: Callable[[], nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CrossContext, "_lot", lambda *_: 1)  # shadows have no chances
    made: Any = objective()
    mode = FakeTensorMode()
    with mode:
        for module in made.modules():
            for name, parameter in module.named_parameters(recurse=False):
                shadow = mode.from_tensor(parameter).detach().to("cuda")
                setattr(module, name, nn.Parameter(shadow, requires_grad=parameter.requires_grad))
    with mode, Gpu():
        given = batch(mode)
        terms = made(given, made.counts(given))
    assert {value.device.type for value in terms.values()} == {"cuda"}
