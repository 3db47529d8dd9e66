"""Official weights of Depth Anything and DINOv2 to a transformers directory, and back.

Values are never touched: there and back again is the same file, bit by bit. At 518 x 518 the
converted network reproduces the official one to rounding; at other sizes the two interpolate the
position embedding differently (see `convert`).
"""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import (
    AutoConfig,
    DepthAnythingConfig,
    DepthAnythingForDepthEstimation,
    Dinov2Config,
    Dinov2Model,
    PretrainedConfig,
)

from distill import atomic
from distill.models import depth_anything, dinov2
from distill.models.dinov2 import ENCODERS, encoder_of
from distill.models.weights import (
    Layout,
    load_strictly,
    read_official,
    to_official,
    to_transformers,
)

logger = logging.getLogger(__name__)

VERSIONS = {"depth-anything-v1": 1, "depth-anything-v2": 2}
KINDS = (*VERSIONS, "dinov2")
DIRECTIONS = ("transformers", "official")


def convert(
    source: Path,
    out: Path,
    *,
    kind: str,
    to: str = "transformers",
    max_depth: float | None = None,
) -> None:
    """Convert published weights; the size (vits, vitb, vitl, vitg) is read from shapes.

    transformers resizes the position embedding to the number of patches, the official code by a
    factor that is 0.1 patches larger. Largest (mean) difference as a share of the output's range,
    the larger of ViT-S and ViT-B with random weights: 2e-6 (3e-7) at 518 x 518; 1.8e-3 (2.5e-4) at
    518 x 686 with a smooth embedding, 1.2e-2 (1.1e-3) with one that is independent at each patch,
    which is the worst case; 3.4e-3 (4.3e-4) and 2.0e-2 (2.3e-3) at 252 x 336. Measured by
    `python -m benchmarks.position_embedding vits vitb`.

    Args:
        source: an official `.pth` (a training checkpoint of the official code is unwrapped), or a
            directory when `to` is "official".
        out: a directory that plain transformers loads, or a `.pth` that the official code loads
            strictly.
        kind: one of `KINDS`. V1 and V2 of Depth Anything have the same names and shapes and differ
            only in the encoder blocks that the head reads, so a file cannot tell its version.
        to: one of `DIRECTIONS`.
        max_depth: metres, for metric checkpoints: 20 for those trained on Hypersim, 80 for Virtual
            KITTI 2. Their names and shapes are those of relative ones, so a file cannot tell.

    Raises:
        FileNotFoundError: no `source`.
        ValueError: wrong arguments, `out` exists, or tensors missing, left over, of another shape.
    """
    if kind not in KINDS:
        raise ValueError(f"convert: no kind {kind!r}; choose one of {', '.join(KINDS)}")
    if to not in DIRECTIONS:
        raise ValueError(f"convert: cannot go to {to!r}; choose one of {', '.join(DIRECTIONS)}")
    if max_depth is not None and (kind == "dinov2" or to == "official"):
        raise ValueError("convert: max_depth is for Depth Anything on the way to transformers only")
    if out.exists():
        raise ValueError(f"convert: {out} exists; choose another name or remove it")
    if to == "official":
        _write_official(source, out, kind)
    else:
        _write_transformers(source, out, kind, max_depth)
    logger.info("converted %s to %s", source, out)


def _write_transformers(source: Path, out: Path, kind: str, max_depth: float | None) -> None:
    state = read_official(source)
    prefix = "" if kind == "dinov2" else "pretrained."
    size = _size_of(encoder_of(state, str(source), prefix), source)
    config: PretrainedConfig
    if kind == "dinov2":
        config = dinov2.configuration(ENCODERS[size], architectures=[Dinov2Model.__name__])
    else:
        config = depth_anything.configuration(
            depth_anything.SIZES[size], max_depth=max_depth, version=VERSIONS[kind]
        )
    weights = to_transformers(state, _layout(size, kind), str(source))
    with atomic.replacing_folder(out) as folder:
        config.save_pretrained(folder)
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
        if isinstance(config, DepthAnythingConfig):
            depth_anything.image_processor(config).save_pretrained(folder)
        load_strictly(_model(kind), folder)  # the proof that it loads


def _write_official(source: Path, out: Path, kind: str) -> None:
    files = sorted(source.glob("*.safetensors"))
    if not files or not (source / "config.json").is_file():
        raise FileNotFoundError(
            f"convert: {source} holds no config.json with *.safetensors; give the directory of a "
            "transformers model, such as `model` of a run"
        )
    size = _size_of_config(AutoConfig.from_pretrained(source), kind, source)
    wanted = _layout(size, kind)
    token = wanted["mask_token" if kind == "dinov2" else "pretrained.mask_token"]
    # never read by the depth network, so that transformers files may lack it; official ones may not
    state: dict[str, Tensor] = {token.names[0]: torch.zeros(token.shape)}
    for file in files:
        state |= load_file(file)
    official = to_official(state, wanted, str(source))
    with atomic.replacing_file(out) as temporary:
        torch.save(official, temporary)


def _layout(size: str, kind: str) -> Layout:
    if kind == "dinov2":
        return dinov2.layout(ENCODERS[size])
    return depth_anything.layout(depth_anything.SIZES[size])


def _model(kind: str) -> Callable[..., Any]:
    if kind == "dinov2":
        return Dinov2Model.from_pretrained
    return DepthAnythingForDepthEstimation.from_pretrained


def _size_of(encoder: dinov2.Encoder, source: Path) -> str:
    for size, published in ENCODERS.items():
        if encoder == published:
            return size
    raise ValueError(
        f"convert: {source} has an encoder of {encoder}; the official code knows "
        f"{', '.join(ENCODERS)} with their published dimensions only"
    )


def _size_of_config(config: PretrainedConfig, kind: str, source: Path) -> str:
    expected = "dinov2" if kind == "dinov2" else "depth_anything"
    if config.model_type != expected:
        raise ValueError(f"convert: {source} is a {config.model_type}, not {kind}")
    backbone = config if kind == "dinov2" else cast(DepthAnythingConfig, config).backbone_config
    backbone = cast(Dinov2Config, backbone)
    size = _size_of(
        dinov2.Encoder(
            width=backbone.hidden_size,
            depth=backbone.num_hidden_layers,
            heads=backbone.num_attention_heads,
            patch=cast(int, backbone.patch_size),
            image_size=cast(int, backbone.image_size),
            swiglu=backbone.use_swiglu_ffn,
        ),
        source,
    )
    if kind in VERSIONS:
        architecture = depth_anything.SIZES[size]
        wanted = depth_anything.configuration(architecture, version=VERSIONS[kind])
        taps = cast(Dinov2Config, wanted.backbone_config).out_indices
        if backbone.out_indices != taps:
            raise ValueError(
                f"convert: {source} reads encoder blocks {backbone.out_indices}, but {kind} reads "
                f"{taps}; choose the other version"
            )
    return size
