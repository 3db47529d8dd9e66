"""Depth models of random weights, saved by transformers alone: the test doubles of real models."""

from pathlib import Path
from typing import Any

import torch
from transformers import (
    DepthAnythingConfig,
    DepthAnythingForDepthEstimation,
    Dinov2Config,
    DPTImageProcessor,
)


def save_depth_anything(folder: Path, *, seed: int = 0) -> Path:
    """A Depth Anything of a few thousand weights whose short side is 112 pixels."""
    shape: dict[str, Any] = {
        **{"hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2, "mlp_ratio": 2},
        **{"image_size": 112, "patch_size": 14, "out_indices": [1, 2, 3, 4]},
        **{"reshape_hidden_states": False, "apply_layernorm": True, "initializer_range": 0.3},
    }
    config = DepthAnythingConfig(
        backbone_config=Dinov2Config(**shape), patch_size=14, reassemble_hidden_size=16,
        neck_hidden_sizes=[8, 8, 8, 8], fusion_hidden_size=8, head_hidden_size=4,
        initializer_range=0.3,  # at the usual 0.02 its map is a constant to six digits
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # noqa: TID251 - the fork ends with the block
        model = DepthAnythingForDepthEstimation(config)
    assert model.head.conv3.bias is not None
    torch.nn.init.constant_(model.head.conv3.bias, 1.0)  # keeps the final ReLU alive
    model.save_pretrained(folder)
    DPTImageProcessor(
        size={"height": 112, "width": 112}, keep_aspect_ratio=True, ensure_multiple_of=14,
        image_mean=[0.485, 0.456, 0.406], image_std=[0.229, 0.224, 0.225],
    ).save_pretrained(folder)  # fmt: skip
    return folder
