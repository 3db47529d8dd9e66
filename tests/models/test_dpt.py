"""`models/dpt.py`: every kind of encoder trains, and plain transformers computes the same."""

import re
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from contracts import check_model
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny_encoders import save_encoder, save_timm
from torch import nn
from transformers import AutoImageProcessor, AutoModelForDepthEstimation, pipeline

from distill.losses.affine_invariant import affine_invariant
from distill.losses.feature_alignment import feature_alignment
from distill.models.blocks import checkpoint_activations
from distill.models.depth_anything import DepthAnything
from distill.models.dpt import Dpt, load_student, student
from distill.models.encoders import CONVNEXTS, FrozenEncoder
from distill.models.foreign import load_predictor
from distill.objectives.features import projection
from distill.types import Space

TRANSFORMERS = ("dinov3_vit", "dinov3_convnext")
TIMM = ("test_vit", "test_efficientnet")
REAL = (  # of timm, with random weights
    *("deit3_small_patch16_224", "vit_base_patch16_siglip_224", "eva02_tiny_patch14_224"),
    *("mobilenetv4_conv_small", "efficientvit_b0", "fastvit_t8", "convnext_atto"),
)


@pytest.fixture(autouse=True)
def tiny_convnext(monkeypatch: pytest.MonkeyPatch) -> None:
    """The shape of `tiny_encoders` among the published ones."""
    shape = ((24, 32, 48, 64), (1, 2, 4, 2))
    monkeypatch.setitem(CONVNEXTS, shape, "test_convnext")


def saved(folder: Path, kind: str, **settings: Any) -> Path:
    write = save_timm if kind.startswith("test_") else save_encoder
    return write(folder / str(settings.get("seed", 0)) / kind, kind, **settings)


def built(folder: Path, kind: str, **settings: Any) -> Dpt:
    size = None if kind == "test_vit" else 64
    model = student(saved(folder, kind), size=size, fusion=8, **settings)
    assert isinstance(model, Dpt)
    return model


@pytest.mark.parametrize("kind", [*TRANSFORMERS, *TIMM])
def test_contract(kind: str, tmp_path: Path) -> None:
    model = built(tmp_path, kind)
    check_model(model, space=Space.AFFINE_DISPARITY, load=load_student)
    assert set(model.parameter_groups()) == {"encoder", "head"}


@pytest.mark.parametrize("kind", ["dinov3_vit", "test_efficientnet"])
def test_contract_of_metres(kind: str, tmp_path: Path) -> None:
    model = built(tmp_path, kind, max_depth=80.0)
    check_model(model, space=Space.METRIC_DEPTH, load=load_student)
    assert 5 < model(torch.rand(1, 3, 64, 64)).mean() < 40  # metres, before anything is learnt


@pytest.mark.parametrize("kind", [*TRANSFORMERS, *TIMM])
def test_plain_transformers_computes_the_same(kind: str, tmp_path: Path) -> None:
    model = built(tmp_path, kind).eval()
    model.save_pretrained(tmp_path / "model")
    plain = AutoModelForDepthEstimation.from_pretrained(tmp_path / "model")
    image = torch.rand(2, 3, model.image_size, model.image_size)
    expected = plain((image - model.mean) / model.std).predicted_depth
    assert expected.std() > 1e-3  # not a constant
    torch.testing.assert_close(model(image), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["dinov3_vit", "test_convnext", "test_vit"])
def test_a_user_gets_what_was_validated(kind: str, tmp_path: Path) -> None:
    """By processor, model and pipeline, for a picture that is no square; and as a teacher here."""
    model = built(tmp_path, kind).eval()
    model.save_pretrained(tmp_path / "model")
    picture = Image.fromarray(
        (torch.rand(6, 8, 3, generator=torch.Generator().manual_seed(0)) * 255).byte().numpy()
    ).resize((160, 120))
    pixels = AutoImageProcessor.from_pretrained(tmp_path / "model")(picture, return_tensors="pt")[
        "pixel_values"
    ]
    expected = (64, 96) if kind == "dinov3_vit" else (model.image_size, model.image_size)
    assert pixels.shape[-2:] == expected
    assert pixels.shape[-1] % model.multiple == 0
    found: Any = pipeline("depth-estimation", model=str(tmp_path / "model"))(picture)
    (ours,) = load_predictor(tmp_path / "model").predict([picture])
    assert ours.space is Space.AFFINE_DISPARITY
    torch.testing.assert_close(ours.values, found["predicted_depth"], rtol=1e-4, atol=1e-4)
    direct = model(pixels * model.std + model.mean)[0]
    assert (
        torch.corrcoef(torch.stack([direct.flatten(), _at(ours.values, direct.shape)]))[0, 1] > 0.9
    )


def _at(values: torch.Tensor, size: torch.Size) -> torch.Tensor:
    return nn.functional.interpolate(values[None, None], size, mode="bilinear").flatten()


@pytest.mark.parametrize("kind", ["dinov3_vit", "dinov3_convnext", "test_efficientnet"])
def test_the_encoder_has_its_own_weights_and_colours(kind: str, tmp_path: Path) -> None:
    """Its deepest map is what the encoder alone makes of the image by its own normalisation."""
    model = built(tmp_path, kind).eval()
    image = torch.rand(1, 3, 64, 64)
    _, tokens = model.forward_features(image)
    frozen = FrozenEncoder(saved(tmp_path, kind), cell=model.cell)
    torch.testing.assert_close(tokens, frozen(image), rtol=1e-4, atol=1e-4)
    if kind == "dinov3_vit":
        assert model.mean.flatten().tolist() == pytest.approx([0.4, 0.5, 0.6])
    other = FrozenEncoder(saved(tmp_path, kind, seed=1), cell=model.cell)
    assert not torch.allclose(tokens, other(image), rtol=1e-2, atol=1e-2)


def test_any_encoder_stands_beside_any_student(tmp_path: Path) -> None:
    """Features of another architecture and grid are aligned by a projection."""
    model = built(tmp_path, "test_efficientnet")
    frozen = FrozenEncoder(saved(tmp_path, "dinov2"), cell=model.cell)
    layer = projection(model, frozen)
    assert isinstance(layer, nn.Linear)
    image = torch.rand(2, 3, 64, 96)
    _, tokens = model.forward_features(image)
    assert tokens.shape == (2, 2 * 3, 64)
    feature_alignment(layer(tokens), frozen(image), tolerance=0.0).sum().backward()
    encoder = model.parameter_groups()["encoder"]
    assert any(p.grad is not None and p.grad.abs().max() > 0 for p in encoder)
    assert all(p.grad is None for p in frozen.parameters())
    fixed = FrozenEncoder(save_timm(tmp_path / "fixed", "test_vit"), cell=model.cell)
    assert fixed(image).shape == (2, 6, 64)


def test_batch_statistics_stay_those_of_the_encoder(tmp_path: Path) -> None:
    model = built(tmp_path, "test_efficientnet").train()
    before = {name: value.clone() for name, value in model.named_buffers()}
    model(torch.rand(2, 3, 64, 64))
    assert any("running_mean" in name for name in before)
    assert all(torch.equal(value, before[name]) for name, value in model.named_buffers())


@pytest.mark.parametrize("kind", ["dinov3_vit", "test_vit", "test_resnet"])
def test_activations_can_be_computed_twice(kind: str, tmp_path: Path) -> None:
    model = built(tmp_path, kind)
    image = torch.rand(1, 3, model.image_size, model.image_size)
    gradients, kept = [], []
    for again in (False, True):
        if again:
            checkpoint_activations(model)
        model.zero_grad()
        sizes: list[int] = []

        def note(tensor: torch.Tensor, sizes: list[int] = sizes) -> torch.Tensor:
            sizes.append(tensor.nbytes)
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            loss = model(image).square().mean()
        loss.backward()
        gradients.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
        kept.append(sum(sizes))
    for first, second in zip(*gradients, strict=True):
        torch.testing.assert_close(first, second)
    assert kept[1] < 0.9 * kept[0]


def test_output_is_float32_under_autocast(tmp_path: Path) -> None:
    model = built(tmp_path, "dinov3_vit")
    image = torch.rand(1, 3, 64, 64)
    with torch.autocast("cpu", torch.bfloat16):
        low = model(image)
    assert low.dtype == torch.float32
    assert len(low.unique()) > len(low.bfloat16().unique())
    torch.testing.assert_close(low, model(image), rtol=0.05, atol=0.05)


def test_it_learns(tmp_path: Path) -> None:
    model = built(tmp_path, "test_convnext")
    image = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    target = torch.linspace(1, 2, 64).expand(2, 64, 64)
    valid = torch.ones(2, 64, 64, dtype=torch.bool)
    optimizer = torch.optim.AdamW([p for g in model.parameter_groups().values() for p in g], 1e-3)
    losses = []
    for _ in range(15):
        loss = affine_invariant(model(image), target, valid).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]


def test_dinov2_becomes_depth_anything(tmp_path: Path) -> None:
    model = student(saved(tmp_path, "dinov2"))
    assert isinstance(model, DepthAnything)
    assert model.multiple == 8
    metric = student(saved(tmp_path, "dinov2"), max_depth=20.0)
    assert metric.space is Space.METRIC_DEPTH
    model.save_pretrained(tmp_path / "model")
    assert isinstance(load_student(tmp_path / "model"), DepthAnything)


def test_what_cannot_be_held_is_named_with_what_can(tmp_path: Path) -> None:
    works = "encoders that work: DINOv2 and DINOv3"
    with pytest.raises(ValueError, match=f"no AutoBackbone for a vit; {works}"):
        student(save_encoder(tmp_path / "vit", "vit"))
    with pytest.raises(ValueError, match=r"a convnext in transformers' layout stands in no depth"):
        student(save_encoder(tmp_path / "convnext", "convnext"))
    with pytest.raises(ValueError, match=rf"maps are .*, not \(b, c, h, w\); {works}"):
        student(save_timm(tmp_path / "mamba", "test_mambaout"))
    with pytest.raises(
        FileNotFoundError, match=r"cannot get config\.json of the encoder .*nowhere"
    ):
        student(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"model_args .*img_size.* cannot be told"):
        student(save_timm(tmp_path / "other", "test_vit", model_args={"img_size": 96}))
    with pytest.raises(ValueError, match="has no unheard_of"):
        student(save_timm(tmp_path / "new", "test_vit", architecture="unheard_of"))
    with pytest.raises(ValueError, match=r"size 200, but it takes 160 alone"):
        student(save_timm(tmp_path / "fixed", "test_vit"), size=200)
    with pytest.raises(ValueError, match=r"size 72, but it takes multiples of 32"):
        student(save_encoder(tmp_path / "dinov3", "dinov3_vit"), size=72)


@pytest.mark.parametrize(
    "write", [partial(save_timm, name="test_resnet"), partial(save_encoder, kind="dinov3_convnext")]
)
def test_weights_are_read_strictly(write: Any, tmp_path: Path) -> None:
    folder = write(tmp_path / "encoder")
    weights = load_file(folder / "model.safetensors")
    name = next(n for n in weights if re.search(r"layer3|stages\.2", n) and weights[n].ndim == 4)
    lacking = {n: tensor for n, tensor in weights.items() if n != name}
    save_file(lacking, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"do not fit its config\.json: missing"):
        student(folder, size=64, fusion=8)
    reshaped = {**weights, name: weights[name][:1].contiguous()}
    save_file(reshaped, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises((ValueError, RuntimeError), match=r"shape|ignore_mismatched"):
        student(folder, size=64, fusion=8)


def test_wrong_models_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no model with config"):
        load_student(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="is a convnext that was not trained here"):
        load_student(saved(tmp_path, "convnext"))
    model = built(tmp_path, "test_convnext")
    with pytest.raises(ValueError, match="image 100x64; both sides must be multiples of 32"):
        model(torch.rand(1, 3, 100, 64))


@pytest.mark.slow
@pytest.mark.parametrize("name", REAL)
def test_families_of_timm(name: str, tmp_path: Path) -> None:
    model = student(save_timm(tmp_path / "encoder", name), fusion=32)
    model.save_pretrained(tmp_path / "model")
    plain = AutoModelForDepthEstimation.from_pretrained(tmp_path / "model")
    image = torch.rand(1, 3, model.image_size, model.image_size)
    found = model.eval()(image)
    expected = plain((image - model.mean) / model.std).predicted_depth
    if expected.shape != found.shape:  # patches of 14
        expected = nn.functional.interpolate(
            expected[None], found.shape[-2:], mode="bilinear", align_corners=True
        )[0]
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)
