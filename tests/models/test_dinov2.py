"""`models/dinov2.py` and `models/weights.py`: both weight layouts, a frozen encoder."""

import json
from pathlib import Path

import pytest
import torch
from official_reference import random_state
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import Dinov2Model, Dinov2WithRegistersConfig, Dinov2WithRegistersModel

from distill.models.dinov2 import (
    ENCODERS,
    Encoder,
    FrozenDinov2,
    configuration,
    dinov2_encoder,
    encoder_of,
    layout,
)
from distill.models.weights import read_official, to_official, to_transformers

MLP = Encoder(width=64, depth=2, heads=1, image_size=70)
SWIGLU = Encoder(width=128, depth=2, heads=2, image_size=70, swiglu=True)


def official(encoder: Encoder, seed: int = 0) -> dict[str, Tensor]:
    return random_state({name: s.shape for name, s in layout(encoder).items()}, seed)


@pytest.mark.parametrize("encoder", [MLP, SWIGLU])
def test_official_file_gives_the_same_encoder_as_its_directory(
    encoder: Encoder, tmp_path: Path
) -> None:
    state = official(encoder)
    torch.save(state, tmp_path / "official.pth")
    first = dinov2_encoder(tmp_path / "official.pth")
    first.save_pretrained(tmp_path / "directory")
    second = dinov2_encoder(tmp_path / "directory", encoder)
    image = torch.rand(1, 3, 70, 70)
    assert torch.equal(first(image).last_hidden_state, second(image).last_hidden_state)
    saved = load_file(tmp_path / "directory/model.safetensors")
    back = to_official(saved, layout(encoder), "saved")
    assert back.keys() == state.keys()
    assert all(torch.equal(back[name], state[name]) for name in state)


@pytest.mark.parametrize("encoder", [MLP, SWIGLU])
def test_names_map_one_to_one(encoder: Encoder) -> None:
    state = official(encoder)
    there = to_transformers(state, layout(encoder), "state")
    assert len(there) == sum(len(stored.names) for stored in layout(encoder).values())
    assert sum(t.numel() for t in there.values()) == sum(t.numel() for t in state.values())
    assert encoder_of(state, "state") == encoder


@pytest.mark.parametrize(("size", "tensors"), [("vits", 175), ("vitl", 343), ("vitg", 567)])
def test_published_sizes(size: str, tensors: int) -> None:
    with torch.device("meta"):
        model = Dinov2Model(configuration(ENCODERS[size]))
    wanted = layout(ENCODERS[size])
    assert len(wanted) == tensors
    total = sum(torch.Size(stored.shape).numel() for stored in wanted.values())
    assert total == sum(p.numel() for p in model.parameters())


def test_frozen_encoder_stays_frozen(tmp_path: Path) -> None:
    torch.save(official(MLP), tmp_path / "official.pth")
    frozen = FrozenDinov2(tmp_path / "official.pth")
    parent = nn.Sequential(frozen).train()
    assert not any(module.training for module in parent[0].modules())
    assert not any(parameter.requires_grad for parameter in frozen.parameters())
    image = torch.rand(2, 3, 70, 70, requires_grad=True)
    tokens = frozen(image)
    assert tokens.shape == (2, 25, 64)
    assert not tokens.requires_grad
    pixels = (image - frozen.mean) / frozen.std
    expected = dinov2_encoder(tmp_path / "official.pth")(pixels).last_hidden_state[:, 1:]
    torch.testing.assert_close(tokens, expected.detach(), rtol=1e-4, atol=1e-5)
    assert all(name.startswith("encoder.") for name in frozen.state_dict())


def test_frozen_encoder_computes_as_the_autocast_around_it(tmp_path: Path) -> None:
    torch.save(official(MLP), tmp_path / "official.pth")
    exact, coarse = (FrozenDinov2(tmp_path / "official.pth") for _ in range(2))
    image = torch.rand(2, 3, 70, 70)
    with torch.autocast("cpu", torch.bfloat16):
        tokens = coarse(image)
        expected = dinov2_encoder(tmp_path / "official.pth")((image - exact.mean) / exact.std)
    assert {p.dtype for name, p in coarse.named_parameters() if "qkv" in name} == {torch.bfloat16}
    assert tokens.dtype is torch.float32
    error = (tokens - exact(image)).abs().mean()
    assert 0 < error <= 1.5 * (expected.last_hidden_state[:, 1:] - exact(image)).abs().mean()


def test_other_sizes_interpolate_the_position_embedding(tmp_path: Path) -> None:
    torch.save(official(MLP), tmp_path / "official.pth")
    frozen = FrozenDinov2(tmp_path / "official.pth")
    assert frozen(torch.rand(1, 3, 42, 112)).shape == (1, 24, 64)
    with pytest.raises(ValueError, match="image 60x112; both sides must be multiples of 14"):
        frozen(torch.rand(1, 3, 60, 112))


def test_a_file_may_lack_the_mask_token_only(tmp_path: Path) -> None:
    Dinov2Model(configuration(MLP, use_mask_token=False)).save_pretrained(tmp_path)
    edit_config(tmp_path, use_mask_token=True)
    dinov2_encoder(tmp_path)
    edit_config(tmp_path, num_hidden_layers=3, out_features=None, stage_names=None)
    with pytest.raises(ValueError, match=r"missing \['encoder\.layer\.2"):
        dinov2_encoder(tmp_path)


def edit_config(folder: Path, **fields: object) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | fields))


def test_registers_are_refused(tmp_path: Path) -> None:
    config = Dinov2WithRegistersConfig(hidden_size=64, num_hidden_layers=1, num_attention_heads=1)
    Dinov2WithRegistersModel(config).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="is a dinov2_with_registers; need DINOv2 without"):
        dinov2_encoder(tmp_path)
    state = official(MLP) | {"register_tokens": torch.zeros(1, 4, 64)}
    torch.save(state, tmp_path / "registers.pth")
    with pytest.raises(ValueError, match=r"registers\.pth: 0 tensors missing .* 1 unexpected"):
        dinov2_encoder(tmp_path / "registers.pth")


def test_another_size_than_expected_is_refused(tmp_path: Path) -> None:
    torch.save(official(MLP), tmp_path / "official.pth")
    with pytest.raises(ValueError, match="has hidden_size 64, but this model size needs 128"):
        dinov2_encoder(tmp_path / "official.pth", SWIGLU)


def test_what_cannot_be_had_is_named_with_a_remedy(tmp_path: Path) -> None:
    for source in ("facebook/dinov2-small", tmp_path / "nowhere", tmp_path / "dinov2.pth"):
        with pytest.raises(FileNotFoundError, match="hf download facebook/dinov2-small") as caught:
            dinov2_encoder(source)
        assert str(source) in str(caught.value)


def test_official_files_are_unwrapped(tmp_path: Path) -> None:
    state = official(MLP)
    wrapped = {"model": {f"module.{name}": t for name, t in state.items()}, "epoch": 3}
    torch.save(wrapped, tmp_path / "latest.pth")
    read = read_official(tmp_path / "latest.pth")
    assert read.keys() == state.keys()
    assert all(torch.equal(read[name], state[name]) for name in state)


class Harmful:
    """Unpickling it would write a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.write_text, (self.path, "ran")


def test_pickles_are_read_as_tensors_only(tmp_path: Path) -> None:
    torch.save({"a": Harmful(tmp_path / "ran")}, tmp_path / "harmful.pth")
    (tmp_path / "noise.pth").write_bytes(b"no weights at all")
    (tmp_path / "empty.pth").write_bytes(b"")
    for name in ("harmful", "noise", "empty"):
        with pytest.raises(ValueError, match=rf"{name}\.pth is not a \.pth of plain tensors"):
            read_official(tmp_path / f"{name}.pth")
    assert not (tmp_path / "ran").exists()
    torch.save({"epoch": 3}, tmp_path / "numbers.pth")
    with pytest.raises(ValueError, match="does not hold a dictionary of tensors"):
        read_official(tmp_path / "numbers.pth")
    with pytest.raises(FileNotFoundError, match=r"no file .*give an official"):
        read_official(tmp_path / "none.pth")


def test_wrong_tensors_are_named() -> None:
    state, wanted = official(MLP), layout(MLP)
    with pytest.raises(ValueError, match="here: no tensor 'patch_embed"):
        encoder_of({"conv1.weight": torch.zeros(1)}, "here")
    with pytest.raises(ValueError, match=r"here: 1 tensors missing \['cls_token'\], 0 unexpected"):
        to_transformers({n: t for n, t in state.items() if n != "cls_token"}, wanted, "here")
    state["norm.bias"] = torch.zeros(65)
    with pytest.raises(ValueError, match=r"here: norm\.bias is \(65,\), expected \(64,\)"):
        to_transformers(state, wanted, "here")
