"""A run that starts from a stored model starts as that model, or not at all."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from runs import rows
from tiny_models import save_depth_anything
from training import Planes, job

from distill.evaluation.validation import HeldOut
from distill.loading import Batches, Mixture, batches
from distill.losses.affine_invariant import affine_invariant
from distill.models.depth_anything import DepthAnything, depth_anything, load_depth_anything
from distill.models.metres import in_metres
from distill.objectives.supervised import Supervised
from distill.objectives.terms import Term

HELD_OUT = HeldOut(open=partial(Planes, length=4, size=56), size=56)


def large(**where: Any) -> Batches:
    return batches(Mixture([(Planes(size=56), None)]), **where)


def damaged(folder: Path, fault: str | None) -> DepthAnything:
    """The network as a faulty import would leave it."""
    student = load_depth_anything(folder)
    with torch.no_grad():
        if fault == "a layer from scratch":
            student.network.head.conv1.reset_parameters()
        elif fault == "normalised twice":
            student.mean.copy_(student.mean + 2 * student.std)
    return student


def train(out: Path, folder: Path, fault: str | None = None, **fields: Any) -> None:
    objective = partial(
        Supervised, partial(damaged, folder, fault), [Term("affine", 1.0, affine_invariant)]
    )
    made: dict[str, Any] = {"steps": 1, "batch_size": 2, "batches": large, "rate": 1e-4}
    job(objective=objective, **{**made, "validation": HELD_OUT, **fields}).run(out)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_depth_anything(tmp_path_factory.mktemp("model"))


@pytest.mark.parametrize("fields", [{"ema": None}, {"precision": "bf16"}])
def test_a_run_starts_with_the_scores_of_the_model(
    tmp_path: Path, model: Path, fields: dict[str, Any]
):
    train(tmp_path, model, **fields)
    with torch.no_grad():
        expected = HELD_OUT(load_depth_anything(model).eval())
    assert rows(tmp_path)[0] == {"step": 0} | {f"val/{k}": value for k, value in expected.items()}


def at_random(student: Any) -> dict[str, float]:
    """A validation on pictures that it draws."""
    noise = torch.rand(2, 3, 56, 56)
    return {"mean": float(student(noise).mean())}


def test_a_validation_that_draws_is_given_the_same_numbers(tmp_path: Path, model: Path):
    train(tmp_path, model, validation=at_random)
    assert "val/mean" in rows(tmp_path)[0]


@pytest.mark.parametrize("fault", ["a layer from scratch", "normalised twice"])
def test_another_start_is_refused_with_both_numbers(tmp_path: Path, model: Path, fault: str):
    with torch.no_grad():
        right = HELD_OUT(load_depth_anything(model).eval())["abs_rel"]
    with pytest.raises(ValueError, match="the student starts with abs_rel") as caught:
        train(tmp_path, model, fault)
    assert f"{right:.6g}" in str(caught.value)
    assert str(model) in str(caught.value)
    assert not rows(tmp_path), "an update was made"


def test_what_is_no_longer_the_stored_model_is_not_held_to_it(model: Path):
    student = load_depth_anything(model)
    assert student.imported is not None
    samples = [HELD_OUT.open()[0]]
    assert in_metres(student, samples, max_depth=10).imported is None
    assert depth_anything("tiny").imported is None
