"""A job of 128 processes, tried as three of them: what each would hold and draw."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from training import job

from distill.cli import main
from distill.models.depth_anything import depth_anything
from distill.objectives.supervised import Supervised
from distill.objectives.terms import Term
from distill.plan.rehearsal import rehearse
from distill.train import TrainJob
from recipes import labels

CLUSTERS = Path(__file__).parents[2] / "recipes" / "clusters"
FSDP = CLUSTERS / "teacher_vitg_4x8.yaml"


def small(**fields) -> TrainJob:
    """A real network of 1/1000 the size."""
    term = Term("l1", 1.0, lambda *_: torch.zeros(()))
    objective = partial(Supervised, partial(depth_anything, "tiny"), [term])
    return replace(job(batch_size=24), objective=objective, **fields)


def test_vitg_on_128_processes(capsys):
    """The published 1.26 B parameters in 128 pieces of fp32, with two moments of each."""
    recipe = ["rehearse", "recipes.teacher:vitg", "--launch", str(FSDP), "--ranks", "128"]
    assert main([*recipe, "--set", "batch_size=128", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [part["rank"] for part in found["parts"]] == [0, 64, 127]
    assert [part["samples"] for part in found["parts"]] == [[[0]], [[64]], [[127]]]
    even = 4 * found["parameters"] / 128
    assert 1.25e9 < found["parameters"] < 1.27e9
    for part in found["parts"]:  # tensors of fewer rows than processes lie on the first ones
        assert part["weights"] == pytest.approx(even, rel=0.25)
        assert part["moments"] == pytest.approx(2 * part["weights"], rel=1e-3)
    assert found["rates"]["encoder"][0] == 5e-6

    assert main(recipe) == 2  # 64 images for 128 processes
    assert "batch_size=64 must be a multiple of accumulate=1 times 128" in capsys.readouterr().err


@pytest.mark.parametrize("ranks", [1, 3, 8])
def test_the_pieces_of_all_processes_are_the_whole(ranks: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("distill.plan.rehearsal._shown", range)
    made = small(accumulate=1 if ranks == 8 else 2)
    found = rehearse(made, ranks=ranks, launch=FSDP, reads_data=True)
    real = depth_anything("tiny")
    trained = sum(p.numel() for p in real.parameters() if p.requires_grad)
    assert found.parameters == trained
    assert sum(part.weights for part in found.parts) == 4 * trained
    numbers = sorted(n for part in found.parts for batch in part.samples for n in batch)
    assert numbers == list(range(24))
    assert "planes/" in found.text


def test_whole_on_each_process_without_a_launch_file():
    found = rehearse(small(), ranks=3, launch=None, reads_data=False)
    assert [part.weights for part in found.parts] == [4 * found.parameters] * 3
    assert "3 (DDP)" in found.text


def test_what_cannot_start():
    with pytest.raises(ValueError, match="accumulate=5 times 8 processes"):
        rehearse(small(batch_size=25, accumulate=5), ranks=8, launch=None, reads_data=False)
    with pytest.raises(ValueError, match="LabelJob does not train"):
        rehearse(labels.plain(), ranks=8, launch=None, reads_data=False)
    with pytest.raises(ValueError, match=r"names \['Dinov2Layer'\], which Supervised has none of"):
        rehearse(job(batch_size=8), ranks=8, launch=FSDP, reads_data=False)
    with pytest.raises(FileNotFoundError, match="no launch file"):
        rehearse(small(), ranks=8, launch=Path("none.yaml"), reads_data=False)


@pytest.mark.parametrize("launch", [None, FSDP])
def test_frozen_helpers_lie_whole_on_each_process(
    launch: Path | None, capsys: pytest.CaptureFixture[str], tmp_path: Path
):
    """An encoder to align features with; teachers of a folder."""
    spread = ["--launch", str(launch)] if launch else ["--ranks", "32"]
    recipe = ["rehearse", "recipes.student:vits", *spread, "--json"]
    depth_anything("tiny_teacher").save_pretrained(tmp_path / "teacher")
    assert main(recipe) == 0
    encoder = json.loads(capsys.readouterr().out)["parts"]
    assert [part["frozen"] for part in encoder] == pytest.approx([4 * 22e6] * 3, rel=0.05)

    given = [f"teacher={tmp_path / 'teacher'}", "batch_size=32"]
    recipe[1] = "recipes.distill_any_depth:tiny"
    assert main([*recipe, "--set", *given]) == 0
