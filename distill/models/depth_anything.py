"""Depth Anything V1 and V2 (Yang et al. 2024a, 2024b): DINOv2 encoder, DPT head, over transformers.

The network that trains is the one that is exported, final ReLU included. Published sizes have the
published dimensions; the `tiny` ones train from scratch on two CPU cores.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import (
    DepthAnythingConfig,
    DepthAnythingForDepthEstimation,
    Dinov2Config,
    DPTImageProcessor,
)

from distill.models import attention, dinov2
from distill.models.dinov2 import ENCODERS, IMAGENET_MEAN, IMAGENET_STD, Encoder
from distill.models.scratch import initialise
from distill.models.weights import Layout, Stored, affine, load_strictly
from distill.types import Space

# by the forward pass, and absent from some published files
_NEVER_READ = r"mask_token$|fusion_stage\.layers\.0\.residual_layer1\."


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """Dimensions of one size: the encoder, the four reassembled widths, the fusion width.

    `taps` are the encoder blocks (1-based) that V2 reads; V1 reads the last four.
    """

    encoder: Encoder
    taps: tuple[int, int, int, int]
    necks: tuple[int, int, int, int]
    fusion: int
    head: int = 32


SIZES = {
    "vits": Architecture(
        encoder=ENCODERS["vits"], taps=(3, 6, 9, 12), necks=(48, 96, 192, 384), fusion=64
    ),
    "vitb": Architecture(
        encoder=ENCODERS["vitb"], taps=(3, 6, 9, 12), necks=(96, 192, 384, 768), fusion=128
    ),
    "vitl": Architecture(
        encoder=ENCODERS["vitl"], taps=(5, 12, 18, 24), necks=(256, 512, 1024, 1024), fusion=256
    ),
    "vitg": Architecture(
        encoder=ENCODERS["vitg"], taps=(10, 20, 30, 40), necks=(1536, 1536, 1536, 1536), fusion=384
    ),
    "tiny": Architecture(
        encoder=Encoder(width=96, depth=6, heads=3, patch=8, image_size=56),
        taps=(2, 3, 5, 6),
        necks=(24, 32, 48, 64),
        fusion=32,
        head=16,
    ),
    "tiny_teacher": Architecture(
        encoder=Encoder(width=144, depth=6, heads=4, patch=8, image_size=56),
        taps=(2, 3, 5, 6),
        necks=(24, 32, 48, 64),
        fusion=32,
        head=16,
    ),
}


def configuration(
    architecture: Architecture, *, max_depth: float | None = None, version: int = 2
) -> DepthAnythingConfig:
    """The transformers configuration of a size.

    Args:
        architecture: such as an entry of `SIZES`.
        max_depth: metres; given, the network predicts metric depth up to it (sigmoid), and
            affine-invariant disparity (ReLU) otherwise.
        version: which encoder blocks the head reads; 1: the last four, 2: spread over the depth.

    Raises:
        ValueError: an unknown version, or a `max_depth` that is not whole and positive.
    """
    if version not in {1, 2}:
        raise ValueError(f"depth_anything: no version {version!r}; choose 1 or 2")
    if max_depth is not None and (max_depth <= 0 or max_depth % 1):
        raise ValueError(
            f"depth_anything: max_depth {max_depth} m; transformers stores whole metres > 0, "
            "such as 20 indoors or 80 outdoors"
        )
    encoder = architecture.encoder
    taps = architecture.taps if version == 2 else tuple(range(encoder.depth - 3, encoder.depth + 1))
    return DepthAnythingConfig(
        architectures=[DepthAnythingForDepthEstimation.__name__],
        backbone_config=dinov2.configuration(
            encoder, out_indices=list(taps), reshape_hidden_states=False
        ),
        patch_size=encoder.patch,
        reassemble_hidden_size=encoder.width,
        neck_hidden_sizes=list(architecture.necks),
        fusion_hidden_size=architecture.fusion,
        head_hidden_size=architecture.head,
        depth_estimation_type="relative" if max_depth is None else "metric",
        max_depth=1 if max_depth is None else int(max_depth),
    )


class DepthAnything(nn.Module):
    """A depth network that normalises its input itself.

    Attributes:
        network: the transformers model; what `save_pretrained` writes.
        space: what the output means.
        multiple: height and width of an image must be multiples of this.
        image_size: side for which the position embedding is stored, pixels.
        weights_from: hub id or path of weights that it starts from; None from scratch.
        imported: loads afresh the model that this one is; None if it is none that was stored.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, network: DepthAnythingForDepthEstimation, *, weights_from: str | Path | None = None
    ) -> None:
        super().__init__()
        self.weights_from = weights_from
        self.imported: Callable[[], nn.Module] | None = None
        # convolutions over channels_last run 1.5 to 2 times faster on CPU, and on GPU in bf16
        self.network = network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue] - overload of nn.Module.to
        metric = network.config.depth_estimation_type == "metric"
        self.space = Space.METRIC_DEPTH if metric else Space.AFFINE_DISPARITY
        self.multiple = cast(int, network.config.patch_size)
        self.image_size = _image_size(network.config)
        network.backbone.set_attn_implementation(attention.NAME)
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(3, 1, 1), persistent=False)
        for parameter in self._unused():
            parameter.requires_grad_(False)  # so that DDP does not wait for their gradients

    def forward(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b h w"]:
        """Values in `space`, at the size of the image; see `forward_features`."""
        return self.forward_features(image)[0]

    def forward_features(
        self, image: Float[Tensor, "b 3 h w"]
    ) -> tuple[Float[Tensor, "b h w"], Float[Tensor, "b n c"]]:
        """Values in `space` and the patch tokens behind the encoder's final norm, in one pass.

        Args:
            image: RGB in [0, 1].

        Returns:
            Disparity >= 0, or metres; float32 under autocast too, for bf16 leaves steps that
            gradient matching would see. Tokens row by row.

        Raises:
            ValueError: a side is not a multiple of the patch.
        """
        height, width = image.shape[-2:]
        if height % self.multiple or width % self.multiple:
            raise ValueError(
                f"depth_anything: image {height}x{width}; both sides must be multiples of "
                f"{self.multiple}: resize with transforms.network_size"
            )
        grid = height // self.multiple, width // self.multiple
        maps = self.network.backbone((image - self.mean) / self.std).feature_maps
        fused = self.network.neck(list(maps), *grid)[-1]
        return self._decode(fused, (height, width)), maps[-1][:, 1:]

    def _decode(self, fused: Tensor, size: tuple[int, int]) -> Float[Tensor, "b h w"]:
        """The head of `network`, its last convolution outside autocast.

        That one, of 1x1 pixel to one channel, is a product here: convolutions are slow at it.
        """
        head = self.network.head
        out = head.conv1(fused)
        if out.shape[-2:] != size:
            out = nn.functional.interpolate(out, size, mode="bilinear", align_corners=True)
        out = head.activation1(head.conv2(out))
        with torch.autocast(out.device.type, enabled=False):
            features = out.permute(0, 2, 3, 1).float()
            values = features @ head.conv3.weight.flatten() + head.conv3.bias
            return head.activation2(values) * head.max_depth

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Trainable parameters of the encoder, and of the head, which learns ten times faster."""
        groups: dict[str, list[nn.Parameter]] = {"encoder": [], "head": []}
        for name, parameter in self.network.named_parameters():
            if parameter.requires_grad:
                groups["encoder" if name.startswith("backbone.") else "head"].append(parameter)
        return groups

    def save_pretrained(self, folder: Path) -> None:
        """Write what plain transformers loads: configuration, weights and image processor."""
        self.network.save_pretrained(folder)
        image_processor(self.network.config).save_pretrained(folder)

    def _unused(self) -> list[nn.Parameter]:
        """The mask token, and the unit of the topmost fusion that never gets a second input."""
        unused = list(self.network.neck.fusion_stage.layers[0].residual_layer1.parameters())
        token = self.network.backbone.embeddings.mask_token
        return unused if token is None else [*unused, token]


def image_processor(config: DepthAnythingConfig) -> DPTImageProcessor:
    """The preprocessing that goes with a network, as the published checkpoints declare it."""
    side = _image_size(config)
    return DPTImageProcessor(
        size={"height": side, "width": side},
        keep_aspect_ratio=True,
        ensure_multiple_of=cast(int, config.patch_size),
        resample=3,  # bicubic
        image_mean=list(IMAGENET_MEAN),
        image_std=list(IMAGENET_STD),
    )


def _image_size(config: DepthAnythingConfig) -> int:
    return cast(int, cast(Dinov2Config, config.backbone_config).image_size)


def depth_anything(
    size: str | Architecture,
    *,
    encoder: str | Path | None = None,
    max_depth: float | None = None,
    version: int = 2,
) -> DepthAnything:
    """A network to train: encoder from DINOv2 weights or from scratch, head always from scratch.

    The head starts with torch's defaults for convolutions, as the released code does, not with
    transformers' deviation of 0.02, which shrinks the signal through its depth. Its last bias
    starts at 1, or the final ReLU may die within the first hundred steps.

    Args:
        size: one of `SIZES` by its name, or dimensions of your own.
        encoder: hub id, local directory or official `.pth` of DINOv2 weights of this size; or the
            folder of a Depth Anything, whose encoder is taken.
        max_depth: metres; given, the network predicts metric depth up to it.
        version: 1 or 2, which encoder blocks the head reads.

    Raises:
        ValueError: an unknown size or version, or an encoder of other dimensions.
        FileNotFoundError: the encoder cannot be had.
    """
    if isinstance(size, str) and size not in SIZES:
        raise ValueError(f"depth_anything: no size {size!r}; choose one of {', '.join(SIZES)}")
    architecture = SIZES[size] if isinstance(size, str) else size
    config = configuration(architecture, max_depth=max_depth, version=version)
    with torch.device("meta"):
        network = DepthAnythingForDepthEstimation(config)
    network.to_empty(device="cpu")
    if encoder is None:
        initialise(network.backbone)
    else:
        network.backbone.load_state_dict(_encoder_weights(encoder, architecture))
    for module in [*network.neck.modules(), *network.head.modules()]:
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            module.reset_parameters()
    if max_depth is None:
        nn.init.ones_(cast(Tensor, network.head.conv3.bias))
    return DepthAnything(network, weights_from=encoder)


def _encoder_weights(source: str | Path, architecture: Architecture) -> dict[str, Tensor]:
    """Of a Depth Anything's folder its encoder's, of anything else those of DINOv2."""
    config = Path(source) / "config.json"
    if not config.is_file() or json.loads(config.read_text())["model_type"] != "depth_anything":
        return dinov2.dinov2_encoder(source, architecture.encoder).state_dict()
    backbone = load_depth_anything(source).network.backbone
    dinov2.check_dimensions(backbone.config, architecture.encoder, source)
    return backbone.state_dict()


def load_depth_anything(source: str | Path) -> DepthAnything:
    """A network that `save_pretrained` or `distill convert` wrote, or of the hub, in float32.

    Raises:
        FileNotFoundError: a folder without configuration, or the hub does not answer for it.
        ValueError: it holds another architecture, or weights are missing or left over.
    """
    try:
        if Path(source).is_dir() and not (Path(source) / "config.json").is_file():
            raise FileNotFoundError
        network = load_strictly(
            DepthAnythingForDepthEstimation.from_pretrained, source, absent=_NEVER_READ
        )
    except OSError as error:
        raise FileNotFoundError(
            f"depth_anything: no config.json in {source}; a trained model is the folder `model` of "
            "its run, an official .pth becomes one with `distill convert`"
        ) from error
    student = DepthAnything(network, weights_from=source)
    student.imported = partial(load_depth_anything, source)
    return student


def layout(architecture: Architecture) -> Layout:
    """Every tensor of an official checkpoint, by its name there: 75 and 14 for each block.

    V1, V2, relative and metric checkpoints share names and shapes.
    """
    encoder = {
        f"pretrained.{official}": Stored(s.shape, tuple(f"backbone.{name}" for name in s.names))
        for official, s in dinov2.layout(architecture.encoder).items()
    }
    head = _reassembly(architecture)
    for level in range(4):
        head |= _fusion(f"scratch.refinenet{4 - level}", level, architecture.fusion)
    fusion, last = architecture.fusion, architecture.head
    head |= affine("scratch.output_conv1", (fusion // 2, fusion, 3, 3), "head.conv1")
    head |= affine("scratch.output_conv2.0", (last, fusion // 2, 3, 3), "head.conv2")
    head |= affine("scratch.output_conv2.2", (1, last, 1, 1), "head.conv3")
    return encoder | {f"depth_head.{official}": stored for official, stored in head.items()}


def _reassembly(architecture: Architecture) -> Layout:
    """Projection, resize (none at level 2) and first convolution of the four tapped maps."""
    found: Layout = {}
    kernels = {0: 4, 1: 2, 3: 3}
    for level, channels in enumerate(architecture.necks):
        name = f"neck.reassemble_stage.layers.{level}"
        shape = (channels, architecture.encoder.width, 1, 1)
        found |= affine(f"projects.{level}", shape, f"{name}.projection")
        if level in kernels:
            shape = (channels, channels, kernels[level], kernels[level])
            found |= affine(f"resize_layers.{level}", shape, f"{name}.resize")
        stored = Stored((architecture.fusion, channels, 3, 3), (f"neck.convs.{level}.weight",))
        found[f"scratch.layer{level + 1}_rn.weight"] = stored
    return found


def _fusion(official: str, level: int, channels: int) -> Layout:
    name = f"neck.fusion_stage.layers.{level}"
    found = affine(f"{official}.out_conv", (channels, channels, 1, 1), f"{name}.projection")
    for unit in (1, 2):
        for k in (1, 2):
            found |= affine(
                f"{official}.resConfUnit{unit}.conv{k}",
                (channels, channels, 3, 3),
                f"{name}.residual_layer{unit}.convolution{k}",
            )
    return found
