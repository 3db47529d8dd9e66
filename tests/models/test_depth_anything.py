"""`models/depth_anything.py`: published dimensions, what trains, what is saved (spec T8 to T10)."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from contracts import check_model
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoModelForDepthEstimation, DepthAnythingForDepthEstimation

from distill.losses.affine_invariant import affine_invariant
from distill.losses.feature_alignment import feature_alignment
from distill.losses.gradient_matching import gradient_matching
from distill.models import attention, dinov2
from distill.models.depth_anything import (
    SIZES,
    configuration,
    depth_anything,
    layout,
    load_depth_anything,
)
from distill.models.scratch import initialise
from distill.types import Space

PUBLISHED = {  # tensors in the official file, in the transformers file, parameters encoder and head
    "vits": (239, 287, 22_056_576, 2_728_513),
    "vitb": (239, 287, 86_580_480, 10_890_305),
    "vitl": (407, 503, 304_368_640, 30_947_009),
    "vitg": (631, 791, 1_136_480_768, 121_651_457),
}
UNUSED = ("mask_token", "neck.fusion_stage.layers.0.residual_layer1")


@pytest.mark.parametrize("max_depth", [None, 20.0])
def test_contract(max_depth: float | None) -> None:
    space = Space.AFFINE_DISPARITY if max_depth is None else Space.METRIC_DEPTH
    model = depth_anything("tiny", max_depth=max_depth)
    check_model(model, space=space, load=load_depth_anything)


@pytest.mark.parametrize("size", PUBLISHED)
def test_dimensions_are_the_published_ones(size: str) -> None:
    official, ours, encoder, head = PUBLISHED[size]
    with torch.device("meta"):
        network = DepthAnythingForDepthEstimation(configuration(SIZES[size]))
    assert sum(p.numel() for p in network.backbone.parameters()) == encoder
    assert sum(p.numel() for p in network.parameters()) == encoder + head
    wanted = layout(SIZES[size])
    assert len(wanted) == official
    assert sum(torch.Size(s.shape).numel() for s in wanted.values()) == encoder + head
    assert len({name for s in wanted.values() for name in s.names}) == ours


@pytest.mark.parametrize("size", ["tiny", "tiny_teacher"])
def test_key_map_is_a_bijection_onto_the_saved_file(size: str, tmp_path: Path) -> None:
    depth_anything(size).save_pretrained(tmp_path)
    saved = {name: tuple(t.shape) for name, t in load_file(tmp_path / "model.safetensors").items()}
    mapped = [
        (name, (stored.shape[0] // len(stored.names), *stored.shape[1:]))
        for stored in layout(SIZES[size]).values()
        for name in stored.names
    ]
    assert len(mapped) == len(dict(mapped))
    assert dict(mapped) == saved


def test_versions_read_other_blocks() -> None:
    for version, taps in ((1, [21, 22, 23, 24]), (2, [5, 12, 18, 24])):
        config = configuration(SIZES["vitl"], version=version)
        assert config.backbone_config.out_indices == taps  # type: ignore[union-attr] - always set


def test_same_weights_with_other_taps_change_the_output(tmp_path: Path) -> None:
    model = depth_anything("tiny")
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["backbone_config"]["out_indices"] = [3, 4, 5, 6]
    config["backbone_config"].pop("out_features", None)
    (tmp_path / "config.json").write_text(json.dumps(config))
    image = torch.rand(1, 3, 112, 112)
    assert not torch.allclose(load_depth_anything(tmp_path)(image), model(image))


def test_everything_used_gets_a_gradient_from_the_students_loss() -> None:
    model = depth_anything("tiny")
    image, target = torch.rand(2, 3, 64, 80), torch.rand(2, 64, 80)
    valid = torch.ones(2, 64, 80, dtype=torch.bool)
    pred, tokens = model.forward_features(image)
    loss = affine_invariant(pred, target, valid) + 2 * gradient_matching(pred, target, valid)
    loss = loss + feature_alignment(tokens, torch.randn_like(tokens))
    loss.mean().backward()
    without = {name for name, p in model.network.named_parameters() if p.grad is None}
    assert without == {
        n for n, _ in model.network.named_parameters() if any(u in n for u in UNUSED)
    }
    assert len(without) == 5


def test_plain_transformers_computes_the_same(tmp_path: Path) -> None:
    model = depth_anything("tiny").eval()
    model.save_pretrained(tmp_path)
    plain = AutoModelForDepthEstimation.from_pretrained(tmp_path)
    for ours, theirs in zip(model.network.parameters(), plain.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    image = torch.rand(2, 3, 112, 136)
    pixels = (image - model.mean) / model.std
    torch.testing.assert_close(plain(pixels).predicted_depth, model(image), rtol=1e-5, atol=1e-5)
    # memory format and attention are chosen for speed; with the same choice, the same bits as far
    # as the last convolution, which is computed as a product
    plain.to(memory_format=torch.channels_last)
    plain.backbone.set_attn_implementation(attention.NAME)
    torch.testing.assert_close(plain(pixels).predicted_depth, model(image), rtol=1e-6, atol=1e-6)
    with torch.no_grad():
        tapped = plain.backbone(pixels).feature_maps[-1][:, 1:]
    assert torch.equal(tapped, model.forward_features(image)[1])


def test_tokens_are_those_behind_the_final_norm() -> None:
    model = depth_anything("tiny").eval()
    image = torch.rand(1, 3, 112, 112)
    _, tokens = model.forward_features(image)
    assert tokens.shape == (1, 14 * 14, 96)
    encoder = dinov2.Dinov2Model(model.network.backbone.config)
    encoder.load_state_dict(model.network.backbone.state_dict())
    pixels = (image - model.mean) / model.std
    expected = encoder.eval()(pixels).last_hidden_state[:, 1:]
    torch.testing.assert_close(tokens, expected, rtol=1e-4, atol=1e-5)


def test_output_is_float32_under_autocast() -> None:
    model = depth_anything("tiny")
    image = torch.rand(1, 3, 112, 112)
    with torch.autocast("cpu", torch.bfloat16):
        low = model(image)
    assert low.dtype == torch.float32
    assert len(low.unique()) > len(low.bfloat16().unique())
    torch.testing.assert_close(low, model(image), rtol=0.05, atol=0.02)


def test_head_starts_with_torch_defaults_and_alive() -> None:
    model = depth_anything("tiny_teacher")
    head = model.network.head
    bound = head.conv1.weight[0].numel() ** -0.5  # of torch's uniform draw
    assert 0.9 * bound < head.conv1.weight.abs().max() <= bound
    assert torch.equal(head.conv3.bias, torch.ones(1))
    assert (model(torch.rand(1, 3, 112, 112)) > 0).all()


def test_scratch_fills_every_parameter() -> None:
    """The network is built on the meta device: what nobody fills would be leftover memory."""
    model = depth_anything("tiny")
    fresh = depth_anything("tiny")
    with torch.no_grad():
        for parameter in fresh.network.backbone.parameters():
            parameter.fill_(float("nan"))
    initialise(fresh.network.backbone)
    for parameter in [*model.parameters(), *fresh.parameters()]:
        assert parameter.isfinite().all()
        assert parameter.abs().max() < 10


def test_encoder_comes_from_dinov2_weights(tmp_path: Path) -> None:
    encoder = dinov2.Dinov2Model(dinov2.configuration(SIZES["tiny"].encoder))
    encoder.save_pretrained(tmp_path)
    model = depth_anything("tiny", encoder=tmp_path)
    backbone = model.network.backbone.state_dict()
    assert all(torch.equal(value, backbone[name]) for name, value in encoder.state_dict().items())
    assert len(backbone) == len(encoder.state_dict())
    with pytest.raises(ValueError, match="hidden_size 96, but this model size needs 144"):
        depth_anything("tiny_teacher", encoder=tmp_path)


def test_encoder_comes_from_a_depth_anything_too(tmp_path: Path) -> None:
    """As metric fine-tuning starts: the encoder's weights, another head."""
    relative = depth_anything("tiny")
    relative.save_pretrained(tmp_path)
    metric = depth_anything("tiny", encoder=tmp_path, max_depth=20.0)
    weights = relative.network.state_dict()
    for name, value in metric.network.state_dict().items():
        if name.startswith("backbone."):
            assert torch.equal(value, weights[name]), name
    head = "head.conv1.weight"
    assert not torch.equal(metric.network.state_dict()[head], weights[head])
    assert metric.space is Space.METRIC_DEPTH
    assert metric.weights_from == tmp_path
    with pytest.raises(ValueError, match="hidden_size 96, but this model size needs 144"):
        depth_anything("tiny_teacher", encoder=tmp_path)


def test_network_keeps_its_place_in_memory_through_copies() -> None:
    model = depth_anything("tiny")
    weight = model.network.head.conv1.weight
    assert weight.is_contiguous(memory_format=torch.channels_last)
    assert "mean" not in model.state_dict()
    assert all(name.startswith("network.") for name in model.state_dict())


def test_dimensions_of_your_own() -> None:
    tiny = SIZES["tiny"]
    wide = dataclasses.replace(tiny, encoder=dataclasses.replace(tiny.encoder, width=192, heads=6))
    model = depth_anything(wide)
    values, tokens = model.forward_features(torch.rand(1, 3, 56, 56))
    assert (values.shape, tokens.shape) == ((1, 56, 56), (1, 49, 192))


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="no size 'vitx'; choose one of vits"):
        depth_anything("vitx")
    with pytest.raises(ValueError, match="no version 3; choose 1 or 2"):
        depth_anything("tiny", version=3)
    for wrong in (-1.0, 0.0, 7.5):
        with pytest.raises(ValueError, match=f"max_depth {wrong} m"):
            depth_anything("tiny", max_depth=wrong)
    with pytest.raises(ValueError, match="image 100x112; both sides must be multiples of 8"):
        depth_anything("tiny")(torch.rand(1, 3, 100, 112))


def test_loading_names_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no config\.json in"):
        load_depth_anything(tmp_path)
    depth_anything("tiny").save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    weights["left.over"] = weights.pop("head.conv3.bias")
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"missing \['head\.conv3\.bias'\], unexpected \['left"):
        load_depth_anything(tmp_path)


def test_taps_lie_within_the_depth() -> None:
    for size, architecture in SIZES.items():
        assert architecture.taps[-1] == architecture.encoder.depth, size
        assert sorted(set(architecture.taps)) == list(architecture.taps), size
        assert len(dataclasses.astuple(architecture)[2]) == 4
    assert isinstance(depth_anything("tiny").network.backbone, nn.Module)
