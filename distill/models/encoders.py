"""Any image encoder of transformers or timm: what its file declares, its maps, its weights.

A source is a hub id or a folder: `config.json` of a transformers model, or of a timm model
(`"architecture"`), with `model.safetensors` beside it. What an encoder gives is what plain
transformers' `AutoBackbone` gives, so a network that is built on it can be exported.
"""

import copy
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, cast

import timm
import torch
from jaxtyping import Float
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoBackbone, AutoConfig, PretrainedConfig, TimmBackboneConfig
from transformers.utils.hub import cached_file

from distill.models.dinov2 import IMAGENET_MEAN, IMAGENET_STD
from distill.models.weights import load_strictly

# of an encoder's file these alone may be absent: what a backbone has beside the encoder, from ones
# and zeros, and what only pre-training needs
_ABSENT = r"mask_token$|hidden_states_norms\."
_PROBE = 256  # pixels, where an encoder is asked what its maps are like


@dataclass(frozen=True)
class Shape:
    """What pictures a student on an encoder is made for (`models.dpt`).

    Attributes:
        side: of the picture, pixels.
        multiple: of which both sides are.
        cell: side of what one of the encoder's tokens stands for, pixels.
        square: whether it takes them squeezed to a square of `side`.
    """

    side: int
    multiple: int
    cell: int
    square: bool


@dataclass(frozen=True, kw_only=True)
class Description:
    """What is known of an encoder before its weights are read.

    Attributes:
        source: hub id or folder.
        config: of its `AutoBackbone`, every stage given out.
        mean, std: of its input, RGB in [0, 1].
        side: the only size that it takes, pixels; None if it takes any.
        translated: the file has transformers' names of a model that is timm's here.
    """

    source: str | Path
    config: PretrainedConfig
    mean: tuple[float, ...]
    std: tuple[float, ...]
    side: int | None
    translated: bool = False

    @property
    def kind(self) -> str:
        """Transformers' name of the architecture; `timm_backbone` for all of timm."""
        return self.config.model_type

    @cached_property
    def maps(self) -> list[tuple[int, int]]:
        """(channels, stride in pixels) of every stage's map.

        Raises:
            ValueError: it has no maps of the form (b, c, h, w).
        """
        side = self.side or _PROBE
        try:
            with torch.device("meta"):
                backbone: Any = AutoBackbone.from_config(self.config)
                found = backbone.eval()(torch.empty(1, 3, side, side)).feature_maps
        except (ValueError, RuntimeError) as error:
            raise ValueError(f"{self.source}: gives no maps ({error}); {_OTHERS}") from error
        channels = cast(Sequence[int], backbone.channels)
        if any(m.ndim != 4 or m.shape[1] != c for m, c in zip(found, channels, strict=True)):
            raise ValueError(
                f"{self.source}: its maps are {[tuple(m.shape) for m in found]}, not (b, c, h, w); "
                f"{_OTHERS}"
            )
        return [(m.shape[1], round(side / m.shape[2])) for m in found]

    @property
    def taps(self) -> list[int]:
        """The three stages that a depth network reads.

        Of a vision transformer, whose maps are of one size, a third, two thirds and the end of its
        depth; of a pyramid the map of stride 4, the next one and the deepest.

        Raises:
            ValueError: it has fewer than three maps.
        """
        strides = [stride for _, stride in self.maps]
        levels = [i for i, s in enumerate(strides) if s >= 4 and s not in strides[i + 1 :]]
        if len(levels) >= 3:
            return [*levels[:2], levels[-1]]
        depth = len(strides) - 1
        if len(set(strides)) > 1 or depth < 3:
            raise ValueError(f"{self.source}: maps of strides {strides}, three are needed")
        return [round(depth * part / 3) for part in (1, 2, 3)]

    def shape(self, size: int | None = None) -> Shape:
        """What pictures a student on it is made for.

        Args:
            size: side, pixels; None: the encoder's own, 518 of DINOv2, 384 where it has none.

        Raises:
            ValueError: it does not take this `size`.
        """
        cell = self.maps[-1][1]
        multiple = 2 * cell if self.kind == "dinov3_vit" else cell
        usual = 518 // multiple * multiple if self.kind == "dinov2" else 384
        side = self.side or size or usual
        if (size is not None and side != size) or side % multiple:
            only = f"{self.side} alone" if self.side else f"multiples of {multiple}"
            raise ValueError(f"{self.source}: size {size or side}, but it takes {only}")
        return Shape(side, multiple, cell, square=self.kind == "timm_backbone")


_OTHERS = (
    "encoders that work: DINOv2 and DINOv3 in transformers' layout, and timm's with features_only, "
    "such as convnext, mobilenetv4, efficientvit, fastvit, deit3, siglip, eva02"
)


def shape(source: str | Path, size: int | None = None) -> Shape:
    """What pictures `dpt.student(source, size=size)` is made for; reads no weights.

    Raises:
        FileNotFoundError: the encoder's config.json cannot be had.
        ValueError: no depth network could hold it, or it does not take this `size`.
    """
    found = describe(source)
    ours = found.kind in {"dinov2", "dinov3_vit", "timm_backbone"}
    return (found if ours else in_timm(found)).shape(size)


def describe(source: str | Path) -> Description:
    """Read what `source` declares; no weights yet.

    Raises:
        FileNotFoundError: neither a folder with config.json nor on the hub.
        ValueError: no encoder that transformers or timm gives maps of.
    """
    declared = json.loads(_file(source, "config.json").read_text())
    if "architecture" in declared:
        return _of_timm(source, declared)
    try:
        config = AutoConfig.from_pretrained(str(source), trust_remote_code=False)
    except ValueError as error:
        raise ValueError(
            f"{source}: transformers does not know its config.json; {_OTHERS}"
        ) from error
    config = getattr(config, "vision_config", config)
    if not hasattr(config, "stage_names"):
        raise ValueError(
            f"{source}: transformers has no AutoBackbone for a {config.model_type}; {_OTHERS}"
        )
    if hasattr(config, "reshape_hidden_states"):
        config.reshape_hidden_states = True
    config.out_indices = list(range(len(config.stage_names)))
    found = _file(source, "preprocessor_config.json", needed=False)
    pixels = json.loads(found.read_text()) if found else {}
    return Description(
        source=source,
        config=config,
        mean=tuple(pixels.get("image_mean", IMAGENET_MEAN)),
        std=tuple(pixels.get("image_std", IMAGENET_STD)),
        side=None,
    )


def _of_timm(source: str | Path, declared: Mapping[str, Any]) -> Description:
    name = declared["architecture"]
    own = declared.get("pretrained_cfg", {})
    if declared.get("model_args"):
        raise ValueError(
            f"{source}: model_args {declared['model_args']}, which transformers' TimmBackbone "
            f"cannot be told; take weights of {name} as timm registers it"
        )
    known = timm.get_pretrained_cfg(name.partition(".")[0], allow_unregistered=True)
    if known is None or not timm.is_model(name):
        raise ValueError(f"{source}: timm {timm.__version__} has no {name}; upgrade timm")
    try:
        with torch.device("meta"):
            features: Any = timm.create_model(name, features_only=True)
    except (RuntimeError, AttributeError, NotImplementedError, TypeError) as error:
        raise ValueError(f"{source}: timm gives no maps of {name} ({error}); {_OTHERS}") from error
    side = known.input_size[-1] if known.fixed_input_size else None
    if side is not None and (shown := own.get("input_size", known.input_size)[-1]) != side:
        raise ValueError(f"{source}: made for {shown} pixels, but {name} takes {side} alone")
    return Description(
        source=source,
        config=_timm_backbone(name, len(features.feature_info.info)),
        mean=tuple(own.get("mean", known.mean)),
        std=tuple(own.get("std", known.std)),
        side=side,
    )


def load_encoder(found: Description, taps: Sequence[int]) -> nn.Module:
    """The encoder with its weights in float32, giving out the maps of `taps`.

    Raises:
        FileNotFoundError: its weights are not here, nor on the hub.
        ValueError: weights are missing or of another shape.
    """
    config = tapped(found.config, taps)
    if isinstance(config, TimmBackboneConfig):
        backbone = AutoBackbone.from_config(config)
        stored = load_file(_file(found.source, "model.safetensors"))
        if found.translated:
            stored = {_timms_name(name): tensor for name, tensor in stored.items()}
        _fill(backbone, stored, str(found.source))
        return backbone
    with torch.device("meta"):
        holder: Any = type(
            AutoBackbone.from_config(config)
        )  # which itself asks the hub for folders
    read = partial(holder.from_pretrained, config=config)
    try:
        return load_strictly(read, str(found.source), absent=_ABSENT, surplus=True)
    except OSError as error:
        raise FileNotFoundError(f"no weights of {found.source} here, nor on the hub") from error


def in_timm(found: Description) -> Description:
    """A ConvNeXt of DINOv3 in transformers' layout as timm's model of the same shape.

    Raises:
        ValueError: it is another encoder, or timm has none of its shape.
    """
    config: Any = found.config
    if found.kind != "dinov3_convnext":
        raise ValueError(
            f"{found.source}: a {found.kind} in transformers' layout stands in no depth network of "
            "plain transformers; give facebook's DINOv2 or DINOv3, or the encoder in timm's layout"
        )
    shape = tuple(config.hidden_sizes), tuple(config.depths)
    if shape not in CONVNEXTS:
        raise ValueError(f"{found.source}: a ConvNeXt of {shape}; timm has {list(CONVNEXTS)}")
    return replace(found, config=_timm_backbone(CONVNEXTS[shape], 4), translated=True)


CONVNEXTS = {  # channels and blocks of each stage: the published ones
    ((96, 192, 384, 768), (3, 3, 9, 3)): "convnext_tiny",
    ((96, 192, 384, 768), (3, 3, 27, 3)): "convnext_small",
    ((128, 256, 512, 1024), (3, 3, 27, 3)): "convnext_base",
    ((192, 384, 768, 1536), (3, 3, 27, 3)): "convnext_large",
}
_TIMMS = {
    r"^(model\.)?stages\.0\.downsample_layers\.": "stem.",
    r"^(model\.)?stages\.": "stages.",
    r"\.downsample_layers\.": ".downsample.",
    r"\.layers\.": ".blocks.",
    r"\.depthwise_conv\.": ".conv_dw.",
    r"\.layer_norm\.": ".norm.",
    r"\.pointwise_conv(\d)\.": r".mlp.fc\1.",
}


def _timms_name(name: str) -> str:
    """Of a tensor of a DINOv3 ConvNeXt."""
    for pattern, replacement in _TIMMS.items():
        name = re.sub(pattern, replacement, name)
    return name


def _timm_backbone(name: str, stages: int) -> TimmBackboneConfig:
    return tapped(TimmBackboneConfig(backbone=name), range(stages))


def tapped(config: Any, taps: Sequence[int]) -> Any:
    """A copy of a backbone's configuration that gives out the maps of `taps`."""
    copied = copy.deepcopy(config)
    copied.out_indices = list(taps)
    return copied


def _fill(backbone: nn.Module, stored: Mapping[str, Tensor], source: str) -> None:
    """Load a timm file: every tensor of the backbone must be there, the classifier is left.

    With `features_only` timm flattens names of a pyramid (`stages.0` is `stages_0`), so both sides
    are compared with dots for underscores.
    """

    def plain(name: str) -> str:
        return name.removeprefix("_backbone.").removeprefix("model.").replace("_", ".")

    by_name = {plain(name): tensor for name, tensor in stored.items()}
    if len(by_name) < len(stored):
        raise ValueError(f"{source}: two tensors have one name up to dots and underscores")
    wanted = backbone.state_dict()
    missing = sorted(name for name in wanted if plain(name) not in by_name)
    reshaped = sorted(
        name
        for name in wanted.keys() - set(missing)
        if by_name[plain(name)].shape != wanted[name].shape
    )
    if missing or reshaped:
        raise ValueError(
            f"weights in {source} do not fit its config.json: missing {missing[:3]}, of another "
            f"shape {reshaped[:3]}"
        )
    backbone.load_state_dict({name: by_name[plain(name)] for name in wanted})


def _file(source: str | Path, name: str, *, needed: bool = True) -> Any:
    """A file of a folder or of the hub."""
    try:
        found = cached_file(
            str(source),
            name,
            _raise_exceptions_for_missing_entries=needed,
            _raise_exceptions_for_connection_errors=needed,
        )
    except OSError as error:
        raise FileNotFoundError(
            f"cannot get {name} of the encoder {source}: no such folder, and the hub does not "
            "answer for it; download it where there is network (`hf download ID --local-dir DIR`) "
            "and give the folder"
        ) from error
    return None if found is None else Path(found)


class FrozenEncoder(nn.Module):
    """The fixed encoder that feature alignment compares with, on another encoder's grid.

    Pictures are resized so that both cut them into the same cells; where this encoder takes one
    size alone, its map is resized instead. It never trains, nor leaves eval.

    Args:
        source: hub id or folder.
        cell: side in pixels of what one of the student's tokens stands for.

    Attributes:
        weights_from: hub id or folder.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, source: str | Path, *, cell: int) -> None:
        super().__init__()
        found = describe(source)
        self.weights_from, self._cell = source, cell
        self._side, self._stride = found.side, found.maps[-1][1]
        self.encoder = load_encoder(found, [len(found.maps) - 1]).requires_grad_(False)
        self.register_buffer("mean", torch.tensor(found.mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(found.std).view(3, 1, 1), persistent=False)
        self.train(False)

    def train(self, mode: bool = True) -> "FrozenEncoder":  # noqa: ARG002 - frozen whatever is asked
        """Stay in eval mode."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b n c"]:
        """The deepest map's cells, row by row, one for each cell of the student.

        Args:
            image: RGB in [0, 1]; sides are multiples of `cell`.
        """
        rows, columns = (side // self._cell for side in image.shape[-2:])
        free = (rows * self._stride, columns * self._stride)
        seen = (self._side, self._side) if self._side else free
        pixels = resized((image - self.mean) / self.std, seen)
        deepest = self.encoder(pixels).feature_maps[-1]
        return resized(deepest, (rows, columns)).flatten(2).transpose(1, 2)


def resized(maps: Float[Tensor, "b c h w"], size: tuple[int, int]) -> Float[Tensor, "b c y x"]:
    """Bilinear with corners kept, antialiased; untouched where the size is right."""
    if tuple(maps.shape[-2:]) == size:
        return maps
    return nn.functional.interpolate(maps, size, mode="bilinear", antialias=True)
