"""Encoders of random weights in their real layouts, written by transformers and timm alone."""

import json
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import save_file
from transformers import (
    BitImageProcessor,
    ConvNextConfig,
    ConvNextForImageClassification,
    Dinov2Config,
    Dinov2Model,
    DINOv3ConvNextConfig,
    DINOv3ConvNextModel,
    DINOv3ViTConfig,
    DINOv3ViTModel,
    ViTConfig,
    ViTModel,
)

_VIT: dict[str, Any] = {
    **{"hidden_size": 48, "num_hidden_layers": 4, "num_attention_heads": 3},
    **{"image_size": 64, "patch_size": 16},
}
_PYRAMID: dict[str, Any] = {"hidden_sizes": [24, 32, 48, 64], "depths": [1, 2, 4, 2]}
_MODELS: dict[str, tuple[Any, Any]] = {
    "dinov2": (
        Dinov2Model,
        Dinov2Config(
            hidden_size=96, num_hidden_layers=6, num_attention_heads=3, patch_size=8, image_size=56
        ),
    ),
    "dinov3_vit": (
        DINOv3ViTModel,
        DINOv3ViTConfig(**_VIT, intermediate_size=96, num_register_tokens=4),
    ),
    "dinov3_convnext": (DINOv3ConvNextModel, DINOv3ConvNextConfig(**_PYRAMID)),
    "convnext": (ConvNextForImageClassification, ConvNextConfig(**_PYRAMID)),
    "vit": (ViTModel, ViTConfig(**_VIT, intermediate_size=96)),  # without a backbone class
}


def save_encoder(folder: Path, kind: str, *, seed: int = 0) -> Path:
    """An encoder of transformers, by its model type, with a mean and deviation of its own."""
    build, config = _MODELS[kind]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # noqa: TID251 - the fork ends with the block
        build(config).save_pretrained(folder)
    BitImageProcessor(image_mean=[0.4, 0.5, 0.6], image_std=[0.2, 0.25, 0.3]).save_pretrained(
        folder
    )
    return folder


def save_timm(folder: Path, name: str, *, seed: int = 0, **declared: Any) -> Path:
    """A model of timm as its own `save_for_hf` lays it out; `declared` goes into config.json."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # noqa: TID251 - the fork ends with the block
        model = timm.create_model(name)
    folder.mkdir(parents=True, exist_ok=True)
    state = {key: tensor.contiguous() for key, tensor in model.state_dict().items()}
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    known = timm.get_pretrained_cfg(name)
    assert known is not None
    shown = {"mean": known.mean, "std": known.std, "input_size": known.input_size}
    config = {"architecture": name, "num_classes": model.num_classes, "pretrained_cfg": shown}
    (folder / "config.json").write_text(json.dumps(config | declared))
    return folder
