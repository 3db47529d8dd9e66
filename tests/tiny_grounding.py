"""A tiny Grounding DINO with random weights and BERT's layout of a vocabulary, written to disk."""

from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import BertConfig, BertTokenizer, GroundingDinoConfig, SwinConfig

WORDS = ("sky", "mirror", "window", "person", "traffic", "light", "a", "red", "##s")


def write_text(folder: Path) -> Path:
    """Vocabulary (the special tokens where bert-base-uncased has them) and configuration."""
    words = [f"[unused{n}]" for n in range(1040)]
    places = {0: "[PAD]", 100: "[UNK]", 101: "[CLS]", 102: "[SEP]", 103: "[MASK]"}
    places |= {1012: ".", 1029: "?"} | {1030 + n: word for n, word in enumerate(WORDS)}
    for place, word in places.items():
        words[place] = word
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(words))
    BertTokenizer(vocab=str(folder / "vocab.txt")).save_pretrained(folder)
    text_config().save_pretrained(folder)
    return folder


def text_config() -> BertConfig:
    return BertConfig(
        vocab_size=1040,
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=256,
    )


def config() -> GroundingDinoConfig:
    """The package fixes 256 channels; all else is small."""
    trunk = SwinConfig(
        embed_dim=8,
        depths=[1, 1, 2, 1],
        num_heads=[1, 2, 2, 4],
        window_size=4,
        out_indices=[2, 3, 4],  # pyright: ignore[reportCallIssue]
    )
    return GroundingDinoConfig(
        backbone_config=trunk,
        text_config=text_config(),
        num_queries=12,
        encoder_layers=1,
        decoder_layers=2,
        encoder_ffn_dim=64,
        decoder_ffn_dim=64,
        dropout=0.0,
    )


def randomise(model: nn.Module, generator: torch.Generator) -> None:
    """Values of a trained network's size everywhere: no tensor is left at 0 or at 1e-4."""
    for parameter in model.parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if parameter.dim() > 1:
            noise = noise / parameter[0].numel() ** 0.5
        else:
            noise = 0.3 * noise + (parameter.data > 0.5)
        parameter.data = noise.to(parameter)


def state_of(model: nn.Module) -> dict[str, Any]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}
