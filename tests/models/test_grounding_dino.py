"""Grounding DINO: groundingdino-py under transformers 5 is the port of transformers, and regions.

The agreement tests need the extra `[semantic]`.
"""

import re
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import AutoTokenizer, BertConfig, GroundingDinoForObjectDetection

from distill.models import grounding_dino, groundingdino_package
from distill.models.grounding_dino import (
    Package,
    Port,
    caption_of,
    find_regions,
    load_finder,
    prepare,
    regions,
)
from tests import tiny_grounding


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_grounding.write_text(tmp_path_factory.mktemp("text"))


@pytest.fixture(scope="module")
def tokenizer(text: Path) -> Any:
    return AutoTokenizer.from_pretrained(text)


@pytest.fixture(scope="module")
def package(tokenizer: Any) -> Package:
    pytest.importorskip("groundingdino")
    model = groundingdino_package.build_package(tiny_grounding.config(), tokenizer)
    tiny_grounding.randomise(model, torch.Generator().manual_seed(0))
    return Package(model, tokenizer)


def port_of(package: Package, tokenizer: Any) -> Port:
    model = GroundingDinoForObjectDetection(tiny_grounding.config()).eval()
    state = groundingdino_package.to_port(dict(package.model.state_dict()), "tiny")
    found = model.load_state_dict(state, strict=False)
    assert not found.unexpected_keys
    assert all("swin.layernorm" in name for name in found.missing_keys)
    return Port(model, tokenizer)


def wrong_in_the_last_bit(package: Package, seed: int) -> dict[str, torch.Tensor]:
    """The package's state, every number off by at most one rounding of float32."""
    generator = torch.Generator().manual_seed(seed)
    eps = torch.finfo(torch.float32).eps
    return {
        name: value * (1 + eps * (2 * torch.rand(value.shape, generator=generator) - 1))
        if value.is_floating_point()
        else value
        for name, value in package.model.state_dict().items()
    }


@pytest.mark.parametrize("caption", ["sky.", "a mirror. traffic light. person."])
@pytest.mark.parametrize("size", [(64, 96), (80, 72)])
def test_package_and_port_agree(
    package: Package, tokenizer: Any, caption: str, size: tuple[int, int]
):
    """They round differently, as if each weight were wrong in its last bit.

    What that does is measured on the package alone; 16 of it is the bound.
    """
    image = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(size[0]))
    logits, boxes = package.scores(image, caption)
    theirs, their_boxes = port_of(package, tokenizer).scores(image, caption)
    known = logits.isfinite()
    assert torch.equal(known, theirs.isfinite())
    off = 0.0, 0.0
    state = tiny_grounding.state_of(package.model)
    for seed in range(2):
        package.model.load_state_dict(wrong_in_the_last_bit(package, seed))
        near, near_boxes = package.scores(image, caption)
        package.model.load_state_dict(state)
        gaps = (near - logits)[known].abs().max(), (near_boxes - boxes).abs().max()
        off = max(off[0], float(gaps[0])), max(off[1], float(gaps[1]))
    assert 0 < off[0] < 1e-4 * float(logits[known].abs().max())
    assert float((theirs - logits)[known].abs().max()) <= 16 * off[0]
    assert float((their_boxes - boxes).abs().max()) <= 16 * off[1]
    assert float(boxes.std(1).mean()) > 0.05  # the queries say different things


def test_every_tensor_that_is_mapped_matters(package: Package, tokenizer: Any):
    port = port_of(package, tokenizer)
    names = groundingdino_package.to_port(dict(package.model.state_dict()), "tiny").keys()
    text = tokenizer(["a mirror. traffic light."], return_tensors="pt")
    image = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(1))
    port.model.requires_grad_(True)
    found = port.model(pixel_values=image, **text)
    known = found.logits[found.logits.isfinite()]
    (known.square().sum() + found.pred_boxes.square().sum()).backward()
    dead = [
        name
        for name, parameter in port.model.named_parameters()
        if name in names and (parameter.grad is None or not parameter.grad.abs().max() > 0)
    ]
    # boxes of the proposals reach the decoder detached; keys' biases cancel in a softmax
    expected = r"enc(oder)?_output|decoder\.bbox_embed|(key|k_proj)\.bias|text_proj\.bias"
    assert [name for name in dead if not re.search(expected, name)] == []


@pytest.mark.parametrize("size", ["swin_t", "swin_b"])
def test_full_size_names_are_a_bijection(tokenizer: Any, size: str):
    pytest.importorskip("groundingdino")
    config = getattr(groundingdino_package, size)(BertConfig())
    with torch.device("meta"):
        port = GroundingDinoForObjectDetection(config)
        package = groundingdino_package.build_package(config, tokenizer)
    state = groundingdino_package.to_port(dict(package.state_dict()), size)
    wanted = {
        name: value.shape
        for name, value in port.state_dict().items()
        if "swin.layernorm." not in name
    }
    assert {name: value.shape for name, value in state.items()} == wanted
    used = [n for n in package.state_dict() if not re.search(groundingdino_package.UNUSED, n)]
    assert sum(len(groundingdino_package.port_names(name)) for name in used) == len(wanted)


def test_the_package_is_left_as_it_was(package: Package):
    from groundingdino.models.GroundingDINO import bertwarper, groundingdino
    from groundingdino.util import get_tokenlizer

    assert groundingdino.BertModelWarper is bertwarper.BertModelWarper
    assert groundingdino.get_tokenlizer is get_tokenlizer


def test_official_file_and_directory_load(
    package: Package, tokenizer: Any, text: Path, tmp_path: Path
):
    state = {f"module.{name}": value for name, value in package.model.state_dict().items()}
    state["module.label_enc.weight"] = torch.zeros(3)
    torch.save({"model": state}, tmp_path / "official.pth")
    port = port_of(package, tokenizer)
    port.model.save_pretrained(tmp_path / "port")
    tokenizer.save_pretrained(tmp_path / "port")
    loaded = load_finder(tmp_path / "official.pth", text=text, config=tiny_grounding.config())
    saved = load_finder(tmp_path / "port")
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    for one, other in ((package, loaded), (port, saved)):
        for ours, theirs in zip(
            one.scores(image, "sky."), other.scores(image, "sky."), strict=True
        ):
            assert torch.equal(ours, theirs)


def test_a_file_that_does_not_fit_is_named(package: Package, text: Path, tmp_path: Path):
    state = dict(package.model.state_dict())
    state.pop("feat_map.weight")
    torch.save({"model": state}, tmp_path / "official.pth")
    with pytest.raises(ValueError, match=r"official\.pth: missing \['feat_map\.weight'\]"):
        load_finder(tmp_path / "official.pth", text=text, config=tiny_grounding.config())
    torch.save({"model": {"a": torch.zeros(2)}}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match="neither Swin-T nor Swin-B"):
        load_finder(tmp_path / "other.pth", text=text)


def test_missing_models_and_the_extra_are_named(
    monkeypatch: pytest.MonkeyPatch, tokenizer: Any, tmp_path: Path
):
    with pytest.raises(FileNotFoundError, match=r"cannot get .*nothing.*hf download"):
        load_finder(tmp_path / "nothing")
    with pytest.raises(FileNotFoundError, match=r"no file .*nothing\.pth"):
        load_finder(tmp_path / "nothing.pth")
    monkeypatch.setitem(sys.modules, "groundingdino.models.GroundingDINO", None)
    with pytest.raises(ImportError, match=r"pip install 'distill\[semantic\]'"):
        groundingdino_package.build_package(tiny_grounding.config(), tokenizer)


@pytest.mark.parametrize(
    "phrases", [[], ["sky", " "], ["sky", "Sky"], ["a. b"], ["what?"], ["red"] * 2, ["a " * 300]]
)
def test_phrases_that_cannot_be_asked(tokenizer: Any, phrases: list[str]):
    with pytest.raises(ValueError, match="phrases"):
        caption_of(phrases, tokenizer)


def test_caption_and_tokens_of_each_phrase(tokenizer: Any):
    caption, spans = caption_of(["Sky", "traffic  light", "mirrors"], tokenizer)
    assert caption == "sky. traffic light. mirrors."
    tokens = tokenizer.convert_ids_to_tokens(tokenizer(caption)["input_ids"])
    named = [[tokens[place] for place in span] for span in spans]
    assert named == [["sky"], ["traffic", "light"], ["mirror", "##s"]]


class Told:
    """A finder that says what it is told to."""

    def __init__(self, tokenizer: Any, probability: torch.Tensor, boxes: torch.Tensor) -> None:
        self.tokenizer, self.device = tokenizer, torch.device("cpu")
        self._told = torch.logit(probability), boxes

    def to(self, device: torch.device) -> None: ...

    def scores(self, image: torch.Tensor, caption: str) -> tuple[torch.Tensor, torch.Tensor]:
        return self._told[0][None], self._told[1][None]


def test_regions_by_hand(tokenizer: Any):
    """Tokens: [CLS] sky . traffic light . [SEP]."""
    probability = torch.full((4, 256), 0.01)
    probability[0, 1] = 0.9  # sky
    probability[1, 3] = 0.8  # "traffic" without "light"
    probability[2, [1, 3, 4]] = torch.tensor([0.3, 0.5, 0.6])  # both, the light is surer
    probability[3, 1] = 0.34  # sky, not sure enough
    boxes = torch.tensor([[0.5, 0.25, 1.2, 0.5]] + 3 * [[0.5, 0.5, 0.5, 0.5]])
    finder = Told(tokenizer, probability, boxes)
    image = Image.new("RGB", (200, 100))
    found = find_regions(image, ["sky", "traffic light"], model=finder)
    assert [(region.phrase, round(region.score, 5)) for region in found] == [
        ("sky", 0.9),
        ("traffic light", 0.6),
    ]
    assert found[0].box == pytest.approx((0, 0, 200, 50))
    assert found[1].box == pytest.approx((50, 25, 150, 75))


def test_regions_are_the_official_ones_where_those_name_a_phrase(tokenizer: Any):
    pytest.importorskip("groundingdino")
    from groundingdino.util import utils

    get_phrases_from_posmap: Any = utils.get_phrases_from_posmap

    phrases = ["sky", "traffic light", "person"]
    caption, _ = caption_of(phrases, tokenizer)
    generator = torch.Generator().manual_seed(3)
    probability = torch.zeros(1000, 256)
    probability[:, :9] = torch.rand(1000, 9, generator=generator) ** 2
    boxes = torch.rand(1000, 4, generator=generator)
    finder = Told(tokenizer, probability.clamp(1e-6), boxes)
    ours = {r.score: r.phrase for r in regions(finder, torch.zeros(1, 3, 8, 8), phrases)[0]}
    tokens, compared = tokenizer(caption), 0
    for row in torch.logit(probability.clamp(1e-6)).sigmoid():
        text = get_phrases_from_posmap(row > 0.25, tokens, tokenizer).replace(".", "").strip()
        if row.max() > 0.35 and text in phrases:
            assert ours[float(row.max())] == text
            compared += 1
    assert compared > 20


@pytest.mark.parametrize("size", [(640, 480), (500, 375), (300, 1000), (1200, 500), (801, 800)])
def test_prepared_as_officially(size: tuple[int, int]):
    pytest.importorskip("groundingdino")
    from groundingdino.datasets import transforms

    noise = torch.randint(0, 256, (size[1], size[0], 3), generator=torch.Generator().manual_seed(4))
    image = Image.fromarray(noise.byte().numpy())
    steps = [
        transforms.RandomResize([800], max_size=1333),
        transforms.ToTensor(),
        transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
    ]
    official: Any = transforms.Compose(steps)
    theirs, _ = official(image, None)
    ours = grounding_dino._normalised(prepare(image)[None])[0]
    assert torch.allclose(ours, theirs, atol=1e-6, rtol=0)


def test_prepared_on_a_grid():
    assert prepare(Image.new("RGB", (640, 481)), multiple=32).shape == (3, 800, 1056)
    assert prepare(Image.new("RGB", (9, 900)), shortest=64, longest=106, multiple=32).shape[2] == 32
