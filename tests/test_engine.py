"""One process of a run: its share of an update, and weights that lie in pieces."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from torch import Tensor, distributed
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor
from training import Student, planes, supervised

from distill import checkpoint
from distill.engine import Engine, accelerator, checkpoint_activations, sharding
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
    state = saved(engine(), tmp_path)
    with pytest.raises(ValueError, match="weights are of another model"):
        engine(ema=0.9).restore(state)
    del state.model["student.head.weight"]
    with pytest.raises(ValueError, match="weights are of another model"):
        engine().restore(state)


def test_looking_leaves_mode_and_generators_alone():
    made = engine()
    before = torch.random.get_rng_state()
    with made.looking() as student:
        assert not student.training
        assert not torch.is_grad_enabled()
        torch.rand(3)
    assert student.training
    assert torch.equal(torch.random.get_rng_state(), before)


def test_activations_cannot_be_checkpointed_everywhere():
    with pytest.raises(ValueError, match="Student cannot checkpoint its activations"):
        checkpoint_activations(Student())


class InPieces(Accelerator):
    """Accelerate's FSDP2 on a CPU, where it would wrap in DDP without a word.

    Shards, casts and exchanges the optimizer's parameters as `Accelerator.prepare` does; the rest
    is Accelerate's.
    """

    @property
    def distributed_type(self) -> DistributedType:
        return DistributedType.FSDP

    def prepare(self, *args: Any, device_placement: Any = None) -> tuple[Any, Any]:
        objective, optimizer = args
        names = {parameter: name for name, parameter in objective.named_parameters()}
        plugin = sharding()
        plugin.set_mixed_precision(self.mixed_precision if self.native_amp else "fp32")
        policy = plugin.mixed_precision_policy
        assert isinstance(policy, MixedPrecisionPolicy)
        fully_shard(objective, mesh=init_device_mesh("cpu", (1,)), mp_policy=policy)
        if self.native_amp:
            objective.forward = torch.autocast("cpu", torch.bfloat16)(objective.forward)
        pieces = dict(objective.named_parameters())
        for group in optimizer.param_groups:
            group["params"] = [pieces[names[parameter]] for parameter in group["params"]]
        return objective, optimizer


@pytest.fixture
def gloo(tmp_path: Path) -> Iterator[None]:
    distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1
    )
    yield
    distributed.destroy_process_group()


@pytest.mark.usefixtures("gloo")
def test_in_pieces_it_trains_saves_resumes_and_exports_the_same(tmp_path: Path):
    whole, pieces = engine(), engine(InPieces(cpu=True))
    assert all(isinstance(p, DTensor) for p in pieces.objective.parameters())
    for _ in range(3):
        assert update(pieces) == pytest.approx(update(whole), rel=1e-5)
    torch.testing.assert_close(weights(pieces), weights(whole))

    resumed = engine(InPieces(cpu=True))
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


@pytest.mark.usefixtures("gloo")
def test_depth_anything_trains_in_pieces_and_bf16_as_whole():
    draw = torch.Generator().manual_seed(0)
    batch: Batch = {
        "key": ["a", "b"],
        "image": torch.rand(2, 3, 56, 56, generator=draw),
        "target": torch.rand(2, 56, 56, generator=draw),
        "valid": torch.ones(2, 56, 56, dtype=torch.bool),
        "space": [Space.AFFINE_DISPARITY] * 2,
    }
    norms = []
    for made in (accelerator("bf16"), InPieces(cpu=True, mixed_precision="bf16")):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)  # noqa: TID251 - the fork ends with the block
            objective = Supervised(partial(depth_anything, "tiny"), [Term("l1", 1.0, mean_error)])
        built = Engine(made, objective, adamw, ema=None)
        seen = built.objective(batch)
        built.backward(seen["loss"])
        norms.append(torch.stack([seen["loss"].detach(), built.clip(None)]))
    torch.testing.assert_close(norms[1], norms[0], rtol=1e-5, atol=0)


def mean_error(pred: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    assert pred.dtype == target.dtype == torch.float32
    return torch.where(valid, (pred - target).abs(), 0).flatten(1).mean(1)


@pytest.mark.usefixtures("gloo")
def test_an_average_in_pieces_is_refused():
    with pytest.raises(ValueError, match="does not work with FSDP yet"):
        engine(InPieces(cpu=True), ema=0.9)


@pytest.mark.usefixtures("gloo")
def test_muon_in_pieces_is_refused():
    layer = torch.nn.Linear(2, 2)
    with pytest.raises(ValueError, match=r"Muon needs whole matrices.* use optim\.adamw"):
        engine(InPieces(cpu=True), optimizer=lambda _: Muon({"head": [*layer.parameters()]}))
