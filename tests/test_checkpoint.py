"""Checkpoints: complete or absent, everything in them, nothing from another job."""

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from distill import checkpoint
from distill.checkpoint import State, check_same_job


def state(step: int = 3, **changes: Any) -> State:
    fields: dict[str, Any] = {
        "step": step,
        "samples": 4 * step,
        "seconds": 1.5,
        "job": {"steps": 10},
        "model": {"a.weight": torch.arange(6.0).view(2, 3).T, "a.count": torch.tensor(7)},
        "average": None,
        "optimizer": {"a.weight.step": torch.tensor(3.0), "a.weight.exp_avg": torch.ones(2)},
        "groups": [{"name": "a", "lr": 0.1, "betas": (0.9, 0.999)}],
        "random": [checkpoint.random_state()],
    }
    return State(**{**fields, **changes})


def test_what_was_saved_is_loaded(tmp_path: Path):
    saved = state(average={"a.weight": torch.ones(2)})
    path = checkpoint.save(tmp_path, saved, keep=1)
    assert path == checkpoint.latest(tmp_path)
    loaded = checkpoint.load(path)
    for name in ("model", "average", "optimizer"):
        torch.testing.assert_close(dict(getattr(loaded, name)), getattr(saved, name))
    assert loaded.groups == saved.groups
    assert (loaded.step, loaded.samples, loaded.seconds, loaded.job) == (3, 12, 1.5, {"steps": 10})
    assert checkpoint.load(checkpoint.save(tmp_path, state(), keep=1)).average is None


def test_the_first_format_is_read(tmp_path: Path):
    """As one process wrote it, whose optimizer numbers its parameters."""
    weight = torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.AdamW([{"name": "a", "params": [weight]}], lr=0.1)
    weight.grad = torch.tensor([1.0, 2.0])
    optimizer.step()
    save_file({"a.weight": weight.detach()}, tmp_path / "model.safetensors")
    torch.save(optimizer.state_dict(), tmp_path / "optimizer.pt")
    torch.save([checkpoint.random_state()], tmp_path / "random.pt")
    numbers = {"format": 1, "step": 1, "samples": 4, "seconds": 2.5, "job": {}}
    (tmp_path / "state.json").write_text(json.dumps(numbers))
    loaded = checkpoint.load(tmp_path)
    assert torch.equal(loaded.model["a.weight"], weight)
    assert loaded.average is None
    assert {name: value.tolist() for name, value in loaded.optimizer.items()} == {
        "0.step": 1.0,
        "0.exp_avg": pytest.approx([0.1, 0.2]),
        "0.exp_avg_sq": pytest.approx([0.001, 0.004]),
    }
    assert loaded.groups[0]["betas"] == (0.9, 0.999)
    assert "params" not in loaded.groups[0]
    assert len(loaded.random) == 1


def test_generators_go_on_where_they_were(tmp_path: Path):
    def draws() -> list[float]:
        old = np.random.normal()  # noqa: NPY002 - the global state is what is tested
        return [random.gauss(0, 1), old, float(torch.randn(())), float(np.random.rand())]  # noqa: NPY002

    draws()  # the second of a pair of gaussians is kept by Python and by NumPy
    now = checkpoint.random_state()
    expected = draws() + draws()
    path = checkpoint.save(tmp_path, state(random=[now]), keep=1)
    checkpoint.set_random_state(checkpoint.load(path).random[0])
    assert draws() + draws() == expected


def test_the_last_ones_are_kept(tmp_path: Path):
    for step in (9, 10, 100):
        checkpoint.save(tmp_path, state(step), keep=2)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["step-000000010", "step-000000100"]
    assert checkpoint.latest(tmp_path / "none") is None


def test_an_unfinished_checkpoint_is_none(tmp_path: Path, monkeypatch):
    checkpoint.save(tmp_path, state(1), keep=2)

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(OSError, match="disk full"):
        checkpoint.save(tmp_path, state(2), keep=2)
    (tmp_path / ".step-000000003.tmp-77").mkdir()
    found = checkpoint.latest(tmp_path)
    assert found is not None
    assert found.name == "step-000000001"


def test_a_later_format_is_refused(tmp_path: Path):
    path = checkpoint.save(tmp_path, state(), keep=1)
    numbers = json.loads((path / "state.json").read_text())
    (path / "state.json").write_text(json.dumps({**numbers, "format": 99}))
    with pytest.raises(ValueError, match="format 99, this version reads up to 2; update"):
        checkpoint.load(path)


def test_nothing_in_a_checkpoint_is_executed(tmp_path: Path):
    path = checkpoint.save(tmp_path, state(), keep=1)
    torch.save([{"python": Path("x")}], next(path.glob("random-*.pt")))
    with pytest.raises(Exception, match="weights_only"):
        checkpoint.load(path)


def test_every_difference_of_a_job_is_named():
    saved = {"seed": 0, "lr": {"rates": {"head": 0.1}}, "betas": [0.9, 0.999], "workers": 2}
    now = {"seed": 1, "lr": {"rates": {"head": 0.2}}, "betas": (0.9, 0.99), "workers": 4, "ema": 1}
    with pytest.raises(ValueError, match="restore these or choose another --out") as caught:
        check_same_job(saved, now, free={"workers"})
    assert [line.strip() for line in str(caught.value).splitlines()[1:]] == [
        "seed: 0 -> 1",
        "lr.rates.head: 0.1 -> 0.2",
        "betas.1: 0.999 -> 0.99",
        "ema: null -> 1",
    ]
    with pytest.raises(ValueError, match=r"terms: \[1, 2\] -> \[1\]"):
        check_same_job({"terms": [1, 2]}, {"terms": [1]}, free=())


def test_addresses_are_no_difference():
    check_same_job({"a": "<A object at 0x7f01>"}, {"a": "<A object at 0x7f02>"}, free=())
