"""Networks that will never train again, laid out to run fast: DINOv2, and Depth Anything on it.

The same function as the transformers network each is made from, in fewer steps: query, key and
value in one product; layer scale and the attention's 1/sqrt(d) inside the weights; patches embedded
by a product; positions interpolated once for each size; the 1x1 convolutions of the fusion before
its interpolation, with which they commute (both are linear, and the weights of a bilinear mean add
up to 1), on a quarter of the pixels. What is folded is folded in float32, and cast once.
"""

import copy
import math
from collections.abc import Sequence
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import gelu, interpolate, relu, scaled_dot_product_attention, silu
from transformers import DepthAnythingForDepthEstimation, Dinov2Config


def freezable(network: nn.Module) -> bool:
    """Whether `FrozenDepthAnything` is the same function: a DINOv2 encoder and a DPT head.

    False for another architecture, and for settings that no published checkpoint has.
    """
    if not isinstance(network, DepthAnythingForDepthEstimation):
        return False
    encoder = network.config.backbone_config
    return (
        isinstance(encoder, Dinov2Config)
        and encoder.hidden_act == "gelu"
        and encoder.apply_layernorm
        and not encoder.reshape_hidden_states
        and network.config.head_in_index == -1
    )


class FrozenEncoder(nn.Module):
    """A DINOv2 encoder (Oquab et al. 2024) for normalised images.

    Activations between the blocks stay in float32, as under autocast: outliers of DINOv2 lie
    hundreds above the rest.

    Args:
        encoder: of transformers, model or backbone, in float32; left as it is.
        dtype: of weights and products, float32 or bfloat16.

    Attributes:
        dtype: see there; `cast` changes it.
        patch: side of a patch, pixels.
        stored: the class token's and the patches' position embedding, float32.
    """

    cls: Tensor
    stored: Tensor
    _no_split_modules = ("_Block",)  # as transformers names what is compiled or sharded one by one

    def __init__(self, encoder: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        source: Any = encoder
        embeddings = source.embeddings
        projection = embeddings.patch_embeddings.projection
        self.dtype, self.patch = dtype, cast(int, projection.kernel_size[0])
        self.embed = _linear(projection.weight.detach().flatten(1), projection.bias, dtype)
        self.register_buffer("cls", embeddings.cls_token.detach().clone())
        self.register_buffer("stored", embeddings.position_embeddings.detach().clone())
        layers = list(source.layers if hasattr(source, "layers") else source.encoder.layer)
        self.blocks = nn.ModuleList(_Block(layer, dtype) for layer in layers)
        self.norm = _norm(source.layernorm)
        self._positions: dict[tuple[int, int, torch.device], Tensor] = {}

    def cast(self, dtype: torch.dtype) -> None:
        """Weights and products in `dtype` from now on; what bfloat16 has rounded stays so."""
        if dtype == self.dtype:
            return
        self.dtype = dtype
        with torch.inference_mode(False):  # or the weights would be good for that mode alone
            for module in self.modules():
                if isinstance(module, nn.Linear):
                    module.weight = _fixed(module.weight, dtype)
                    if module.bias is not None:
                        module.bias = _fixed(module.bias, dtype)

    def forward(
        self,
        pixels: Float[Tensor, "b 3 h w"],
        positions: Float[Tensor, "1 n c"],
        taps: Sequence[int],
    ) -> list[Float[Tensor, "b m c"]]:
        """Patch tokens behind the blocks `taps` (from 0) and the final norm, float32.

        Tensors in, tensors out, nothing kept.

        Args:
            pixels: normalised; both sides multiples of the patch.
            positions: of their grid.
            taps: ascending.
        """
        size = self.patch
        patches = pixels.unfold(2, size, size).unfold(3, size, size).permute(0, 2, 3, 1, 4, 5)
        tokens = self.embed(patches.to(self.dtype).flatten(3).flatten(1, 2)).float()
        first = positions[:, :1].expand(len(pixels), -1, -1)
        tokens = torch.cat([first, tokens + positions[:, 1:]], dim=1)
        found = []
        for number, block in enumerate(self.blocks):
            tokens = block(tokens)
            if number in taps:
                found.append(self.norm(tokens)[:, 1:])
        return found

    def positions(self, rows: int, columns: int) -> Float[Tensor, "1 n c"]:
        """The class token and the position embedding of a grid, interpolated once."""
        key = (rows, columns, self.stored.device)
        if key not in self._positions:
            side = math.isqrt(self.stored.shape[1] - 1)
            grid = self.stored[:, 1:].unflatten(1, (side, side)).permute(0, 3, 1, 2)
            if (rows, columns) != (side, side):
                grid = interpolate(grid, (rows, columns), mode="bicubic", align_corners=False)
            first = self.cls + self.stored[:, :1]
            self._positions[key] = torch.cat([first, grid.flatten(2).transpose(1, 2)], dim=1)
        return self._positions[key]


class FrozenDepthAnything(nn.Module):
    """The network's values for normalised images; see the module's docstring.

    The last convolution runs in float32, for bf16 leaves steps of 0.4 % in a map.

    Args:
        network: for which `freezable` holds, in float32; left as it is.
        dtype: of weights and products, float32 or bfloat16.

    Attributes:
        encoder: its own.
        patch: side of a patch, pixels.
    """

    def __init__(self, network: DepthAnythingForDepthEstimation, dtype: torch.dtype) -> None:
        super().__init__()
        backbone: Any = network.backbone
        self.encoder = FrozenEncoder(backbone, dtype)
        self.patch = self.encoder.patch
        stages = list(backbone.stage_names)
        # stage 0 is the embedding
        self._taps = [stages.index(name) - 1 for name in backbone.out_features]
        self.head = _Head(network, dtype)

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.encoder.stored.device

    def forward(self, pixels: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b h w"]:
        """Values in the network's space, float32, at the size of `pixels`."""
        grid = pixels.shape[-2] // self.patch, pixels.shape[-1] // self.patch
        return self.run(pixels, self.encoder.positions(*grid))

    def run(
        self, pixels: Float[Tensor, "b 3 h w"], positions: Float[Tensor, "1 n c"]
    ) -> Float[Tensor, "b h w"]:
        """`forward` with the `positions` of its encoder given: tensors in, a tensor out."""
        rows, columns = pixels.shape[-2] // self.patch, pixels.shape[-1] // self.patch
        maps = [
            tokens.to(self.encoder.dtype).unflatten(1, (rows, columns)).permute(0, 3, 1, 2)
            for tokens in self.encoder(pixels, positions, self._taps)
        ]
        return self.head(maps, (rows * self.patch, columns * self.patch))


class _Block(nn.Module):
    def __init__(self, layer: Any, dtype: torch.dtype) -> None:
        super().__init__()
        attention = layer.attention
        self._heads = attention.num_attention_heads
        scale = attention.head_dim**-0.5
        parts = (attention.q_proj, scale), (attention.k_proj, 1.0), (attention.v_proj, 1.0)
        weight = torch.cat([part.weight.detach() * factor for part, factor in parts])
        bias = None
        if attention.q_proj.bias is not None:
            bias = torch.cat([part.bias.detach() * factor for part, factor in parts])
        self.qkv = _linear(weight, bias, dtype)
        self.out = _scaled(attention.o_proj, layer.layer_scale1.lambda1, dtype)
        self.norm1, self.norm2 = _norm(layer.norm1), _norm(layer.norm2)
        mlp = layer.mlp
        self._gated = hasattr(mlp, "gate_proj")
        if self._gated:
            weight = torch.cat([mlp.gate_proj.weight.detach(), mlp.up_proj.weight.detach()])
            bias = torch.cat([mlp.gate_proj.bias.detach(), mlp.up_proj.bias.detach()])
            self.inner, outer = _linear(weight, bias, dtype), mlp.down_proj
        else:
            self.inner, outer = _linear(mlp.fc1.weight, mlp.fc1.bias, dtype), mlp.fc2
        self.outer = _scaled(outer, layer.layer_scale2.lambda1, dtype)

    def forward(self, tokens: Tensor) -> Tensor:
        """Pre-norm transformer block."""
        dtype = self.qkv.weight.dtype
        qkv = self.qkv(self.norm1(tokens).to(dtype)).unflatten(-1, (3, self._heads, -1))
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind()
        found = scaled_dot_product_attention(query, key, value, scale=1.0)
        tokens = tokens + self.out(found.transpose(1, 2).flatten(2))
        hidden = self.inner(self.norm2(tokens).to(dtype))
        if self._gated:
            gate, up = hidden.chunk(2, dim=-1)
            hidden = silu(gate) * up
        else:
            hidden = gelu(hidden)
        return tokens + self.outer(hidden)


class _Head(nn.Module):
    """The DPT head (Ranftl et al. 2021), over channels_last."""

    weight: Tensor
    bias: Tensor

    def __init__(self, network: DepthAnythingForDepthEstimation, dtype: torch.dtype) -> None:
        super().__init__()
        neck: Any = network.neck
        head: Any = network.head
        stage = neck.reassemble_stage.layers
        self.projections = nn.ModuleList(_cast(layer.projection, dtype) for layer in stage)
        self.resizes = nn.ModuleList(_cast(layer.resize, dtype) for layer in stage)
        self.convs = nn.ModuleList(_cast(conv, dtype) for conv in neck.convs)
        self.fusions = nn.ModuleList(_Fusion(layer, dtype) for layer in neck.fusion_stage.layers)
        self.conv1, self.conv2 = _cast(head.conv1, dtype), _cast(head.conv2, dtype)
        self.register_buffer("weight", head.conv3.weight.detach().flatten().clone())
        self.register_buffer("bias", head.conv3.bias.detach().clone())
        self._metric = network.config.depth_estimation_type == "metric"
        self._max_depth = float(network.config.max_depth or 1)

    def forward(self, maps: list[Tensor], size: tuple[int, int]) -> Tensor:
        """Values (b, h, w) of `size` from the four maps of tokens."""
        parts = zip(maps, self.projections, self.resizes, self.convs, strict=True)
        levels = [conv(resize(project(level))) for level, project, resize, conv in parts][::-1]
        fused = None
        for number, fusion in enumerate(self.fusions):
            level = levels[number]
            after = levels[number + 1].shape[-2:] if number + 1 < len(levels) else None
            fused = fusion(fused, level, after or [2 * side for side in level.shape[-2:]])
        out = interpolate(self.conv1(fused), size, mode="bilinear", align_corners=True)
        features = relu(self.conv2(out)).permute(0, 2, 3, 1).float()
        values = features @ self.weight + self.bias
        return values.sigmoid() * self._max_depth if self._metric else relu(values)


class _Fusion(nn.Module):
    def __init__(self, layer: Any, dtype: torch.dtype) -> None:
        super().__init__()
        units = layer.residual_layer1, layer.residual_layer2
        self.units = nn.ModuleList(
            nn.ModuleList(_cast(conv, dtype) for conv in (unit.convolution1, unit.convolution2))
            for unit in units
        )
        self.projection = _cast(layer.projection, dtype)

    def forward(self, fused: Tensor | None, level: Tensor, size: Any) -> Tensor:
        """The level joined to what was fused below it, enlarged to `size`."""
        joined = level if fused is None else fused + _residual(self.units[0], level)
        joined = self.projection(_residual(self.units[1], joined))
        return interpolate(joined, size, mode="bilinear", align_corners=True)


def _residual(unit: Any, level: Tensor) -> Tensor:
    first, second = unit
    return level + second(relu(first(relu(level))))


def _linear(weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> nn.Linear:
    made = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    made.weight = _fixed(weight, dtype)
    if bias is not None:
        made.bias = _fixed(bias, dtype)
    return made


def _fixed(weight: Tensor, dtype: torch.dtype) -> nn.Parameter:
    return nn.Parameter(weight.detach().to(dtype, copy=True), requires_grad=False)


def _scaled(linear: nn.Linear, scale: Tensor, dtype: torch.dtype) -> nn.Linear:
    """`scale * linear(x)` as one product."""
    scale = scale.detach()
    bias = None if linear.bias is None else linear.bias.detach() * scale
    return _linear(linear.weight.detach() * scale[:, None], bias, dtype)


def _norm(norm: nn.LayerNorm) -> nn.LayerNorm:
    made = nn.LayerNorm(list(norm.normalized_shape), eps=norm.eps)
    made.load_state_dict(norm.state_dict())
    return made.to(norm.weight.device).requires_grad_(False)


def _cast(module: nn.Module, dtype: torch.dtype) -> Any:
    """A copy in `dtype`, over channels_last."""
    made: Any = copy.deepcopy(module).to(dtype).requires_grad_(False)
    return made.to(memory_format=torch.channels_last)
