"""One process of a run: its share of an update, and weights that lie in pieces."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, distributed
from torch.distributed.tensor import DTensor
from training import Student, planes, supervised

from distill import checkpoint
from distill.engine import Engine, accelerator
from distill.models.blocks import checkpoint_activations
from distill.models.depth_anything import depth_anything
from distill.objectives.supervised import Supervised
from distill.objectives.terms import Term
from distill.optim import Muon, adamw, set_rates
from distill.types import Batch, Space


def engine(
    made: Any = None, *, width: int = 8, ema: float | None = None, optimizer: Any = adamw
) -> Engine:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # noqa: TID251 - the fork ends with the block
        objective = supervised(width=width, dropout=0.0)
    made = accelerator("fp32") if made is None else made
    built = Engine(made, objective, optimizer, ema=ema)
    set_rates(built.optimizer, {"encoder": 0.01, "head": 0.01})
    return built


def update(of: Engine, *, broken: bool = False) -> float:
    batch = of.place(next(planes(data={}, batch_size=4, seed=of.step)))
    if broken:
        batch["image"][0] = torch.nan
    terms = of.objective(batch, of.totals([batch]))
    of.backward(terms["loss"])
    of.watch.put(of.step, {"loss": terms["loss"], "grad_norm": of.clip(1.0)}, [batch])
    of.apply()
    of.watch._pending = None
    return float(terms["loss"].detach())


def weights(of: Engine) -> dict[str, torch.Tensor]:
    with of.looking() as student:
        return {name: value.clone() for name, value in student.state_dict().items()}


def saved(of: Engine, folder: Path) -> checkpoint.State:
    of.save(folder, samples=0, job={}, keep=1)
    path = checkpoint.latest(folder)
    assert path is not None
    return checkpoint.load(path)


def test_weights_of_another_model_are_refused(tmp_path: Path):
    made = engine()
    update(made)
    state = saved(made, tmp_path)
    with pytest.raises(ValueError, match="weights are of another model"):
        engine(ema=0.9).restore(state)
    fewer = {name: value for name, value in state.model.items() if "head" not in name}
    with pytest.raises(ValueError, match="weights are of another model"):
        engine().restore(replace(state, model=fewer))
    with pytest.raises(ValueError, match=r"encoder.weight is stored as \[8, .*\[12, "):
        engine(width=12).restore(state)
    moments = {"student.neck.exp_avg": torch.zeros(3)}
    with pytest.raises(ValueError, match=r"optimizer trained student\.neck, this one does not"):
        engine().restore(replace(state, optimizer=moments))


def test_looking_leaves_mode_and_generators_alone():
    made = engine()
    before = torch.random.get_rng_state()
    with made.looking() as student:
        assert not student.training
        assert not torch.is_grad_enabled()
        torch.rand(3)
    assert made.objective.student.training
    assert torch.equal(torch.random.get_rng_state(), before)


def test_activations_cannot_be_checkpointed_everywhere():
    with pytest.raises(ValueError, match="Student cannot checkpoint its activations"):
        checkpoint_activations(Student())


@pytest.fixture
def gloo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """A process that is alone in its group."""
    distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1
    )
    yield monkeypatch
    distributed.destroy_process_group()


def in_pieces(gloo: pytest.MonkeyPatch, **fields: Any) -> Engine:
    """An engine that was launched with FSDP."""
    with gloo.context() as launched:
        launched.setenv("ACCELERATE_USE_FSDP", "true")
        return engine(**fields)


def test_in_pieces_it_trains_saves_resumes_and_exports_the_same(tmp_path: Path, gloo: Any):
    whole, pieces = engine(ema=0.5), in_pieces(gloo, ema=0.5)
    assert all(isinstance(p, DTensor) for p in pieces.objective.parameters())
    for _ in range(3):
        assert update(pieces) == pytest.approx(update(whole), rel=1e-5)
    torch.testing.assert_close(weights(pieces), weights(whole))

    resumed = in_pieces(gloo, ema=0.5)
    resumed.restore(saved(pieces, tmp_path))
    assert resumed.step == 3
    for made in (resumed, pieces, whole):
        update(made)
    torch.testing.assert_close(weights(resumed), weights(pieces), rtol=0, atol=0)
    torch.testing.assert_close(weights(resumed), weights(whole))

    resumed.export(tmp_path / "model")
    assert (tmp_path / "model" / "model.safetensors").is_file()
    before = weights(resumed)
    update(resumed, broken=True)
    torch.testing.assert_close(weights(resumed), before, rtol=0, atol=0)


def test_depth_anything_trains_in_pieces_and_bf16_as_whole(gloo: Any):
    draw = torch.Generator().manual_seed(0)
    batch: Batch = {
        "key": ["a", "b"],
        "image": torch.rand(2, 3, 56, 56, generator=draw),
        "target": torch.rand(2, 56, 56, generator=draw),
        "valid": torch.ones(2, 56, 56, dtype=torch.bool),
        "space": [Space.AFFINE_DISPARITY] * 2,
    }
    norms = []
    for fsdp in ("false", "true"):
        gloo.setenv("ACCELERATE_USE_FSDP", fsdp)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)  # noqa: TID251 - the fork ends with the block
            objective = Supervised(partial(depth_anything, "tiny"), [Term("l1", 1.0, mean_error)])
        built = Engine(accelerator("bf16"), objective, adamw, ema=None)
        seen = built.objective(batch)
        built.backward(seen["loss"])
        norms.append(torch.stack([seen["loss"].detach(), built.clip(None)]))
    torch.testing.assert_close(norms[1], norms[0], rtol=1e-5, atol=0)


def mean_error(pred: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    assert pred.dtype == target.dtype == torch.float32
    return torch.where(valid, (pred - target).abs(), 0).flatten(1).mean(1)


def test_muon_in_pieces_is_refused(gloo: Any):
    layer = torch.nn.Linear(2, 2)
    with pytest.raises(ValueError, match=r"Muon needs whole matrices.* use optim\.adamw"):
        in_pieces(gloo, optimizer=lambda _: Muon({"head": [*layer.parameters()]}))
