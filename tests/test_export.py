"""`export.py`: converted weights compute what the official network does, and come back equal."""

import dataclasses
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from official_reference import position_embedding, predict, random_state
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import (
    AutoModelForDepthEstimation,
    DepthAnythingForDepthEstimation,
    Dinov2Model,
    DPTConfig,
    pipeline,
)

from distill.export import convert
from distill.models import dinov2
from distill.models.depth_anything import SIZES, configuration, depth_anything, layout
from distill.models.weights import load_strictly, to_transformers

PUBLISHED = ("vits", "vitb", "vitl", "vitg")
TAPS = {  # encoder blocks that the official heads read, counted from 0
    ("vits", 1): (8, 9, 10, 11), ("vitb", 1): (8, 9, 10, 11), ("vitl", 1): (20, 21, 22, 23),
    ("vits", 2): (2, 5, 8, 11), ("vitb", 2): (2, 5, 8, 11), ("vitl", 2): (4, 11, 17, 23),
    ("vitg", 2): (9, 19, 29, 39),
}  # fmt: skip


def official_state(size: str, seed: int = 0) -> dict[str, Tensor]:
    return random_state({name: s.shape for name, s in layout(SIZES[size]).items()}, seed)


def waves(height: int, width: int) -> Tensor:
    """A normalised image of smooth noise."""
    noise = torch.randn(1, 3, 20, 20, generator=torch.Generator().manual_seed(1))
    return torch.nn.functional.interpolate(noise, (height, width), mode="bicubic")


@torch.no_grad()
def deviation(model: torch.nn.Module, expected: Tensor, image: Tensor) -> float:
    """Largest difference as a share of the range of `expected`."""
    assert expected.std() > 0.02 * (expected.max() - expected.min())  # not a constant
    difference = model(image).predicted_depth - expected
    return float(difference.abs().max() / (expected.max() - expected.min()))


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """The same names, types and bits."""
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name].view(torch.int32), tensor.view(torch.int32)), name


@pytest.fixture(scope="module")
def vits(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Tensor], Path]:
    state = official_state("vits")
    path = tmp_path_factory.mktemp("official") / "depth_anything_v2_vits.pth"
    torch.save(state, path)
    return state, path


@pytest.mark.parametrize("version", [1, 2])
def test_vits_computes_the_official_output(
    vits: tuple[dict[str, Tensor], Path], version: int, tmp_path: Path
) -> None:
    state, path = vits
    convert(path, tmp_path / "model", kind=f"depth-anything-v{version}")
    model = AutoModelForDepthEstimation.from_pretrained(tmp_path / "model")
    image = waves(518, 518)
    expected = predict(state, image, TAPS["vits", version])
    assert deviation(model, expected, image) < 1e-4
    other = predict(state, image[..., :70, :70], TAPS["vits", 3 - version])
    assert deviation(model, other, image[..., :70, :70]) > 0.1  # the other version is another map


def test_metric_vits_computes_the_official_output(
    vits: tuple[dict[str, Tensor], Path], tmp_path: Path
) -> None:
    state, path = vits
    convert(path, tmp_path / "model", kind="depth-anything-v2", max_depth=20.0)
    model = AutoModelForDepthEstimation.from_pretrained(tmp_path / "model")
    image = waves(112, 140)
    official = position_embedding(state["pretrained.pos_embed"], 112, 140)
    model.backbone.embeddings.interpolate_pos_encoding = lambda *_: official
    expected = predict(state, image, TAPS["vits", 2], max_depth=20.0)
    assert 0 < expected.min() < expected.max() < 20
    assert deviation(model, expected, image) < 1e-4


@pytest.mark.parametrize("size", PUBLISHED)
def test_every_size_at_reduced_depth_computes_the_official_output(size: str) -> None:
    encoder = dataclasses.replace(SIZES[size].encoder, depth=4, image_size=70)
    architecture = dataclasses.replace(SIZES[size], encoder=encoder, taps=(1, 2, 3, 4))
    wanted = layout(architecture)
    state = random_state({name: stored.shape for name, stored in wanted.items()})
    model = DepthAnythingForDepthEstimation.from_pretrained(
        None, config=configuration(architecture), state_dict=to_transformers(state, wanted, size)
    )
    image = waves(70, 70)
    assert deviation(model, predict(state, image, (0, 1, 2, 3)), image) < 1e-4


@pytest.fixture(params=PUBLISHED)
def small(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A published size, for the test's duration a third as wide and 6 blocks deep."""
    published = SIZES[request.param]
    heads = published.encoder.heads // 3
    encoder = dataclasses.replace(
        published.encoder, width=64 * heads, heads=heads, depth=6, image_size=70
    )
    architecture = dataclasses.replace(
        published,
        encoder=encoder,
        taps=(2, 3, 5, 6),
        necks=cast(Any, tuple(channels // 8 for channels in published.necks)),
        fusion=published.fusion // 4,
    )
    monkeypatch.setitem(SIZES, request.param, architecture)
    monkeypatch.setitem(dinov2.ENCODERS, request.param, encoder)
    return request.param


@pytest.mark.parametrize("max_depth", [None, 20.0], ids=["relative", "metric"])
@pytest.mark.parametrize(("version", "taps"), [(1, (2, 3, 4, 5)), (2, (1, 2, 4, 5))])
def test_every_size_goes_there_and_back(
    small: str, version: int, taps: tuple[int, ...], max_depth: float | None, tmp_path: Path
) -> None:
    """The directory computes the official map, and the file that comes back has the same bits."""
    state, kind = official_state(small), f"depth-anything-v{version}"
    torch.save(state, tmp_path / "official.pth")
    convert(tmp_path / "official.pth", tmp_path / "model", kind=kind, max_depth=max_depth)
    model = AutoModelForDepthEstimation.from_pretrained(tmp_path / "model")
    image = waves(70, 70)
    assert deviation(model, predict(state, image, taps, max_depth=max_depth), image) < 1e-4
    convert(tmp_path / "model", tmp_path / "back.pth", kind=kind, to="official")
    assert_same(torch.load(tmp_path / "back.pth", weights_only=True), state)


def test_every_dinov2_goes_there_and_back(small: str, tmp_path: Path) -> None:
    wanted = dinov2.layout(dinov2.ENCODERS[small])
    state = random_state({name: stored.shape for name, stored in wanted.items()})
    torch.save(state, tmp_path / "official.pth")
    convert(tmp_path / "official.pth", tmp_path / "model", kind="dinov2")
    model = load_strictly(Dinov2Model.from_pretrained, tmp_path / "model")
    assert torch.equal(model.embeddings.cls_token, state["cls_token"])
    convert(tmp_path / "model", tmp_path / "back.pth", kind="dinov2", to="official")
    assert_same(torch.load(tmp_path / "back.pth", weights_only=True), state)


def test_every_size_is_read_strictly_both_ways(small: str, tmp_path: Path) -> None:
    state, kind = official_state(small), "depth-anything-v2"
    name = f"pretrained.blocks.5.mlp.{'w3' if small == 'vitg' else 'fc2'}.weight"
    wrong = {
        rf"1 tensors missing \['{name}'\]": {n: t for n, t in state.items() if n != name},
        r"1 unexpected \['pretrained\.registers'\]": {**state, "pretrained.registers": state[name]},
        rf"{name} is \(1, 1\), expected \(": {**state, name: torch.zeros(1, 1)},
    }
    for words, tensors in wrong.items():
        torch.save(tensors, tmp_path / "wrong.pth")
        with pytest.raises(ValueError, match=words):
            convert(tmp_path / "wrong.pth", tmp_path / "model", kind=kind)
    assert not (tmp_path / "model").exists()
    torch.save(state, tmp_path / "official.pth")
    convert(tmp_path / "official.pth", tmp_path / "model", kind=kind)
    weights = load_file(tmp_path / "model/model.safetensors")
    del weights["head.conv3.bias"]
    save_file(weights, tmp_path / "model/model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"1 tensors missing \['head\.conv3\.bias'\]"):
        convert(tmp_path / "model", tmp_path / "back.pth", kind=kind, to="official")
    assert not (tmp_path / "back.pth").exists()


@pytest.mark.slow
@pytest.mark.parametrize(("size", "version"), [entry for entry in TAPS if entry[0] != "vits"])
def test_every_size_computes_the_official_output(size: str, version: int, tmp_path: Path) -> None:
    state = official_state(size)
    torch.save(state, tmp_path / "official.pth")
    convert(tmp_path / "official.pth", tmp_path / "model", kind=f"depth-anything-v{version}")
    model = AutoModelForDepthEstimation.from_pretrained(tmp_path / "model")
    image = waves(518, 518)
    assert deviation(model, predict(state, image, TAPS[size, version]), image) < 1e-4


def test_other_sizes_deviate_by_the_interpolation_alone(
    vits: tuple[dict[str, Tensor], Path], tmp_path: Path
) -> None:
    state, path = vits
    convert(path, tmp_path / "model", kind="depth-anything-v2")
    model = AutoModelForDepthEstimation.from_pretrained(tmp_path / "model")
    image = waves(112, 140)
    expected = predict(state, image, TAPS["vits", 2])
    assert 1e-4 < deviation(model, expected, image) < 0.1
    official = position_embedding(state["pretrained.pos_embed"], 112, 140)
    model.backbone.embeddings.interpolate_pos_encoding = lambda *_: official
    assert deviation(model, expected, image) < 1e-4


@pytest.mark.parametrize("kind", ["depth-anything-v1", "depth-anything-v2"])
def test_there_and_back_is_bit_identical(
    vits: tuple[dict[str, Tensor], Path], kind: str, tmp_path: Path
) -> None:
    state, path = vits
    convert(path, tmp_path / "model", kind=kind)
    convert(tmp_path / "model", tmp_path / "back.pth", kind=kind, to="official")
    back = torch.load(tmp_path / "back.pth", weights_only=True)
    assert list(back) == list(layout(SIZES["vits"]))
    assert all(torch.equal(back[name], state[name]) for name in state)
    assert len(load_file(tmp_path / "model/model.safetensors")) == 287


def test_a_trained_model_becomes_official(tmp_path: Path) -> None:
    model = depth_anything("vits").eval()
    model.save_pretrained(tmp_path / "model")
    convert(tmp_path / "model", tmp_path / "ours.pth", kind="depth-anything-v2", to="official")
    state = torch.load(tmp_path / "ours.pth", weights_only=True)
    image = torch.rand(1, 3, 70, 70)
    pixels = (image - model.mean) / model.std
    small = position_embedding(state["pretrained.pos_embed"], 70, 70)
    model.network.backbone.embeddings.interpolate_pos_encoding = lambda *_: small
    expected = predict(state, pixels, TAPS["vits", 2])
    torch.testing.assert_close(model(image), expected, rtol=1e-4, atol=1e-5)


def test_a_file_without_mask_token_becomes_official(
    vits: tuple[dict[str, Tensor], Path], tmp_path: Path
) -> None:
    convert(vits[1], tmp_path / "model", kind="depth-anything-v2")
    weights = load_file(tmp_path / "model/model.safetensors")
    del weights["backbone.embeddings.mask_token"]
    save_file(weights, tmp_path / "model/model.safetensors", metadata={"format": "pt"})
    convert(tmp_path / "model", tmp_path / "back.pth", kind="depth-anything-v2", to="official")
    back = torch.load(tmp_path / "back.pth", weights_only=True)
    assert torch.equal(back["pretrained.mask_token"], torch.zeros(1, 384))


def test_the_pipeline_takes_what_was_converted(
    vits: tuple[dict[str, Tensor], Path], tmp_path: Path
) -> None:
    convert(vits[1], tmp_path / "model", kind="depth-anything-v2")
    estimate = pipeline("depth-estimation", model=str(tmp_path / "model"))
    size = estimate.image_processor.size  # type: ignore[union-attr] - every depth pipeline has one
    assert (size["height"], size["width"]) == (518, 518)
    estimate.image_processor.size = {"height": 70, "width": 70}  # type: ignore[union-attr]
    found = estimate(Image.new("RGB", (40, 30), (200, 90, 10)))
    assert found["predicted_depth"].shape == (30, 40)  # type: ignore[index] - one image


def test_wrong_arguments_are_named(vits: tuple[dict[str, Tensor], Path], tmp_path: Path) -> None:
    path, out = vits[1], tmp_path / "model"
    with pytest.raises(ValueError, match="no kind 'depth-anything'; choose one of depth-any"):
        convert(path, out, kind="depth-anything")
    with pytest.raises(ValueError, match="cannot go to 'onnx'; choose one of transformers, offi"):
        convert(path, out, kind="dinov2", to="onnx")
    with pytest.raises(ValueError, match="max_depth is for Depth Anything on the way to"):
        convert(path, out, kind="dinov2", max_depth=20.0)
    with pytest.raises(ValueError, match=r"\.pth exists; choose another name"):
        convert(path, path, kind="depth-anything-v2")
    with pytest.raises(FileNotFoundError, match=r"no file .*nowhere\.pth"):
        convert(tmp_path / "nowhere.pth", out, kind="depth-anything-v2")
    assert not out.exists()


def test_wrong_files_are_named(vits: tuple[dict[str, Tensor], Path], tmp_path: Path) -> None:
    state, path = vits
    out = tmp_path / "model"
    with pytest.raises(ValueError, match="no tensor 'patch_embed"):
        convert(path, out, kind="dinov2")
    more = {name: t for name, t in state.items() if name != "depth_head.projects.0.bias"}
    torch.save(more | {"extra.weight": torch.zeros(1)}, tmp_path / "more.pth")
    with pytest.raises(ValueError, match=r"1 tensors missing \['depth_head\.projects\.0\.bias'\]"):
        convert(tmp_path / "more.pth", out, kind="depth-anything-v2")
    fewer = {name: t for name, t in state.items() if ".blocks.11." not in name}
    torch.save(fewer, tmp_path / "fewer.pth")
    with pytest.raises(ValueError, match=r"Encoder\(width=384, depth=11.*official code knows"):
        convert(tmp_path / "fewer.pth", out, kind="depth-anything-v2")
    assert not out.exists()


def test_wrong_directories_are_named(vits: tuple[dict[str, Tensor], Path], tmp_path: Path) -> None:
    out = tmp_path / "back.pth"
    with pytest.raises(FileNotFoundError, match=r"holds no config\.json with"):
        convert(tmp_path, out, kind="depth-anything-v2", to="official")
    convert(vits[1], tmp_path / "v1", kind="depth-anything-v1")
    with pytest.raises(ValueError, match=r"reads encoder blocks \[9, 10, 11, 12\], but depth-any"):
        convert(tmp_path / "v1", out, kind="depth-anything-v2", to="official")
    with pytest.raises(ValueError, match="is a depth_anything, not dinov2"):
        convert(tmp_path / "v1", out, kind="dinov2", to="official")
    depth_anything("tiny").save_pretrained(tmp_path / "tiny")
    with pytest.raises(ValueError, match=r"Encoder\(width=96.*official code knows vits"):
        convert(tmp_path / "tiny", out, kind="depth-anything-v2", to="official")
    DPTConfig().save_pretrained(tmp_path / "v1")
    with pytest.raises(ValueError, match="is a dpt, not depth-anything-v2"):
        convert(tmp_path / "v1", out, kind="depth-anything-v2", to="official")
    assert not out.exists()
