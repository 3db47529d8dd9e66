"""The baseline of label figures: what Depth Anything V2's released code does to label images.

One image at a time in float32: OpenCV's decoding, float64 RGB, bicubic resize to at least 518 in
multiples of 14, normalised, the network with its attention matrix written out, the map enlarged to
the image. The network is transformers' on the same weights, its attention replaced by the released
arithmetic; on two cores it costs what the released code costs (within 5 %).
"""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate
from transformers import AttentionInterface, DepthAnythingForDepthEstimation

from distill.models.dinov2 import IMAGENET_MEAN, IMAGENET_STD
from distill.transforms import network_size


def official_network(folder: Path) -> DepthAnythingForDepthEstimation:
    """The network in `folder`, float32, channels first, attention written out."""
    AttentionInterface.register("written_out", _written_out)
    network = DepthAnythingForDepthEstimation.from_pretrained(folder, dtype=torch.float32).eval()
    network.backbone.set_attn_implementation("written_out")
    return network


@torch.no_grad()
def infer_image(network: DepthAnythingForDepthEstimation, path: Path) -> np.ndarray:
    """Disparity at the size of the image, float32."""
    read = cv2.imread(str(path))
    assert read is not None
    height, width = read.shape[:2]
    pixels = torch.from_numpy(_prepared(read))[None]
    values = network(pixel_values=pixels).predicted_depth
    whole = interpolate(values[:, None], (height, width), mode="bilinear", align_corners=True)
    return whole[0, 0].cpu().numpy()


def _prepared(read: np.ndarray) -> np.ndarray:
    rgb: Any = cv2.cvtColor(read, cv2.COLOR_BGR2RGB) / 255.0
    height, width = network_size(*read.shape[:2], short_side=518, multiple=14)
    resized = cv2.resize(rgb, (width, height), interpolation=cv2.INTER_CUBIC)
    normal = (resized - IMAGENET_MEAN) / IMAGENET_STD
    return np.ascontiguousarray(normal.transpose(2, 0, 1), dtype=np.float32)


def _written_out(
    _: Any, query: Tensor, key: Tensor, value: Tensor, *__: Any, scaling: float, **___: Any
) -> tuple[Tensor, None]:
    """Softmax of every query with every key, kept as a matrix; queries are scaled before."""
    weights = ((query * scaling) @ key.transpose(-2, -1)).softmax(dim=-1)
    return (weights @ value).transpose(1, 2), None
