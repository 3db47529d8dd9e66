"""What an update that was held back leaves: samples, numbers and a picture, and a run to resume."""

import json
import os
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from runs import rows, state, trained, wait_for_rows
from safetensors.torch import load_file
from training import job, planes, start, supervised_by_size

from distill import checkpoint
from distill.job import GuardStop
from distill.limits import FIRST
from distill.optim import adamw


@pytest.fixture(autouse=True, scope="module")
def no_waiting_for_the_disk() -> Iterator[None]:
    """Only a machine that loses power needs it; disks may be busy."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _descriptor: None)
        yield


def stop(out: Path, **fields: Any) -> str:
    with pytest.raises(GuardStop) as caught:
        job(**fields).run(out)
    return str(caught.value)


def step_of(out: Path) -> tuple[int, Path]:
    (folder,) = (out / "stopped").iterdir()
    return int(folder.name.removeprefix("step-")), folder


@pytest.mark.parametrize("accumulate", [1, 2])
def test_an_update_that_is_not_finite_leaves_its_samples(tmp_path: Path, accumulate: int):
    said = stop(tmp_path, data={"broken": 13}, accumulate=accumulate, batch_size=8)
    step, folder = step_of(tmp_path)
    assert f"update {step} is not finite" in said
    assert f"{folder} holds them" in said
    assert len(list(folder.glob("*.safetensors"))) == accumulate
    size = 8 // accumulate
    drawn = planes(data={"broken": 13}, batch_size=size, seed=0, start=8 * step)
    found, told = {}, {}
    for number in range(accumulate):
        batch: Any = next(drawn)
        path = folder / f"00000-{number:02d}"
        maps = load_file(path.with_suffix(".safetensors"))
        for name in ("image", "target", "valid"):
            torch.testing.assert_close(maps[name], batch[name], equal_nan=True, rtol=0, atol=0)
        told = json.loads(path.with_suffix(".json").read_text(), parse_constant=pytest.fail)
        assert (told["step"], told["seed"]) == (step, batch["seed"])
        assert list(told["samples"]) == batch["key"]
        assert told["numbers"]["loss"] == "nan"
        found |= told["samples"]
        picture = np.asarray(Image.open(path.with_suffix(".png")))
        assert picture.shape == (16 * size, 2 * 16, 3)
    assert found.pop("planes/013.png") == "nan"
    assert all(isinstance(loss, float) for loss in found.values())
    assert told["gradients"]["encoder"]["not_finite"] == [
        "student.encoder.weight",
        "student.encoder.bias",
    ]
    # mended, the run goes on
    job(accumulate=accumulate, batch_size=8).run(tmp_path, resume=True)
    assert (tmp_path / "summary.json").is_file()


# --- a spike ---

AT = 60  # the update that has the sample


def surprised(**fields: Any) -> dict[str, Any]:
    """The fields of a run in whose update `AT`, and in none before, one sample is far too near."""
    drawn = planes(data={"length": 400}, batch_size=4, seed=0, start=4 * AT)
    numbers = [int(key.removeprefix("planes/").removesuffix(".png")) for key in next(drawn)["key"]]
    near = next(number for number in numbers if number % 5 != 4)  # those are too sparse to count
    data = {"length": 400, "near": near, "slow": 0.01}
    return {
        "objective": supervised_by_size,
        "data": data,
        "steps": 80,
        "validate_every": 80,
        **fields,
    }


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    out = tmp_path_factory.mktemp("stopped")
    return out, stop(out, **surprised())


def test_a_spike_stops_before_it_is_applied(tmp_path: Path, stopped: tuple[Path, str]):
    out, said = stopped
    assert f"update {AT} was not applied: its loss is " in said
    assert "times the median of the 60 before it" in said
    step, folder = step_of(out)
    assert step == AT
    told = json.loads((folder / "00000-00.json").read_text())
    worst = max(told["samples"], key=lambda key: told["samples"][key])
    assert worst == f"planes/{surprised()['data']['near']:03d}.png"
    assert told["samples"][worst] > 100
    assert not told["gradients"]["encoder"]["not_finite"]
    assert told["gradients"]["encoder"]["norm"] == pytest.approx(
        told["numbers"]["grad_norm"], rel=2
    )
    # with a checkpoint of the update before it, the weights there are those that it left
    kept, clean = tmp_path / "kept", tmp_path / "clean"
    stop(kept, **surprised(checkpoint_every=1))
    job(**surprised(checkpoint_every=1, steps=80, keep_checkpoints=99, spike=None)).run(clean)
    assert checkpoint.latest(kept / "checkpoints") == kept / "checkpoints" / f"step-{AT:09d}"
    for name, value in trained(clean, AT).items():
        assert torch.equal(trained(kept, AT)[name], value), name


def test_killed_and_resumed_it_stops_at_the_same_update(tmp_path: Path, stopped: tuple[Path, str]):
    whole, said = stopped
    out = tmp_path / "run"
    process = start(out, **surprised())
    wait_for_rows(out, more=FIRST + 3)
    process.kill()
    process.join()
    last = checkpoint.latest(out / "checkpoints")
    assert last is not None
    assert checkpoint.load(last).step in {50, 55}, "killed too early or too late"
    with pytest.raises(GuardStop) as caught:
        job(**surprised()).run(out, resume=True)
    assert str(caught.value) == said.replace(str(whole), str(out))
    assert rows(out) == rows(whole)
    ours, theirs = state(out), state(whole)
    del ours["random"], theirs["random"]  # beartype, which checks the tests, draws from Python's
    assert ours == theirs
    for path in (whole / "stopped").rglob("*.*"):
        assert (out / path.relative_to(whole)).read_bytes() == path.read_bytes(), path.name


def test_who_wants_it_takes_the_spike(tmp_path: Path, stopped: tuple[Path, str]):
    out = tmp_path / "run"
    shutil.copytree(stopped[0], out)
    job(**surprised(spike=None)).run(out, resume=True)
    assert [row["step"] for row in rows(out) if "loss" in row] == list(range(1, 81))


def test_an_output_that_grows_without_bound_is_stopped(tmp_path: Path):
    """The loss leaves the scale free: rates far too high for the head make it run away."""
    fields: dict[str, Any] = {"steps": 350, "log_every": 50, "validate_every": 350, "spike": None}
    fields["optimizer"] = partial(adamw, weight_decay=0.0)
    said = stop(tmp_path, lr=running_away, checkpoint_every=350, **fields)
    assert "the output is too large in 100 updates" in said
    found = [row for row in rows(tmp_path) if "drift" in row]
    assert found[0]["drift"] == 0
    assert found[-1]["drift"] > 100
    assert not (tmp_path / "stopped").exists(), "no sample is to blame"


def running_away(step: int, steps: int) -> dict[str, float]:
    return {"encoder": 0.0, "head": 0.1 * 1.15**step}
