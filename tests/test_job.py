"""The record a run leaves, the seed it starts from, one process per folder."""

import dataclasses
import json
import random
import signal
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from distill import job
from distill.types import Space


@dataclasses.dataclass(frozen=True, kw_only=True)
class Nothing:
    steps: int = 3
    build: partial = dataclasses.field(default_factory=lambda: partial(int, "7", base=8))

    def run(self, out: Path, *, resume: bool = False) -> None: ...


def test_run_json_keeps_every_start(tmp_path: Path):
    for steps in (3, 4):
        nothing = Nothing(steps=steps)
        job.write_run_json(tmp_path, nothing, recipe="a:b", inputs={"data": Path("d")})
    starts = json.loads((tmp_path / "run.json").read_text())["starts"]
    assert [start["job"]["steps"] for start in starts] == [3, 4]
    assert starts[0]["inputs"] == {"data": "d"}
    assert starts[0]["versions"]["torch"] == torch.__version__.split("+")[0]


def test_describe_is_plain_json():
    value = {"job": Nothing(), "space": Space.ORDINAL, "f": job.describe, "many": (1, None, 0.5)}
    plain = job.describe(value)
    assert json.loads(json.dumps(plain)) == plain
    assert plain["job"]["build"] == {"call": "builtins:int", "args": ["7"], "base": 8}
    assert plain["f"] == "distill.job:describe"


def test_seed_everything_repeats():
    draws = []
    for _ in range(2):
        job.seed_everything(5)
        draws.append((random.random(), np.random.rand(), torch.rand(2).tolist()))  # noqa: NPY002
    assert draws[0] == draws[1]


def test_a_second_process_is_refused(tmp_path: Path):
    with (
        job.exclusive(tmp_path),
        pytest.raises(ValueError, match="another process"),
        job.exclusive(tmp_path),
    ):
        pass
    with job.exclusive(tmp_path):
        pass


def test_partial_failure_names_every_input():
    failure = job.PartialFailure({"a.jpg": "truncated", "b.jpg": "empty"})
    assert "a.jpg: truncated" in str(failure)
    assert "b.jpg: empty" in str(failure)


def test_sigterm_is_noted_and_given_back():
    before = signal.getsignal(signal.SIGTERM)
    with job.terminated() as event:
        assert not event.is_set()
        signal.raise_signal(signal.SIGTERM)
        assert event.is_set()
    assert signal.getsignal(signal.SIGTERM) is before
