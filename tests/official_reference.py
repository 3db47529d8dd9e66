"""The official Depth Anything network as formulas over an official state dict: plain torch only.

Written from the papers and the description of the checkpoint, to compare converted weights with.
"""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own abbreviation
from torch import Tensor

State = Mapping[str, Tensor]


def random_state(shapes: Mapping[str, Sequence[int]], seed: int = 0) -> dict[str, Tensor]:
    """Weights that keep the variance of what passes, so that an image comes out as a relief."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, shape in shapes.items():
        noise = torch.randn(*shape, generator=generator)
        weight = name.endswith("weight") and len(shape) >= 2
        if weight:
            state[name] = noise / torch.tensor(shape[1:]).prod().sqrt()
        elif name.endswith("weight") or name.endswith("gamma"):
            state[name] = 1 + 0.1 * noise
        else:
            state[name] = 0.1 * noise
        if name == "depth_head.scratch.output_conv2.2.bias":
            state[name] += 1.0  # keeps the final ReLU alive
    return state


def predict(
    state: State, image: Tensor, taps: Sequence[int], *, max_depth: float | None = None
) -> Tensor:
    """Depth or disparity (b, h, w) of normalised images (b, 3, h, w), sides multiples of 14.

    `taps` are the encoder blocks that the head reads, counted from 0.
    """
    grid = image.shape[-2] // 14, image.shape[-1] // 14
    maps = encode(state, image, taps)
    pyramid = [
        _level(state, level, tokens.transpose(1, 2).unflatten(2, grid))
        for level, tokens in enumerate(maps)
    ]
    path = None
    for level in (3, 2, 1, 0):
        size = (
            pyramid[level - 1].shape[-2:] if level else [2 * side for side in pyramid[0].shape[-2:]]
        )
        path = _fuse(state, level + 1, pyramid[level], path, size)
    assert path is not None
    out = _convolve(state, "depth_head.scratch.output_conv1", path, padding=1)
    out = _stretch(out, image.shape[-2:])
    out = F.relu(_convolve(state, "depth_head.scratch.output_conv2.0", out, padding=1))
    out = _convolve(state, "depth_head.scratch.output_conv2.2", out)[:, 0]
    return F.relu(out) if max_depth is None else max_depth * torch.sigmoid(out)


def encode(state: State, image: Tensor, taps: Sequence[int]) -> list[Tensor]:
    """Normed patch tokens (b, n, c) of the four blocks that the head reads."""
    patches = F.conv2d(
        image,
        state["pretrained.patch_embed.proj.weight"],
        state["pretrained.patch_embed.proj.bias"],
        stride=14,
    )
    tokens = patches.flatten(2).transpose(1, 2)
    cls = state["pretrained.cls_token"].expand(len(image), -1, -1)
    positions = position_embedding(state["pretrained.pos_embed"], *image.shape[-2:])
    x = torch.cat([cls, tokens], dim=1) + positions
    depth = 1 + max(int(k.split(".")[2]) for k in state if k.startswith("pretrained.blocks."))
    found = []
    for block in range(depth):
        x = _block(state, f"pretrained.blocks.{block}", x)
        if block in taps:
            found.append(_norm(state, "pretrained.norm", x)[:, 1:])
    return found


def position_embedding(stored: Tensor, height: int, width: int) -> Tensor:
    """The official resampling: bicubic by a factor with 0.1 patches added to each side."""
    side = int((stored.shape[1] - 1) ** 0.5)
    rows, columns = height // 14, width // 14
    if rows * columns == side * side and height == width:
        return stored
    grid = stored[:, 1:].transpose(1, 2).unflatten(2, (side, side))
    factors = ((rows + 0.1) / side, (columns + 0.1) / side)
    grid = F.interpolate(grid, scale_factor=factors, mode="bicubic")
    assert grid.shape[-2:] == (rows, columns)
    return torch.cat([stored[:, :1], grid.flatten(2).transpose(1, 2)], dim=1)


def _block(state: State, name: str, x: Tensor) -> Tensor:
    heads = x.shape[-1] // 64
    qkv = _linear(state, f"{name}.attn.qkv", _norm(state, f"{name}.norm1", x))
    q, k, v = (part.unflatten(2, (heads, 64)).transpose(1, 2) for part in qkv.chunk(3, dim=-1))
    weights = torch.softmax(q @ k.transpose(-2, -1) / 8, dim=-1)
    mixed = _linear(state, f"{name}.attn.proj", (weights @ v).transpose(1, 2).flatten(2))
    x = x + state[f"{name}.ls1.gamma"] * mixed
    inner = _norm(state, f"{name}.norm2", x)
    if f"{name}.mlp.w12.weight" in state:
        gate, value = _linear(state, f"{name}.mlp.w12", inner).chunk(2, dim=-1)
        inner = _linear(state, f"{name}.mlp.w3", F.silu(gate) * value)
    else:
        inner = _linear(state, f"{name}.mlp.fc2", F.gelu(_linear(state, f"{name}.mlp.fc1", inner)))
    return x + state[f"{name}.ls2.gamma"] * inner


def _level(state: State, level: int, features: Tensor) -> Tensor:
    """One tapped map at its place in the pyramid: 4, 2, 1 and 1/2 of the patch grid."""
    out = _convolve(state, f"depth_head.projects.{level}", features)
    name = f"depth_head.resize_layers.{level}"
    if level in {0, 1}:
        factor = 4 if level == 0 else 2
        out = F.conv_transpose2d(out, state[f"{name}.weight"], state[f"{name}.bias"], stride=factor)
    elif level == 3:
        out = _convolve(state, name, out, stride=2, padding=1)
    return F.conv2d(out, state[f"depth_head.scratch.layer{level + 1}_rn.weight"], padding=1)


def _fuse(
    state: State, number: int, side: Tensor, path: Tensor | None, size: Sequence[int]
) -> Tensor:
    name = f"depth_head.scratch.refinenet{number}"
    out = side if path is None else path + _unit(state, f"{name}.resConfUnit1", side)
    out = _stretch(_unit(state, f"{name}.resConfUnit2", out), size)
    return _convolve(state, f"{name}.out_conv", out)


def _unit(state: State, name: str, x: Tensor) -> Tensor:
    inner = _convolve(state, f"{name}.conv1", F.relu(x), padding=1)
    return x + _convolve(state, f"{name}.conv2", F.relu(inner), padding=1)


def _stretch(x: Tensor, size: Sequence[int]) -> Tensor:
    return F.interpolate(x, tuple(size), mode="bilinear", align_corners=True)


def _convolve(state: State, name: str, x: Tensor, stride: int = 1, padding: int = 0) -> Tensor:
    return F.conv2d(x, state[f"{name}.weight"], state[f"{name}.bias"], stride, padding)


def _linear(state: State, name: str, x: Tensor) -> Tensor:
    return F.linear(x, state[f"{name}.weight"], state[f"{name}.bias"])


def _norm(state: State, name: str, x: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"], eps=1e-6)
