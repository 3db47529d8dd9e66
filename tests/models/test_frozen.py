"""`models/frozen.py` against transformers' network: the same function, in both number formats."""

from collections.abc import Iterator
from typing import Any, cast

import jaxtyping
import pytest
import torch
from torch import Tensor
from transformers import (
    DepthAnythingConfig,
    DepthAnythingForDepthEstimation,
    Dinov2WithRegistersConfig,
    DPTConfig,
    DPTForDepthEstimation,
)

from distill.job import seed_everything
from distill.models.depth_anything import Architecture, configuration
from distill.models.dinov2 import Encoder
from distill.models.frozen import FrozenDepthAnything, freezable
from distill.models.inference import Inference

SIZES = ((56, 56), (56, 84), (42, 70))  # the first is that of the stored positions


def network(
    *, swiglu: bool = False, max_depth: float | None = None, version: int = 2
) -> DepthAnythingForDepthEstimation:
    """Of weights that are all alive: layer scales and biases drawn, positions and outputs large."""
    architecture = Architecture(
        encoder=Encoder(width=32, depth=5, heads=2, patch=14, image_size=56, swiglu=swiglu),
        taps=(1, 2, 4, 5),
        necks=(8, 12, 16, 20),
        fusion=16,
        head=8,
    )
    with torch.random.fork_rng(devices=[]):
        seed_everything(3)
        model = DepthAnythingForDepthEstimation(
            configuration(architecture, max_depth=max_depth, version=version)
        )
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1 and "embeddings" not in name:
                torch.nn.init.xavier_normal_(parameter)
            elif "norm" in name and "weight" in name:
                torch.nn.init.normal_(parameter, 1, 0.3)
            else:
                torch.nn.init.normal_(parameter, 0, 0.3)
        last = cast(Tensor, model.head.conv3.bias)
        torch.nn.init.constant_(last, 0.5 if max_depth else 4.0)
    return model.eval().requires_grad_(False)


def images(count: int, height: int, width: int) -> Tensor:
    return torch.randn(count, 3, height, width, generator=torch.Generator().manual_seed(5))


KINDS: dict[str, dict[str, Any]] = {
    "relative": {},
    "metric": {"max_depth": 20.0},
    "swiglu": {"swiglu": True},
    "version 1": {"version": 1},
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", SIZES)
def test_float32_is_transformers_network_to_rounding(kind: str, size: tuple[int, int]) -> None:
    model, pixels = network(**KINDS[kind]), images(2, *size)
    expected = model(pixels).predicted_depth
    assert expected.std() > 0.01 * expected.mean()
    assert (expected > 0).float().mean() > 0.9
    values = FrozenDepthAnything(model, torch.float32)(pixels)
    assert (values - expected).abs().max() < 1e-5 * (expected.max() - expected.min())


@pytest.mark.parametrize("kind", KINDS)
def test_bfloat16_errs_no_more_than_autocast(kind: str) -> None:
    model, pixels = network(**KINDS[kind]), images(4, 56, 84)
    exact = model(pixels).predicted_depth
    values = FrozenDepthAnything(model, torch.bfloat16)(pixels)
    with torch.autocast("cpu", torch.bfloat16):
        usual = model(pixels).predicted_depth.float()
    assert values.dtype == torch.float32
    assert len(values.unique()) > 4 * len(usual.unique())  # the last convolution is in float32
    error, theirs = ((map_ - exact).square().mean().sqrt() for map_ in (values, usual))
    assert error < 1.1 * theirs
    assert error < 0.05 * exact.std()


def test_the_network_it_was_made_from_stays_as_it_is() -> None:
    model, pixels = network(), images(1, 56, 56)
    before = model(pixels).predicted_depth
    state = {name: value.clone() for name, value in model.state_dict().items()}
    frozen = FrozenDepthAnything(model, torch.bfloat16)
    frozen(pixels)
    assert all(torch.equal(state[name], value) for name, value in model.state_dict().items())
    for parameter in frozen.parameters():
        parameter.data.zero_()
    assert torch.equal(model(pixels).predicted_depth, before)


def test_positions_are_interpolated_once_for_each_size() -> None:
    frozen = FrozenDepthAnything(network(), torch.float32)
    assert frozen.encoder.positions(3, 5) is frozen.encoder.positions(3, 5)
    assert frozen.encoder.positions(5, 3) is not frozen.encoder.positions(3, 5)
    assert not torch.equal(frozen.encoder.positions(5, 3), frozen.encoder.positions(3, 5))


def test_only_what_is_the_same_function_is_freezable() -> None:
    assert freezable(network())
    model = network()
    for field, value in (("hidden_act", "relu"), ("apply_layernorm", False)):
        setattr(model.config.backbone_config, field, value)
        assert not freezable(model), field
        model = network()
    model.config.head_in_index = 0
    assert not freezable(model)
    registers: Any = Dinov2WithRegistersConfig
    registers = registers(
        hidden_size=32, num_hidden_layers=4, num_attention_heads=2, image_size=56,
        out_features=["stage1", "stage2", "stage3", "stage4"], reshape_hidden_states=False,
    )  # fmt: skip
    config = DepthAnythingConfig(
        backbone_config=registers, reassemble_hidden_size=32, neck_hidden_sizes=[8, 8, 8, 8],
        fusion_hidden_size=16, head_hidden_size=8,
    )  # fmt: skip
    assert not freezable(DepthAnythingForDepthEstimation(config))
    small = DPTConfig(hidden_size=32, num_hidden_layers=4, num_attention_heads=2,
                      intermediate_size=64, image_size=32, backbone_out_indices=[0, 1, 2, 3],
                      neck_hidden_sizes=[8, 8, 8, 8], fusion_hidden_size=8)  # fmt: skip
    assert not freezable(DPTForDepthEstimation(small))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("patches", [1, 1024])
def test_a_batch_gives_what_single_images_give(
    dtype: torch.dtype, patches: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("distill.models.inference._PATCHES_AT_ONCE", patches)
    run = Inference(FrozenDepthAnything(network(), dtype).eval(), compiled=False)
    pixels = images(5, 42, 70)
    together = run(pixels)
    alone = torch.cat([run(pixels[i : i + 1]) for i in range(5)])
    assert len({float(values.mean()) for values in alone}) == 5
    if patches == 1 and dtype == torch.bfloat16:  # one by one on a CPU: the very same bits
        assert torch.equal(together, alone)
    bound = 1e-5 if dtype == torch.float32 else 0.02
    assert (together - alone).abs().max() < bound * (alone.max() - alone.min())


def test_values_do_not_depend_on_the_number_of_threads() -> None:
    before = torch.get_num_threads()
    frozen, pixels = FrozenDepthAnything(network(), torch.bfloat16).eval(), images(6, 56, 56)
    found = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            run = Inference(frozen, compiled=False)
            assert torch.get_num_threads() == threads
            found.append(run(pixels))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


def test_the_caller_owns_the_values() -> None:
    run = Inference(FrozenDepthAnything(network(), torch.float32).eval(), compiled=False)
    values = run(images(1, 56, 56))
    kept = values.clone()
    run(images(2, 56, 56)[1:])
    assert torch.equal(values, kept)
    values += 1  # no inference tensor


def test_an_error_in_the_network_reaches_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: Tensor, __: Tensor) -> Tensor:
        raise RuntimeError("out of memory, say")

    frozen = FrozenDepthAnything(network(), torch.float32).eval()
    monkeypatch.setattr(frozen, "run", fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        Inference(frozen, compiled=False)(images(1, 56, 56))


@pytest.fixture
def unchecked() -> Iterator[None]:
    """Without the checks of shapes that tests add to all code: no compiler sees through them."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.mark.slow
def test_compiled_is_near_and_the_same_every_time(unchecked: None) -> None:
    frozen = FrozenDepthAnything(network(), torch.bfloat16).eval()
    plain, compiled = (Inference(frozen, compiled=flag) for flag in (False, True))
    for size in SIZES:
        pixels = images(3, *size)
        expected, values = plain(pixels), compiled(pixels)
        spread = expected.max() - expected.min()
        assert (values - expected).abs().max() < 0.02 * spread
        assert torch.equal(values, compiled(pixels))


@pytest.mark.gpu
@pytest.mark.parametrize("compiled", [False, True])
def test_a_gpu_gives_what_a_cpu_gives(compiled: bool, unchecked: None) -> None:
    model = network()
    expected = FrozenDepthAnything(model, torch.float32)(images(3, 56, 84))
    run = Inference(
        FrozenDepthAnything(cast(Any, model).cuda(), torch.bfloat16).eval(), compiled=compiled
    )
    pixels = images(3, 56, 84)
    values, again = run(pixels), run(pixels)
    assert values.is_cuda
    assert torch.equal(values, again)  # graphs overwrite their own output, not the caller's
    assert (values.cpu() - expected).abs().max() < 0.03 * (expected.max() - expected.min())
    for count in (1, 2, 3, 5):  # filled batches are cut again
        assert len(run(images(count, 56, 84))) == count
