"""DINOv2 encoders (Oquab et al. 2024): dimensions, both weight layouts.

Weights come from the hub, from a local directory that transformers loads, or from an official
`dinov2_vit{s,b,l,g}14_pretrain.pth`. Register variants are another architecture and are refused:
the giant one makes a far worse depth encoder (Depth Anything V2, table 13).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import AutoConfig, Dinov2Config, Dinov2Model

from distill.models.frozen import FrozenEncoder
from distill.models.weights import (
    Layout,
    Stored,
    affine,
    load_strictly,
    read_official,
    to_transformers,
)

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True, kw_only=True)
class Encoder:
    """Dimensions of a DINOv2-shaped vision transformer; published heads have 64 channels."""

    width: int
    depth: int
    heads: int
    patch: int = 14
    image_size: int = 518
    swiglu: bool = False

    @property
    def hidden(self) -> int:
        """Channels inside the feed-forward block: 4 widths, or two thirds of that for SwiGLU."""
        return (int(4 * self.width * 2 / 3) + 7) // 8 * 8 if self.swiglu else 4 * self.width


ENCODERS = {
    "vits": Encoder(width=384, depth=12, heads=6),
    "vitb": Encoder(width=768, depth=12, heads=12),
    "vitl": Encoder(width=1024, depth=24, heads=16),
    "vitg": Encoder(width=1536, depth=40, heads=24, swiglu=True),
}


def configuration(encoder: Encoder, **extra: Any) -> Dinov2Config:
    """The transformers configuration of `encoder`; `extra` are further fields of it."""
    return Dinov2Config(
        hidden_size=encoder.width,
        num_hidden_layers=encoder.depth,
        num_attention_heads=encoder.heads,
        patch_size=encoder.patch,
        image_size=encoder.image_size,
        use_swiglu_ffn=encoder.swiglu,
        **extra,
    )


def dinov2_encoder(source: str | Path, expected: Encoder | None = None) -> Dinov2Model:
    """A DINOv2 encoder with its weights, in float32.

    Args:
        source: hub id, local directory, or official `.pth`.
        expected: dimensions that the caller needs.

    Raises:
        FileNotFoundError: neither here nor on the hub.
        ValueError: another architecture, other dimensions, or weights missing or left over.
    """
    if Path(source).is_file():
        state = read_official(Path(source))
        encoder = encoder_of(state, str(source))
        weights = to_transformers(state, layout(encoder), str(source))
        config = configuration(encoder)
        model = Dinov2Model.from_pretrained(None, config=config, state_dict=weights)
    else:
        model = _from_transformers(source)
        config = model.config
    if expected is not None:
        check_dimensions(config, expected, source)
    return model


def _from_transformers(source: str | Path) -> Dinov2Model:
    try:
        config = AutoConfig.from_pretrained(source)
        if config.model_type != "dinov2":
            raise ValueError(
                f"dinov2: {source} is a {config.model_type}; need DINOv2 without registers, such "
                "as facebook/dinov2-small"
            )
        # the mask token is for pre-training; a file may do without
        return load_strictly(Dinov2Model.from_pretrained, source, absent=r"mask_token$")
    except OSError as error:
        raise FileNotFoundError(
            f"dinov2: cannot get {source}: no such directory or file, and the hub does not answer "
            "for it; download it where there is network (`hf download facebook/dinov2-small "
            "--local-dir DIR`, or an official dinov2_vits14_pretrain.pth) and give its path"
        ) from error


def check_dimensions(config: Dinov2Config, expected: Encoder, source: str | Path) -> None:
    """Refuse an encoder of other dimensions than `expected`.

    Raises:
        ValueError: as said.
    """
    wanted = configuration(expected)
    for field in (
        "hidden_size",
        "num_hidden_layers",
        "num_attention_heads",
        "patch_size",
        "image_size",
        "use_swiglu_ffn",
    ):
        have, want = getattr(config, field), getattr(wanted, field)
        if have != want:
            raise ValueError(
                f"dinov2: {source} has {field} {have}, but this model size needs {want}; "
                "take the encoder of the same size"
            )


class FrozenDinov2(nn.Module):
    """The fixed encoder that feature alignment compares with; it never trains, nor leaves eval.

    It computes in the precision of the autocast around it: its weights are cast when that is first
    met, and not again at each step.

    Attributes:
        multiple: height and width of an image must be multiples of this.
        weights_from: hub id or path.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, source: str | Path) -> None:
        super().__init__()
        self.weights_from = source
        self.encoder = FrozenEncoder(self._load(source), torch.float32)
        self.multiple = self.encoder.patch
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(3, 1, 1), persistent=False)
        self.train(False)

    def _load(self, source: str | Path) -> nn.Module:
        return dinov2_encoder(source)

    def train(self, mode: bool = True) -> "FrozenDinov2":  # noqa: ARG002 - frozen whatever is asked
        """Stay in eval mode."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b n c"]:
        """Patch tokens behind the final norm, row by row; the position embedding is interpolated.

        Args:
            image: RGB in [0, 1].

        Raises:
            ValueError: a side is not a multiple of the patch.
        """
        height, width = image.shape[-2:]
        if height % self.multiple or width % self.multiple:
            raise ValueError(
                f"dinov2: image {height}x{width}; both sides must be multiples of {self.multiple}"
            )
        kind = image.device.type
        bf16 = torch.is_autocast_enabled(kind) and torch.get_autocast_dtype(kind) == torch.bfloat16
        self.encoder.cast(torch.bfloat16 if bf16 else torch.float32)
        positions = self.encoder.positions(height // self.multiple, width // self.multiple)
        last = len(self.encoder.blocks) - 1
        return self.encoder((image - self.mean) / self.std, positions, [last])[0]


def layout(encoder: Encoder) -> Layout:
    """Every tensor of an official DINOv2 file, by its name there.

    Names on the right are those of files that transformers writes; in memory its version 5 uses
    others, and translates.
    """
    width, patch = encoder.width, encoder.patch
    tokens = (encoder.image_size // patch) ** 2 + 1
    found = {
        "cls_token": Stored((1, 1, width), ("embeddings.cls_token",)),
        "pos_embed": Stored((1, tokens, width), ("embeddings.position_embeddings",)),
        "mask_token": Stored((1, width), ("embeddings.mask_token",)),
    }
    projection = "embeddings.patch_embeddings.projection"
    found |= affine("patch_embed.proj", (width, 3, patch, patch), projection)
    for index in range(encoder.depth):
        found |= _block(encoder, f"blocks.{index}", f"encoder.layer.{index}")
    return found | affine("norm", (width,), "layernorm")


def _block(encoder: Encoder, official: str, name: str) -> Layout:
    width, hidden = encoder.width, encoder.hidden
    attention = f"{name}.attention.attention"
    qkv = [f"{attention}.{part}" for part in ("query", "key", "value")]
    found = (
        affine(f"{official}.norm1", (width,), f"{name}.norm1")
        | affine(f"{official}.attn.qkv", (3 * width, width), *qkv)
        | affine(f"{official}.attn.proj", (width, width), f"{name}.attention.output.dense")
        | affine(f"{official}.norm2", (width,), f"{name}.norm2")
    )
    inner, outer, rows = ("w12", "w3", 2 * hidden) if encoder.swiglu else ("fc1", "fc2", hidden)
    names = ("weights_in", "weights_out") if encoder.swiglu else ("fc1", "fc2")
    found |= affine(f"{official}.mlp.{inner}", (rows, width), f"{name}.mlp.{names[0]}")
    found |= affine(f"{official}.mlp.{outer}", (width, hidden), f"{name}.mlp.{names[1]}")
    for k in (1, 2):
        found[f"{official}.ls{k}.gamma"] = Stored((width,), (f"{name}.layer_scale{k}.lambda1",))
    return found


def encoder_of(state: Mapping[str, Tensor], source: str, prefix: str = "") -> Encoder:
    """Dimensions of the encoder in an official state, read from shapes.

    Raises:
        ValueError: the tensors that tell are not there.
    """
    try:
        patch_embed = state[f"{prefix}patch_embed.proj.weight"]
        positions = state[f"{prefix}pos_embed"].shape[1] - 1
    except KeyError as error:
        raise ValueError(
            f"{source}: no tensor {error}, so not an official file of this kind; it starts with "
            f"{sorted(state)[:3]}"
        ) from error
    width, patch = patch_embed.shape[0], patch_embed.shape[-1]
    blocks = {match[1] for key in state if (match := re.match(rf"{prefix}blocks\.(\d+)\.", key))}
    return Encoder(
        width=width,
        depth=len(blocks),
        heads=max(1, width // 64),
        patch=patch,
        image_size=int(positions**0.5) * patch,
        swiglu=f"{prefix}blocks.0.mlp.w12.weight" in state,
    )
