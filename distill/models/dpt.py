"""A depth network on any encoder: DPT (Ranftl et al. 2021) over transformers and timm.

Plain transformers must load what trains here, so the classes that it has decide the shape:

- DINOv2 is Depth Anything's own encoder (`models.depth_anything`), for pictures of any size.
- DINOv3's transformers stand in `CHMv2ForDepthEstimation`, the only head that knows what to do with
  their registers, with one output channel; for any size.
- timm's encoders, and DINOv3's ConvNeXts, which are timm's by other names, stand in DPT-Hybrid:
  their maps of strides 4 and 8, or of a third and two thirds of their depth, go to the fusion
  directly, their deepest map through two transformer blocks. transformers takes pictures of one
  size there, so the exported processor squeezes them to a square, and so does the network itself.
- Other encoders in transformers' layout cannot: within DPT-Hybrid version 5.23 records the stages
  of most of them twice, and reads other ones than it says.
"""

import copy
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    CHMv2Config,
    CHMv2ForDepthEstimation,
    DepthAnythingForDepthEstimation,
    Dinov2Config,
    DPTConfig,
    DPTForDepthEstimation,
    DPTImageProcessor,
    PretrainedConfig,
)

from distill.models.depth_anything import SIZES, DepthAnything, depth_anything, load_depth_anything
from distill.models.encoders import (
    Description,
    Shape,
    describe,
    in_timm,
    load_encoder,
    resized,
    tapped,
)
from distill.models.weights import load_strictly
from distill.types import Space

_WIDTH = 384  # of the transformer blocks over a pyramid
_METRES = 0.25  # of `max_depth`: what a metric network says before it has learned anything


class Dpt(nn.Module):
    """A depth network that normalises its input itself.

    Attributes:
        network: the transformers model; what `save_pretrained` writes.
        space: what the output means.
        multiple: height and width of an image must be multiples of this.
        image_size: side that the exported processor gives pictures, pixels.
        cell: side of what one of the encoder's tokens stands for, pixels.
        weights_from: hub id or path of weights that it starts from.
        imported: loads afresh the model that this one is; None if it is none that was stored.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        network: DPTForDepthEstimation | CHMv2ForDepthEstimation,
        processor: DPTImageProcessor,
        *,
        weights_from: str | Path | None = None,
    ) -> None:
        super().__init__()
        self.weights_from = weights_from
        self.imported: Callable[[], nn.Module] | None = None
        self.network = cast(Any, network).to(memory_format=torch.channels_last)
        metric = getattr(network.config, "depth_estimation_type", "relative") == "metric"
        self.space = Space.METRIC_DEPTH if metric else Space.AFFINE_DISPARITY
        self.image_size = int(cast(Any, processor.size)["height"])
        self.cell = cast(int, network.config.patch_size)
        self._square = isinstance(network, DPTForDepthEstimation)
        # the last two levels lie at twice the cell; of a hybrid any multiple will do
        self.multiple = self.cell if self._square else 2 * self.cell
        for name, values in (("mean", processor.image_mean), ("std", processor.image_std)):
            self.register_buffer(name, torch.tensor(values).view(3, 1, 1), persistent=False)
        self._freeze_what_has_no_part()
        self.train()

    def train(self, mode: bool = True) -> "Dpt":
        """As any module, but batch normalisation keeps the statistics it came with.

        Batches of depth networks are small, and are not one batch over several processes.
        """
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
        return self

    def forward(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b h w"]:
        """Values in `space`, at the size of the image; see `forward_features`."""
        return self.forward_features(image)[0]

    def forward_features(
        self, image: Float[Tensor, "b 3 h w"]
    ) -> tuple[Float[Tensor, "b h w"], Float[Tensor, "b n c"]]:
        """Values in `space` and the cells of the encoder's deepest map, in one pass.

        Args:
            image: RGB in [0, 1]; a network of one size squeezes it, and stretches the values back.

        Returns:
            Disparity >= 0, or metres; float32 under autocast too, for bf16 leaves steps that
            gradient matching would see. Tokens row by row, one for each `cell` of the image.

        Raises:
            ValueError: a side is not a multiple of `multiple`.
        """
        size = height, width = image.shape[-2], image.shape[-1]
        if height % self.multiple or width % self.multiple:
            raise ValueError(
                f"dpt: image {height}x{width}; both sides must be multiples of {self.multiple}: "
                "resize with transforms.network_size"
            )
        pixels = (image - self.mean) / self.std
        fused, deepest = self._hybrid(pixels) if self._square else self._registers(pixels)
        cells = resized(deepest, (height // self.cell, width // self.cell))
        return _stretched(self._decode(fused), size), cells.flatten(2).transpose(1, 2)

    def _hybrid(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """What `DPTForDepthEstimation` fuses, and the encoder's deepest map."""
        network: Any = self.network
        found: list[Tensor] = []

        def look(_module: nn.Module, _given: Any, output: Any) -> None:
            found.append(output.feature_maps[-1])

        handle = network.dpt.embeddings.backbone.register_forward_hook(look)
        try:
            square = resized(pixels, (self.image_size, self.image_size))
            seen = network.dpt(square, output_hidden_states=True)
        finally:
            handle.remove()
        maps = [*seen.intermediate_activations, *seen.hidden_states[1:]]
        return network.neck(maps)[-1], found[0]

    def _registers(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """What `CHMv2ForDepthEstimation` fuses, and the encoder's last map, behind its norm."""
        network: Any = self.network
        seen = network.backbone(pixels)
        maps = list(zip(seen.feature_maps, seen.cls_tokens, strict=True))
        rows, columns = (side // self.cell for side in pixels.shape[-2:])
        return network.head.forward_features(maps, rows, columns), seen.feature_maps[-1]

    def _decode(self, fused: Tensor) -> Float[Tensor, "b h w"]:
        """The head of `network`, its last convolution outside autocast."""
        first, enlarge, second, activation, last = _head(self.network)
        out = activation(second(enlarge(first(fused))))
        with torch.autocast(out.device.type, enabled=False):
            return torch.relu(last(out.float())).squeeze(1)

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Trainable parameters of the encoder, and of all else, which learns ten times faster."""
        groups: dict[str, list[nn.Parameter]] = {"encoder": [], "head": []}
        for name, parameter in self.network.named_parameters():
            if parameter.requires_grad:
                groups["encoder" if "backbone." in name else "head"].append(parameter)
        return groups

    def save_pretrained(self, folder: Path) -> None:
        """Write what plain transformers loads: configuration, weights and image processor."""
        self.network.save_pretrained(folder)
        processor(
            self.network.config,
            side=self.image_size,
            mean=self.mean.flatten().tolist(),
            std=self.std.flatten().tolist(),
        ).save_pretrained(folder)

    def _freeze_what_has_no_part(self) -> None:
        """So that DDP does not wait for their gradients; found by a pass without numbers."""
        with torch.device("meta"):
            shadow: Any = copy.deepcopy(self.network).to("meta")
            side = self.image_size if self._square else 4 * self.cell
            shadow(torch.empty(1, 3, side, side)).predicted_depth.sum().backward()
        pairs = zip(self.network.parameters(), shadow.parameters(), strict=True)
        for parameter, looked_at in pairs:
            parameter.requires_grad_(parameter.requires_grad and looked_at.grad is not None)


def _head(network: Any) -> list[Any]:
    """First convolution, enlargement, second convolution, activation, last convolution."""
    head = network.head
    layers = head.head if isinstance(network, DPTForDepthEstimation) else head.conv_depth.head
    return list(layers)[:5]


def last_convolution(network: Any) -> Any:
    """Whose output is the map, before the final activation."""
    if isinstance(network, DepthAnythingForDepthEstimation):
        return network.head.conv3
    return _head(network)[4]


def _stretched(values: Tensor, size: tuple[int, int]) -> Float[Tensor, "b h w"]:
    if tuple(values.shape[-2:]) == size:
        return values
    return nn.functional.interpolate(values[:, None], size, mode="bilinear", align_corners=True)[
        :, 0
    ]


def processor(
    config: PretrainedConfig, *, side: int, mean: list[float], std: list[float]
) -> DPTImageProcessor:
    """The preprocessing that goes with a network; a network of one size sees all in a square."""
    free = isinstance(config, CHMv2Config)
    return DPTImageProcessor(
        size={"height": side, "width": side},
        keep_aspect_ratio=free,
        ensure_multiple_of=2 * config.patch_size if free else 1,
        resample=3,  # bicubic
        image_mean=mean,
        image_std=std,
    )


def student(
    encoder: str | Path,
    *,
    size: int | None = None,
    fusion: int = 128,
    max_depth: float | None = None,
) -> DepthAnything | Dpt:
    """A depth network to train on an encoder's weights; its head is new.

    The head starts with torch's defaults for convolutions and linear layers, its last bias at 1,
    or the final ReLU may die within the first hundred steps.

    Args:
        encoder: hub id or folder; transformers' layout or timm's.
        size: side for which it is made, pixels; None: 518 of DINOv2, the encoder's own where it
            takes one size alone, 384 of others.
        fusion: channels of the fusion; Depth Anything has 64, 128 and 256 for S, B and L. DINOv2
            has what its size has there.
        max_depth: metres; given, the network predicts metric depth. Of DINOv2 it is the largest
            that can be predicted, of others the size of the numbers to begin with.

    Raises:
        FileNotFoundError: the encoder cannot be had.
        ValueError: plain transformers has no depth network that could hold it, its weights do not
            fit, or it does not take this `size`.
    """
    found = describe(encoder)
    if found.kind == "dinov2":
        return depth_anything(_size_of(found), encoder=encoder, max_depth=max_depth)
    free = found.kind == "dinov3_vit"
    if not free and found.kind != "timm_backbone":
        found = in_timm(found)
    shape = found.shape(size)
    taps = _quarters(found) if free else found.taps
    config = (
        _with_registers(found, taps, fusion) if free else _hybrid(found, taps, fusion, shape.side)
    )
    cast(Any, config).depth_estimation_type = "relative" if max_depth is None else "metric"
    network: Any = (CHMv2ForDepthEstimation if free else DPTForDepthEstimation)(cast(Any, config))
    backbone = network.backbone if free else network.dpt.embeddings.backbone
    backbone.load_state_dict(load_encoder(found, taps).state_dict())
    inside = set(backbone.modules())
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear) and module not in inside:
            module.reset_parameters()
    _begin(network, max_depth)
    shown = processor(network.config, side=shape.side, mean=list(found.mean), std=list(found.std))
    return Dpt(network, shown, weights_from=encoder)


def load_student(source: str | Path) -> DepthAnything | Dpt:
    """A network that `save_pretrained` wrote, or any published Depth Anything, in float32.

    Raises:
        FileNotFoundError: neither here nor on the hub.
        ValueError: it holds another architecture, or weights are missing or left over.
    """
    try:
        kind = AutoConfig.from_pretrained(str(source), trust_remote_code=False)
    except OSError as error:
        raise FileNotFoundError(
            f"{source}: no model with config.json here, nor on the hub"
        ) from error
    if kind.model_type == "depth_anything":
        return load_depth_anything(source)
    if kind.model_type not in {"dpt", "chmv2"} or not hasattr(kind, "depth_estimation_type"):
        raise ValueError(
            f"{source} is a {kind.model_type} that was not trained here; give a Depth Anything or "
            "the folder `model` of a run"
        )
    holder = CHMv2ForDepthEstimation if kind.model_type == "chmv2" else DPTForDepthEstimation
    network = load_strictly(holder.from_pretrained, source)
    shown = DPTImageProcessor.from_pretrained(str(source))
    student = Dpt(network, cast(DPTImageProcessor, shown), weights_from=source)
    student.imported = partial(load_student, source)
    return student


def made_for(source: str | Path) -> Shape:
    """What pictures the network of `load_student(source)` takes; reads no weights.

    Raises:
        FileNotFoundError: neither here nor on the hub.
    """
    try:
        config: Any = AutoConfig.from_pretrained(str(source), trust_remote_code=False)
        shown: Any = DPTImageProcessor.from_pretrained(str(source))
    except OSError as error:
        raise FileNotFoundError(
            f"{source}: no model with its processor here, nor on the hub"
        ) from error
    cell, square = config.patch_size, config.model_type == "dpt"
    multiple = 2 * cell if config.model_type == "chmv2" else cell
    return Shape(int(shown.size["height"]), multiple, cell, square)


def _size_of(found: Description) -> str:
    config = cast(Dinov2Config, found.config)
    for name, size in SIZES.items():
        if (size.encoder.width, size.encoder.depth) == (
            config.hidden_size,
            config.num_hidden_layers,
        ):
            return name
    raise ValueError(
        f"{found.source}: a DINOv2 {config.hidden_size} wide and {config.num_hidden_layers} deep; "
        f"Depth Anything has {', '.join(SIZES)}"
    )


def _quarters(found: Description) -> list[int]:
    """Four blocks spread over the depth, as V2 reads them; stage 0 is the embedding."""
    depth = len(found.maps) - 1
    return [round(depth * part / 4) for part in (1, 2, 3, 4)]


def _with_registers(found: Description, taps: list[int], fusion: int) -> CHMv2Config:
    config: Any = tapped(found.config, taps)
    config.apply_layernorm, config.return_class_token = True, True
    for random in ("shift", "jitter", "rescale"):  # of positions, which pre-training moves
        setattr(config, f"pos_embed_{random}", None)
    return CHMv2Config(
        architectures=[CHMv2ForDepthEstimation.__name__],
        backbone_config=config,
        patch_size=config.patch_size,
        post_process_channels=[fusion // 2, fusion, 2 * fusion, 4 * fusion],
        fusion_hidden_size=fusion,
        head_hidden_size=32,
        number_output_channels=1,  # not bins but the number itself, behind a ReLU
        min_depth=0.0,
        readout_type="ignore",
    )


def _hybrid(found: Description, taps: list[int], fusion: int, side: int) -> DPTConfig:
    (fine, _), (middle, _), (deep, stride) = (found.maps[tap] for tap in taps)
    # transformers takes the width of the blocks from the encoder where that says one
    width = cast(int, getattr(found.config, "hidden_size", _WIDTH))
    heads = next(heads for heads in range(max(1, width // 64), 0, -1) if width % heads == 0)
    power = round(math.log2(stride / 16))  # of two, which bring the blocks' maps to strides 16, 32
    return DPTConfig(
        architectures=[DPTForDepthEstimation.__name__],
        is_hybrid=True,
        backbone_config=tapped(found.config, taps),
        backbone_featmap_shape=[1, deep, side // stride, side // stride],
        backbone_out_indices=[0, 1, 0, 1],  # of the last two, which block
        hidden_size=width,
        num_hidden_layers=2,
        num_attention_heads=heads,
        intermediate_size=4 * width,
        layer_norm_eps=1e-6,
        image_size=side,
        patch_size=stride,
        neck_hidden_sizes=[fine, middle, 2 * fusion, 4 * fusion],
        reassemble_factors=[1, 1, 2**power, 2 ** (power - 1)],
        fusion_hidden_size=fusion,
    )


def _begin(network: nn.Module, max_depth: float | None) -> None:
    """The last convolution: alive, and in metres where metres are predicted."""
    last = last_convolution(network)
    with torch.no_grad():
        last.bias.fill_(1.0)
        if max_depth is not None:
            last.weight *= _METRES * max_depth
            last.bias *= _METRES * max_depth
