"""Taggers: SigLIP as transformers itself computes it, and a classifier of many labels."""

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torchvision.transforms.functional import to_pil_image
from transformers import (
    AutoProcessor,
    SiglipConfig,
    SiglipImageProcessor,
    SiglipModel,
    ViTConfig,
    ViTForImageClassification,
    ViTImageProcessor,
)

from distill.models.tagger import Tagger, load_tagger
from tests import tiny_grounding

LABELS = {0: "Sky", 1: "person", 2: "window"}


def write_siglip(folder: Path) -> Path:
    """Tiny and random, with BERT's kind of tokenizer, whose vocabulary is a few words."""
    small = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1}
    text = {**small, "num_attention_heads": 2, "vocab_size": 1040, "max_position_embeddings": 16}
    vision = {**small, "num_attention_heads": 2, "image_size": 32, "patch_size": 16}
    config = SiglipConfig(text_config=text, vision_config=vision)
    tiny_grounding.write_text(folder)
    model = SiglipModel(config)
    tiny_grounding.randomise(model, torch.Generator().manual_seed(0))
    model.save_pretrained(folder)
    SiglipImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


def write_classifier(folder: Path, problem: Any = "multi_label_classification") -> Path:
    config = ViTConfig(
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=32,
        patch_size=16,
        id2label=LABELS,
        problem_type=problem,
    )
    model = ViTForImageClassification(config)
    tiny_grounding.randomise(model, torch.Generator().manual_seed(0))
    model.save_pretrained(folder)
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return (
        torch.rand(2, 3, 48, 64, generator=torch.Generator().manual_seed(1)).mul(255).round() / 255
    )


def test_siglip_is_that_of_transformers(tmp_path: Path, images: torch.Tensor):
    tagger = load_tagger(write_siglip(tmp_path))
    assert isinstance(tagger, Tagger)
    tagger.check(["anything"])
    found = tagger.probabilities(images, ["sky", "Person"])
    again = tagger.probabilities(images, ["Person", "sky"])
    assert torch.allclose(found, again.flip(1), atol=1e-6)

    processor = AutoProcessor.from_pretrained(tmp_path)
    model = SiglipModel.from_pretrained(tmp_path)
    pictures: list[Image.Image] = [to_pil_image(image) for image in images]
    texts = ["This is a photo of sky.", "This is a photo of person."]
    tokens = processor.tokenizer(texts, padding="max_length", max_length=16, return_tensors="pt")
    pixels = SiglipImageProcessor.from_pretrained(tmp_path)(images=pictures, return_tensors="pt")
    with torch.no_grad():
        expected = model(input_ids=tokens["input_ids"], pixel_values=pixels["pixel_values"])
    assert torch.allclose(found, expected.logits_per_image.sigmoid(), atol=0.02)  # 8-bit resizing
    assert found.std(0).min() > 0


def test_a_classifier_knows_its_labels_alone(tmp_path: Path, images: torch.Tensor):
    tagger = load_tagger(write_classifier(tmp_path))
    found = tagger.probabilities(images, ["window", "sky"])
    model = ViTForImageClassification.from_pretrained(tmp_path)
    processor = ViTImageProcessor.from_pretrained(tmp_path)
    pixels = processor(images=list(images), do_rescale=False, return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        expected = model(pixel_values=pixels).logits.sigmoid()
    assert torch.allclose(found, expected[:, [2, 0]])
    tagger.check(["sky", "Window"])
    with pytest.raises(ValueError, match=r"\['mirror'\] are none of its 3 labels"):
        tagger.check(["sky", "mirror"])


def test_what_is_no_tagger(tmp_path: Path):
    with pytest.raises(ValueError, match="which chooses one label; give a SigLIP model"):
        load_tagger(write_classifier(tmp_path / "one", None))
    with pytest.raises(FileNotFoundError, match="nowhere: neither a directory"):
        load_tagger(tmp_path / "nowhere")
