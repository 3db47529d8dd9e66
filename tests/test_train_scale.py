"""Processes that hold pieces: they learn what whole ones learn, and any number of them goes on."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from launched import LAST, launch, reload, train, train_and_break, train_fields, train_in_parts
from runs import finish, rows
from torch import Tensor

from distill import checkpoint, parts

# the loss ignores them: their gradients are rounding, of which Adam makes whole steps
SHORT: dict[str, Any] = {"max_grad_norm": 0.5, "steps": 1, "validation": None}
UNFELT = ("key.bias", "head.conv3.bias")


def state(out: Path, step: int = LAST) -> dict[str, Tensor]:
    """All tensors of a checkpoint."""
    found = checkpoint.load(out / "checkpoints" / f"step-{step:09d}")
    kinds = {"model": found.model, "average": found.average or {}, "optimizer": found.optimizer}
    return {f"{kind}/{n}": t for kind, tensors in kinds.items() for n, t in tensors.items()}


def differing(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> list[str]:
    assert ours.keys() == theirs.keys()
    return [name for name in ours if not torch.equal(ours[name], theirs[name])]


def apart(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> float:
    """Distance between the weights that the loss feels."""
    assert ours.keys() == theirs.keys()
    felt = [n for n in ours if n.startswith("model/") and not n.endswith(UNFELT)]
    return float(torch.cat([(ours[n] - theirs[n]).double().flatten() for n in felt]).norm())


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run by one process, by two, and by two that hold pieces."""
    folder = tmp_path_factory.mktemp("runs")
    for name, count, fsdp in (("one", 1, False), ("ddp", 2, False), ("fsdp", 2, True)):
        finish(*launch(count, train, folder / name, fsdp=fsdp))
    return folder


def test_in_pieces_two_processes_learn_the_same_to_the_last_bit(runs: Path):
    # Derived bound: 0. Each process computes the same share from the same weights, in the same
    # order (`launched.in_one_order`); the exchange adds two numbers, which has one result whatever
    # the order, and halves it, which is exact; the optimizer (`Steady`) and the average then work
    # on each number alone. Only the gradient's norm, which is reported, is summed in another
    # order: by blocks, so that it is off by some eps times the logarithm of how many there are.
    ours, theirs = state(runs / "fsdp"), state(runs / "ddp")
    assert differing(ours, theirs) == []
    assert any(name.startswith("average/") for name in ours)
    for mine, other in zip(rows(runs / "fsdp"), rows(runs / "ddp"), strict=True):
        norms = mine.pop("grad_norm", 0.0), other.pop("grad_norm", 0.0)
        assert norms[0] == pytest.approx(norms[1], rel=1e-5)
        assert mine == other


def test_each_process_writes_its_half(runs: Path):
    saved = runs / "fsdp" / "checkpoints" / f"step-{LAST:09d}"
    names = sorted(path.name for path in saved.iterdir())
    suffixes = dict.fromkeys(("average", "model", "optimizer"), "safetensors") | {"random": "pt"}
    written = [parts.file_name(k, part, 2, s) for k, s in suffixes.items() for part in (0, 1)]
    assert names == sorted([*written, "state.json"])
    sizes = [p.stat().st_size for p in sorted(saved.glob("optimizer-*"))]
    whole = runs / "ddp" / "checkpoints" / saved.name / "optimizer-00001-of-00002.safetensors"
    assert sum(sizes) == pytest.approx(whole.stat().st_size, rel=0.05)
    assert max(sizes) < 0.6 * sum(sizes), "the processes hold unequal pieces"


@pytest.mark.parametrize(("count", "fsdp"), [(1, False), (2, False), (3, True)])
def test_any_number_of_processes_has_the_same_after_loading(
    tmp_path: Path, runs: Path, count: int, fsdp: bool
):
    """Bit for bit, and with equal scores on seven images, a number that none but one divides."""
    saved = runs / "fsdp" / "checkpoints" / f"step-{LAST:09d}"
    out = tmp_path / "checkpoints"
    finish(*launch(count, reload, saved, out, fsdp=fsdp))
    assert differing(state(tmp_path), state(runs / "fsdp")) == []
    last = rows(runs / "fsdp")[-1]
    for rank in range(count):
        numbers = json.loads((out / f"numbers-{rank}.json").read_text())
        assert {f"val/{name}": value for name, value in numbers.items()} == {
            name: value for name, value in last.items() if name.startswith("val/")
        }


@pytest.mark.parametrize(
    ("count", "fsdp"),
    [
        pytest.param(1, False, marks=pytest.mark.slow),
        (2, True),
        pytest.param(3, True, marks=pytest.mark.slow),
    ],
)
def test_any_number_of_processes_goes_on(tmp_path: Path, runs: Path, count: int, fsdp: bool):
    half = f"checkpoints/step-{LAST // 2:09d}"
    shutil.copytree(runs / "fsdp" / half, tmp_path / half)
    finish(*launch(count, train, tmp_path, True, fsdp=fsdp))
    gone_on, whole = state(tmp_path), state(runs / "fsdp")
    if count == 2:
        assert differing(gone_on, whole) == []
        return
    # Another number of processes adds the same shares in another order. What that can do shows in
    # two such orders that were never interrupted; this one differs for half of the steps only.
    spread = apart(state(runs / "one"), whole)
    assert 0 < spread < 0.02 * apart(state(runs / "fsdp", LAST // 2), whole), "it says too little"
    assert apart(gone_on, whole) <= spread


@pytest.mark.parametrize("how", ["dies", "cannot"])
def test_who_dies_while_writing_leaves_the_older_checkpoint(tmp_path: Path, runs: Path, how: str):
    folder = tmp_path / "checkpoints"
    older = folder / f"step-{LAST // 2:09d}"
    shutil.copytree(runs / "fsdp" / "checkpoints" / older.name, older)
    for process in launch(2, train_and_break, tmp_path, how, fsdp=True):
        process.join(300)
        assert process.exitcode != 0
    assert checkpoint.latest(folder) == older
    if how == "cannot":
        assert list(folder.iterdir()) == [older]  # both heard of it and the first one cleaned up
        return
    (folder / ".step-000000020.tmp-7").mkdir()
    finish(*launch(2, train, tmp_path, True, fsdp=True))
    assert differing(state(tmp_path), state(runs / "fsdp")) == []
    assert sorted(path.name for path in folder.iterdir()) == [older.name, f"step-{LAST:09d}"]


def test_a_gradient_in_pieces_is_shortened_to_the_norm_asked_for(tmp_path: Path, runs: Path):
    finish(*launch(2, train_fields, tmp_path, SHORT, fsdp=True))
    norm, expected = (
        next(row["grad_norm"] for row in rows(out) if "grad_norm" in row)
        for out in (tmp_path, runs / "one")
    )
    assert norm == pytest.approx(expected, rel=1e-5)
    assert norm > 0.5
    moments = [m for name, m in state(tmp_path, 1).items() if name.endswith(".exp_avg")]
    applied = torch.cat([moment.double().flatten() for moment in moments]) / 0.1  # 1 - beta
    assert float(applied.norm()) == pytest.approx(0.5, rel=1e-5)


def test_a_batch_in_parts_on_processes_is_the_same_update(tmp_path: Path):
    """Every fifth sample is too sparse to count, so no two parts hold equally many that do."""
    for count in (1, 2, 3):
        finish(*launch(count, train_in_parts, tmp_path))
    ways = [(count, parts) for count in (1, 2, 3) for parts in (1, 2, 3)]
    outs = {way: tmp_path / "{}-{}".format(*way) for way in ways}
    whole = rows(outs[1, 1])
    for way, out in outs.items():
        first, *later = rows(out)
        # of equal weights: sums of 36 shares in another order are off by less than 36 eps
        assert first == pytest.approx(whole[0], rel=36 * torch.finfo().eps, abs=1e-7), way
        for ours, theirs in zip(later, whole[1:], strict=True):
            assert ours == pytest.approx(theirs, rel=1e-4), way
        for name, value in state(outs[1, 1], 3).items():
            if name.startswith("model/"):  # to a thousandth of the way that three steps can go
                torch.testing.assert_close(state(out, 3)[name], value, rtol=0, atol=3e-5)
