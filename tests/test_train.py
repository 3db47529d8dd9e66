"""The loop: it learns, and it stops before harm. On two convolutions."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from runs import quarantined, rows, trained, weights
from safetensors.torch import load_file
from training import Planes, job, planes
from transformers import Dinov2Config, Dinov2Model

from distill import checkpoint
from distill.job import GuardStop, exclusive
from distill.loading import Batches, Mixture, batches
from distill.losses.affine_invariant import affine_invariant
from distill.losses.feature_alignment import feature_alignment
from distill.models.depth_anything import depth_anything, load_depth_anything
from distill.models.dinov2 import FrozenDinov2
from distill.objectives.distillation import Distillation
from distill.objectives.terms import Term
from distill.perturb import cutmix


def fixed() -> Any:
    return next(planes(data={}, batch_size=2, seed=1))


def test_it_learns_and_leaves_everything_behind(tmp_path: Path):
    job(steps=60, checkpoint_every=25).run(tmp_path)
    losses = [row["loss"] for row in rows(tmp_path) if "loss" in row]
    assert len(losses) == 60
    assert sum(losses[-10:]) < 0.7 * sum(losses[:10])
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == [
        "step-000000050",
        "step-000000060",
    ]
    assert [row["step"] for row in rows(tmp_path) if "val/mean" in row] == list(range(0, 61, 6))
    assert len(list((tmp_path / "samples").glob("*.png"))) == 11
    assert list((tmp_path / "tensorboard").iterdir())
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert (summary["steps"], summary["images"]) == (60, 240)
    assert summary["last"]["loss"] == losses[-1]
    # the average is what is exported
    exported = load_file(tmp_path / "model" / "model.safetensors")
    average = checkpoint.load(tmp_path / "checkpoints" / "step-000000060").average
    assert average is not None
    assert all(torch.equal(exported[name], average[name]) for name in exported)
    assert not torch.equal(exported["head.weight"], trained(tmp_path, 60)["student.head.weight"])


def test_a_batch_in_two_parts_is_the_same_update(tmp_path: Path):
    # sparse samples do not count: the halves hold different numbers of usable ones
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    fields: dict[str, Any] = {"steps": 5, "batch_size": 8, "student": {"dropout": 0.0}}
    job(**fields).run(whole)
    job(**fields, accumulate=2).run(halves)
    for name, value in trained(whole, 5).items():
        torch.testing.assert_close(trained(halves, 5)[name], value, rtol=0, atol=1e-5)
    for ours, theirs in zip(rows(halves), rows(whole), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4)


def test_looking_changes_nothing(tmp_path: Path):
    job().run(tmp_path / "looked")
    job(validation=None, validate_every=12, log_every=4).run(tmp_path / "blind")
    assert weights(tmp_path / "looked") == weights(tmp_path / "blind")


def test_bf16_trains_as_well(tmp_path: Path):
    job(precision="bf16", steps=30).run(tmp_path)
    losses = [row["loss"] for row in rows(tmp_path) if "loss" in row]
    assert losses[-1] < losses[0]
    assert all(value.dtype == torch.float32 for value in trained(tmp_path, 30).values())


def test_a_real_student_is_distilled_and_exported(tmp_path: Path):
    def pair(**where: Any) -> Batches:
        return batches(Mixture([(Planes(size=32), None)]), **where)

    encoder = tmp_path / "encoder"
    dinov2 = Dinov2Config(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, patch_size=8, image_size=32
    )
    Dinov2Model(dinov2).save_pretrained(encoder)
    objective = partial(
        Distillation,
        partial(depth_anything, "tiny"),
        [Term("affine", 1.0, partial(affine_invariant, trim=0.1))],
        perturb=cutmix,
        feature=Term("feature", 1.0, feature_alignment),
        frozen=partial(FrozenDinov2, encoder),
    )
    outs = {"plain": False, "checkpointed": True}
    for name, activation_checkpointing in outs.items():
        job(
            objective=objective,
            batches=pair,
            batch_size=2,
            steps=2,
            ema=None,
            rate=1e-4,
            validation=None,
            activation_checkpointing=activation_checkpointing,
        ).run(tmp_path / name)
    exported = load_depth_anything(tmp_path / "plain" / "model").state_dict()
    for name, value in trained(tmp_path / "plain", 2).items():
        if name.startswith("student."):
            assert torch.equal(exported[name.removeprefix("student.")], value), name
        else:
            assert name.startswith("projection."), f"{name} is neither trained nor exported"
    for name, value in trained(tmp_path / "checkpointed", 2).items():
        torch.testing.assert_close(value, trained(tmp_path / "plain", 2)[name])


def test_gradients_are_measured_and_shortened(tmp_path: Path):
    job(steps=3).run(tmp_path / "free")
    job(steps=3, max_grad_norm=1e-3).run(tmp_path / "short")
    free, short = (
        [row["grad_norm"] for row in rows(tmp_path / name) if "grad_norm" in row]
        for name in ("free", "short")
    )
    assert free[0] == pytest.approx(short[0])  # before it is shortened
    assert free[0] > 1e-3
    assert weights(tmp_path / "free") != weights(tmp_path / "short")


# --- guards ---


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_bad_update_never_reaches_the_weights(tmp_path: Path, accumulate: int):
    clean, broken = tmp_path / "clean", tmp_path / "broken"
    fields: dict[str, Any] = {"accumulate": accumulate, "checkpoint_every": 1}
    job(**fields, keep_checkpoints=99).run(clean)
    with pytest.raises(GuardStop, match=r"was not applied.*loss nan") as caught:
        job(**fields, data={"broken": 13}).run(broken)
    assert "planes/013.png" in str(caught.value)
    last = checkpoint.latest(broken / "checkpoints")
    assert last is not None
    step = checkpoint.load(last).step
    assert f"update {step} " in str(caught.value)
    for name, value in trained(clean, step).items():
        assert torch.equal(trained(broken, step)[name], value), name


def test_nothing_after_a_bad_update_reaches_the_weights(tmp_path: Path, monkeypatch):
    # the host learns of it one update later; meanwhile the device refuses
    seen = {}
    monkeypatch.setattr(
        "distill.watch.Watch.read",
        lambda self: seen.update(veto=float(self.veto)) or setattr(self, "_pending", None),
    )
    monkeypatch.setattr("distill.train._finish", lambda job_, run: seen.update(run=run))
    job(data={"broken": 13}, checkpoint_every=99, validate_every=99, pictures=fixed).run(tmp_path)
    assert seen["veto"] == 1.0
    with seen["run"].engine.looking() as average:
        for module in (average, seen["run"].engine.objective):
            assert all(torch.isfinite(p).all() for p in module.parameters())


def test_a_dead_output_stops_the_run(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    with pytest.raises(GuardStop, match=r"100% of the output is exactly 0.*final ReLU has died"):
        job(student={"dead": True}, steps=30, validate_every=30, validation=None).run(
            tmp_path / "training"
        )
    assert "in 10 updates up to 9" in (tmp_path / "training/stopped.txt").read_text()
    with pytest.raises(GuardStop, match=r"in 10 updates up to 9"):
        job(student={"dead": True}, steps=30, validate_every=2).run(tmp_path / "pictures")
    assert "100% of the output is exactly 0 in the fixed pictures after step 0" in caplog.text


def test_processes_must_see_one_last_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("distill.launch.told", lambda name: [name, "step-000000005"])
    with pytest.raises(ValueError, match="some processes see none and others step-000000005 as"):
        job().run(tmp_path)


def test_two_runs_never_share_a_folder(tmp_path: Path):
    with exclusive(tmp_path), pytest.raises(ValueError, match="another process is already writing"):
        job().run(tmp_path)


# --- samples that cannot be read ---


def test_what_cannot_be_read_is_named_once_and_others_stand_in(tmp_path: Path):
    job(data={"unreadable": (5, 13)}, max_quarantined=0.1, steps=18).run(tmp_path)
    assert sorted(quarantined(tmp_path)) == ["planes/005.png", "planes/013.png"]
    assert len(rows(tmp_path)) == 18 + 4


@pytest.mark.parametrize(
    ("budget", "stop", "message"),
    [
        (0.05, GuardStop, r"2 of 24 samples could not be read, more than the budget of 5\.00%"),
        (0.0, ValueError, r"planes/0\d\d\.png \(sample \d+\): planes/0\d\d\.png: damaged$"),
    ],
)
def test_more_than_the_budget_stops_the_run(tmp_path: Path, budget: float, stop: Any, message: str):
    made = job(data={"unreadable": (5, 13)}, max_quarantined=budget, pictures=fixed)
    with pytest.raises(stop, match=message):
        made.run(tmp_path)
    assert len(quarantined(tmp_path)) == (2 if budget else 0)


def test_a_run_that_the_budget_stopped_goes_on_when_the_files_are_mended(tmp_path: Path):
    fields: dict[str, Any] = {"max_quarantined": 0.0001, "checkpoint_every": 2}
    with pytest.raises(GuardStop, match="could not be read"):
        job(data={"unreadable": (5, 13)}, **fields).run(tmp_path)
    assert quarantined(tmp_path)
    job(**fields).run(tmp_path, resume=True)
    assert (tmp_path / "summary.json").is_file()
    assert not quarantined(tmp_path)


# --- the job ---


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"steps": 0}, "steps=0 must be at least 1"),
        ({"keep_checkpoints": 0}, "keep_checkpoints=0"),
        ({"workers": -1}, "workers=-1"),
        ({"max_quarantined": 1.5}, r"max_quarantined=1\.5 not in \[0, 1\]"),
        ({"threads": 0}, "threads=0 must be >= 1"),
        ({"accumulate": 3}, "batch_size=4 is not a multiple of accumulate=3"),
        ({"max_grad_norm": 0.0}, "max_grad_norm=0"),
        ({"ema": 1.0}, r"ema=1\.0"),
        ({"rate": float("nan")}, "learning rate of encoder at step 0 is nan"),
    ],
)
def test_fields_are_checked(fields: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        job(**fields)


def test_precision_is_checked():
    made = job()
    object.__setattr__(made, "precision", "fp16")  # the type checker of the tests would be first
    with pytest.raises(ValueError, match=r"precision=fp16: bf16 or fp32"):
        made.__post_init__()


def test_activations_cannot_be_checkpointed_everywhere(tmp_path: Path):
    with pytest.raises(ValueError, match="Student cannot checkpoint its activations"):
        job(activation_checkpointing=True).run(tmp_path)
