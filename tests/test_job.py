"""The record a run leaves, the seed it starts from, one process per folder."""

import dataclasses
import json
import os
import random
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

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


def starts(out: Path) -> list[dict[str, Any]]:
    path = out / "run.json"
    return json.loads(path.read_text())["starts"] if path.is_file() else []


def work(out: Path, steps: int, **files: str) -> None:
    """A recorded start that leaves `files`; `error` is what it ends with."""
    with job.recorded(out, Nothing(steps=steps), recipe="a:b", inputs={"data": Path("d")}):
        assert starts(out)[-1]["job"]["steps"] == steps  # there while it runs, be it killed
        error = files.pop("error", None)
        for name, text in files.items():
            (out / name.replace("_", ".")).write_text(text)
        if error:
            raise ValueError(error)
        with job.exclusive(out):  # a lock is no result
            pass


def steps_of(out: Path) -> list[int]:
    return [start["job"]["steps"] for start in starts(out)]


def test_run_json_keeps_every_start_that_worked(tmp_path: Path):
    work(tmp_path / "out", 3, weights_bin="1")
    work(tmp_path / "out", 4, weights_bin="2")  # as many bytes
    assert steps_of(tmp_path / "out") == [3, 4]
    first = starts(tmp_path / "out")[0]
    assert (first["recipe"], first["inputs"]) == ("a:b", {"data": "d"})
    assert first["versions"]["torch"] == torch.__version__.split("+")[0]


def test_run_json_keeps_a_start_that_failed_at_work(tmp_path: Path):
    with pytest.raises(ValueError, match="sample 7"):
        work(tmp_path, 3, metrics_jsonl="{}", error="sample 7")
    assert steps_of(tmp_path) == [3]


def test_a_start_that_leaves_the_folder_as_it_was_is_taken_back(tmp_path: Path):
    with pytest.raises(ValueError, match="no data"):
        work(tmp_path, 1, error="no data")
    assert not (tmp_path / "run.json").exists()
    work(tmp_path, 3, summary_json="1")
    before = (tmp_path / "run.json").read_bytes()
    with pytest.raises(ValueError, match="holds a run"):
        work(tmp_path, 9, error="holds a run")
    work(tmp_path, 9)  # finished, nothing left to do
    work(tmp_path, 9, summary_json="1")  # written again as it was
    assert (tmp_path / "run.json").read_bytes() == before
    work(tmp_path, 9, summary_json="2")
    assert steps_of(tmp_path) == [3, 9]


def test_a_start_on_a_folder_in_use_is_taken_back_and_no_other(tmp_path: Path):
    with job.recorded(tmp_path, Nothing(steps=3)), job.exclusive(tmp_path):
        with pytest.raises(job.Occupied, match="another process"):
            work(tmp_path, 9, metrics_jsonl="of the other process, meanwhile")
        assert steps_of(tmp_path) == [3]
    assert steps_of(tmp_path) == [3]


def test_a_file_that_goes_while_the_folder_is_looked_at_is_no_error(tmp_path: Path, monkeypatch):
    (tmp_path / "gone.json").symlink_to(tmp_path / "nowhere")
    monkeypatch.setattr(Path, "is_file", lambda path: path.name == "gone.json")
    assert job._contents(tmp_path) == {}


def test_only_the_first_process_records(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    with job.recorded(tmp_path / "out", Nothing()):
        pass
    assert not (tmp_path / "out").exists()


def test_describe_is_plain_json():
    value = {"job": Nothing(), "space": Space.ORDINAL, "f": job.describe, "many": (1, None, 0.5)}
    plain = job.describe(value)
    assert json.loads(json.dumps(plain)) == plain
    assert plain["job"]["build"] == {"call": "builtins:int", "args": ["7"], "base": 8}
    assert plain["f"] == "distill.job:describe"


def test_a_method_is_described_with_whose_it_is():
    one, two = (job.describe(Path(name).open) for name in ("a", "b"))
    assert one == {"call": "pathlib:Path.open", "of": "a"}
    assert two["of"] == "b"


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


_MEETING = """
import atexit, torch.distributed as meeting
atexit.register(lambda: print(meeting.is_initialized()))  # the last to run
import distill.job
meeting.init_process_group("gloo", store=meeting.HashStore(), rank=0, world_size=1)
print(meeting.is_initialized())
"""


def test_processes_part_before_the_interpreter_goes():
    said = subprocess.run([sys.executable, "-c", _MEETING], stdout=subprocess.PIPE, check=True)
    assert said.stdout.split() == [b"True", b"False"]


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


def test_processes_share_the_cores(monkeypatch):
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(16)))
    assert job.cores() == 16
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    assert job.cores() == 5
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "64")
    assert job.cores() == 1
