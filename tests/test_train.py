"""The loop: it learns, it resumes bit by bit, it stops before harm. On two convolutions."""

import hashlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
import torch
from range_server import serving
from safetensors.torch import load_file
from streaming import student_batches, write_labels, write_shards
from training import Planes, job, planes, start
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
from distill.tracking import read_rows

ROOT = Path(__file__).parent.parent


def fixed() -> Any:
    return next(planes(data={}, batch_size=2, seed=1))


def finish(*processes: BaseProcess) -> None:
    for process in processes:
        process.join(300)
        assert process.exitcode == 0


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def weights(out: Path) -> dict[str, str]:
    """Hashes of what a run ends with: exported student, trained weights, their average."""
    last = checkpoint.latest(out / "checkpoints")
    assert last is not None
    files = [out / "model" / "model.safetensors", *sorted(last.glob("*.safetensors"))]
    return {path.name: sha256(path) for path in files} | {"optimizer": _optimizer(last)}


def _optimizer(path: Path) -> str:
    state = checkpoint.load(path).optimizer["state"]
    moments = [entry[name].numpy().tobytes() for entry in state.values() for name in sorted(entry)]
    return hashlib.sha256(b"".join(moments)).hexdigest()


def rows(out: Path) -> list[dict[str, float]]:
    """Metrics without what depends on the clock."""
    clock = {"images_per_s", "wait_s", "seconds"}
    return [
        {name: value for name, value in row.items() if name not in clock}
        for row in read_rows(out / "metrics.jsonl")
    ]


def trained(folder: Path, step: int) -> dict[str, torch.Tensor]:
    return load_file(folder / "checkpoints" / f"step-{step:09d}" / "model.safetensors")


def test_it_learns_and_leaves_everything_behind(tmp_path: Path):
    job(steps=60, checkpoint_every=25).run(tmp_path)
    losses = [row["loss"] for row in rows(tmp_path) if "loss" in row]
    assert len(losses) == 60
    assert sum(losses[-10:]) < 0.7 * sum(losses[:10])
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == [
        "step-000000050",
        "step-000000060",
    ]
    assert [row["step"] for row in rows(tmp_path) if "val/mean" in row] == list(range(6, 61, 6))
    assert len(list((tmp_path / "samples").glob("*.png"))) == 10
    assert list((tmp_path / "tensorboard").iterdir())
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert (summary["steps"], summary["images"]) == (60, 240)
    assert summary["last"]["loss"] == losses[-1]
    # the average is what is exported
    exported = load_file(tmp_path / "model" / "model.safetensors")
    average = load_file(tmp_path / "checkpoints" / "step-000000060" / "average.safetensors")
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


# --- going on ---


SLOW: Any = {"data": {"slow": 0.02}}  # as long as reading takes, nothing else changes


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("uninterrupted")
    finish(start(out, steps=40, **SLOW))
    return out


def test_killed_three_times_and_resumed_is_the_same_run(tmp_path: Path, uninterrupted: Path):
    out, moments = tmp_path / "run", random.Random(0)
    for workers in (0, 2, 1):
        process = start(out, resume=True, steps=40, workers=workers, **SLOW)
        _wait_for_rows(out, more=2)
        time.sleep(moments.uniform(0, 0.8))
        process.kill()
        process.join()
    assert checkpoint.latest(out / "checkpoints") is not None, "killed too early"
    assert not (out / "summary.json").exists(), "killed too late"
    finish(start(out, resume=True, steps=40, **SLOW))
    assert weights(out) == weights(uninterrupted)
    assert rows(out) == rows(uninterrupted)


def _wait_for_rows(out: Path, *, more: int) -> None:
    path = out / "metrics.jsonl"
    before = len(path.read_text().splitlines()) if path.exists() else 0
    for _ in range(6000):
        if path.exists():
            count = len(path.read_text().splitlines())
            before = min(before, count)  # a resumed run takes rows back
            if count >= before + more:
                return
        time.sleep(0.02)
    raise AssertionError("the run writes no metrics")


@pytest.mark.parametrize("validate_every", [6, 1])
def test_sigterm_leaves_a_checkpoint_and_goes_on_exactly(
    tmp_path: Path, uninterrupted: Path, validate_every: int
):
    out = tmp_path / "run"
    process = start(out, steps=40, workers=2, validate_every=validate_every, **SLOW)
    _wait_for_rows(out, more=3)
    os.kill(process.pid or 0, signal.SIGTERM)
    process.join(300)
    said = (tmp_path / "run-0.log").read_text()
    at = checkpoint.latest(out / "checkpoints")
    assert at is not None
    step = checkpoint.load(at).step
    assert f"Interrupted: terminated; {out} goes on from step {step} with --resume" in said
    assert rows(out)[-1]["step"] == step
    finish(start(out, resume=True, steps=40, **SLOW))
    assert weights(out) == weights(uninterrupted)


def test_a_finished_run_is_left_alone(tmp_path: Path):
    job(steps=2).run(tmp_path)
    before = sha256(tmp_path / "summary.json")
    with pytest.raises(ValueError, match=r"holds a run: add --resume"):
        job(steps=2).run(tmp_path)
    job(steps=2).run(tmp_path, resume=True)
    assert sha256(tmp_path / "summary.json") == before


def test_another_job_cannot_go_on(tmp_path: Path):
    job(steps=5).run(tmp_path)
    (tmp_path / "summary.json").unlink()
    with pytest.raises(ValueError, match=r"seed: 0 -> 1") as caught:
        job(steps=5, seed=1, rate=0.02, workers=1, log_every=3).run(tmp_path, resume=True)
    assert "lr.rates.head: 0.01 -> 0.02" in str(caught.value)
    assert "workers" not in str(caught.value)
    with pytest.raises(ValueError, match=r"objective\.width"):
        job(steps=5, student={"width": 12}).run(tmp_path, resume=True)
    with pytest.raises(ValueError, match=r'samples\.0: "24 of planes" -> "23 of planes"'):
        job(steps=5, data={"length": 23}).run(tmp_path, resume=True)


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
    for module in (seen["run"].engine.student, seen["run"].engine.objective):
        assert all(torch.isfinite(p).all() for p in module.parameters())


def test_a_dead_output_stops_the_run(tmp_path: Path):
    with pytest.raises(GuardStop, match=r"100% of the output is exactly 0.*final ReLU has died"):
        job(student={"dead": True}, steps=30, validate_every=30).run(tmp_path / "training")
    with pytest.raises(GuardStop, match=r"in the fixed pictures after step 2"):
        job(student={"dead": True}, steps=30, validate_every=2).run(tmp_path / "pictures")


def test_two_runs_never_share_a_folder(tmp_path: Path):
    with exclusive(tmp_path), pytest.raises(ValueError, match="another process is already writing"):
        job().run(tmp_path)


# --- samples that cannot be read ---


def quarantined(out: Path) -> list[str]:
    files = sorted(out.glob("quarantine*.jsonl"))
    lines = [json.loads(line) for path in files for line in path.read_text().splitlines()]
    assert all(line["reason"] == f"{line['key']}: damaged" for line in lines)
    return [line["key"] for line in lines]


def test_what_cannot_be_read_is_named_once_and_others_stand_in(tmp_path: Path):
    job(data={"unreadable": (5, 13)}, max_quarantined=0.1, steps=18).run(tmp_path)
    assert sorted(quarantined(tmp_path)) == ["planes/005.png", "planes/013.png"]
    assert len(rows(tmp_path)) == 18 + 3


def test_a_resumed_run_sets_the_same_samples_aside(tmp_path: Path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    fields: dict[str, Any] = {"max_quarantined": 0.1, "steps": 40}
    data = {"unreadable": (5, 13)}
    finish(start(whole, **fields, data=data))
    process = start(killed, **fields, data={**data, "slow": 0.01})
    _wait_for_rows(killed, more=15)
    os.kill(process.pid or 0, signal.SIGKILL)
    process.join()
    finish(start(killed, resume=True, **fields, data={**data, "slow": 0.01}))
    assert weights(killed) == weights(whole)
    assert rows(killed) == rows(whole)
    assert sorted(quarantined(killed)) == sorted(quarantined(whole))


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


# --- data far away ---


def test_a_student_on_shards_over_http_is_killed_and_resumed(tmp_path: Path):
    """Images by byte ranges, labels from a store; the network fails now and then."""
    (tmp_path / "shards").mkdir()
    labels = write_labels(tmp_path / "labels", write_shards(tmp_path / "shards"))
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    with serving(tmp_path / "shards") as (address, trouble):
        shards = f"{address}/x-{{000000..000001}}.tar"
        draw = partial(student_batches, shards, labels)
        fields: dict[str, Any] = {"batches": draw, "steps": 30, "workers": 1}
        finish(start(whole, **fields))
        process = start(killed, **fields)
        _wait_for_rows(killed, more=8)
        os.kill(process.pid or 0, signal.SIGKILL)
        process.join()
        trouble.requests = 2
        finish(start(killed, resume=True, **fields))
        assert trouble.bytes_sent > 0
    assert weights(killed) == weights(whole)
    assert rows(killed) == rows(whole)
    assert not quarantined(killed)


# --- several processes ---


def test_two_processes_train_as_one(tmp_path: Path):
    one, two = tmp_path / "one", tmp_path / "two"
    fields: dict[str, Any] = {"student": {"dropout": 0.0}, "batch_size": 8, "validate_every": 4}
    alone = start(one, **fields)
    finish(alone, *_pair(two, accumulate=2, **fields))
    states = [checkpoint.load(checkpoint.latest(out / "checkpoints") or out) for out in (one, two)]
    assert [len(state.random) for state in states] == [1, 2]
    for name, value in states[0].model.items():
        torch.testing.assert_close(states[1].model[name], value, rtol=0, atol=2e-5)
    for ours, theirs in zip(rows(two), rows(one), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-3)


def test_two_processes_stop_together(tmp_path: Path):
    # the NaN is in one process's part of the batch; SIGTERM comes to one of them
    for process in _pair(tmp_path / "broken", data={"broken": 13}):
        process.join(300)
        assert process.exitcode == 1
    assert "GuardStop: update " in (tmp_path / "broken-0.log").read_text()
    assert "GuardStop: update " in (tmp_path / "broken-1.log").read_text()
    pair = _pair(tmp_path / "unread", data={"unreadable": (5, 13)}, max_quarantined=0.05)
    for process in pair:
        process.join(300)
        assert process.exitcode == 1
    for rank in (0, 1):
        assert "GuardStop: 2 of 24 samples" in (tmp_path / f"unread-{rank}.log").read_text()
    pair = _pair(tmp_path / "stopped", steps=200, **SLOW)
    _wait_for_rows(tmp_path / "stopped", more=3)
    os.kill(pair[1].pid or 0, signal.SIGTERM)
    for process in pair:
        process.join(300)
        assert process.exitcode == 1
    for rank in (0, 1):
        assert "Interrupted: terminated" in (tmp_path / f"stopped-{rank}.log").read_text()


def test_a_sample_that_two_processes_cannot_read_counts_once(tmp_path: Path):
    out = tmp_path / "out"
    finish(*_pair(out, data={"unreadable": (5,)}, max_quarantined=0.05, steps=30))
    assert len(list(out.glob("quarantine*.jsonl"))) == 2  # both met it
    assert quarantined(out) == ["planes/005.png"] * 2
    assert (out / "summary.json").is_file()


def _pair(out: Path, **fields: Any) -> list[BaseProcess]:
    """Two processes as torchrun starts them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    return [
        start(out, environment={**shared, "RANK": rank, "LOCAL_RANK": rank}, **fields)
        for rank in ("0", "1")
    ]


@pytest.mark.slow
def test_torchrun_starts_two_processes_that_meet(tmp_path: Path):
    script = str(ROOT / "tests" / "training.py")
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", script]
    subprocess.run([*command, str(tmp_path)], check=True, cwd=ROOT)
    last = checkpoint.latest(tmp_path / "checkpoints")
    assert last is not None
    assert len(checkpoint.load(last).random) == 2


def test_processes_that_do_not_see_each_other_are_refused(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match=r"2 processes were launched but Accelerate sees 1"):
        job().run(tmp_path)


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


def test_a_batch_must_split_over_the_processes(tmp_path: Path, monkeypatch):
    monkeypatch.setattr("accelerate.Accelerator.num_processes", property(lambda self: 3))
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(ValueError, match=r"batch_size=4 .* accumulate=1 times 3 processes"):
        job().run(tmp_path)


def test_activations_cannot_be_checkpointed_everywhere(tmp_path: Path):
    with pytest.raises(ValueError, match="Student cannot checkpoint its activations"):
        job(activation_checkpointing=True).run(tmp_path)
