"""Networks of the right shape without their weights: what a job would load, for `shadows`."""

from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModelForDepthEstimation,
    DepthAnythingForDepthEstimation,
    Dinov2Config,
    Dinov2Model,
)

from distill.models import dinov2
from distill.models.depth_anything import (
    SIZES,
    DepthAnything,
    configuration,
    depth_anything,
    image_processor,
    load_depth_anything,
)
from distill.models.dinov2 import ENCODERS, FrozenDinov2
from distill.models.foreign import DepthPredictor
from distill.models.weights import read_official
from distill.plan.counting import building, cost, shadow, shadows
from distill.types import Space

_PUBLISHED_ENCODERS = {
    "facebook/dinov2-small": "vits",
    "facebook/dinov2-base": "vitb",
    "facebook/dinov2-large": "vitl",
    "facebook/dinov2-giant": "vitg",
}
_PUBLISHED = {
    "depth-anything/Depth-Anything-V2-Small-hf": "vits",
    "depth-anything/Depth-Anything-V2-Base-hf": "vitb",
    "depth-anything/Depth-Anything-V2-Large-hf": "vitl",
}

_ROUGHNESS = 0.0008  # see `Stand.predict_network`


def weightless(value: Any) -> Any:
    """A builder like `value` that reads no weights; call it within `shadows`.

    Of partial calls, those of `depth_anything`, `load_depth_anything` and `FrozenDinov2` are
    replaced wherever they stand; `perturb`, which draws numbers and computes next to nothing, is
    left out.
    """
    if not isinstance(value, partial):
        return value
    given = [
        [weightless(part) for part in entry] if isinstance(entry, list) else weightless(entry)
        for entry in value.args
    ]
    named = {name: weightless(entry) for name, entry in value.keywords.items()}
    if value.func is depth_anything:
        return partial(_student, *given, **named | {"encoder": None})
    if value.func is load_depth_anything:
        return partial(_loaded, *given, **named)
    if value.func is FrozenDinov2:
        return partial(_Frozen, *given, **named)
    if "perturb" in named:
        named["perturb"] = None
    return partial(value.func, *given, **named)


def _student(
    size: str, *, encoder: None = None, max_depth: float | None = None, version: int = 2
) -> DepthAnything:
    del encoder
    if size not in SIZES:
        raise ValueError(f"plan: no size {size!r}; choose one of {', '.join(SIZES)}")
    with building():
        config = configuration(SIZES[size], max_depth=max_depth, version=version)
        network = DepthAnything(DepthAnythingForDepthEstimation(config))
    return cast(DepthAnything, shadow(network))


def _loaded(source: str | Path) -> DepthAnything:
    config, _ = _teacher(str(source))
    with building():
        network = DepthAnything(DepthAnythingForDepthEstimation(config))
    return cast(DepthAnything, shadow(network))


class _Frozen(FrozenDinov2):
    """`FrozenDinov2` of the dimensions that `source` has."""

    def _load(self, source: str | Path) -> nn.Module:
        with building():
            encoder = Dinov2Model(_encoder_configuration(source))
        return shadow(encoder)


def _encoder_configuration(source: str | Path) -> Dinov2Config:
    if str(source) in _PUBLISHED_ENCODERS:
        return dinov2.configuration(ENCODERS[_PUBLISHED_ENCODERS[str(source)]])
    if Path(source).is_file():
        return dinov2.configuration(dinov2.encoder_of(read_official(Path(source)), str(source)))
    if (Path(source) / "config.json").is_file():
        return cast(Dinov2Config, AutoConfig.from_pretrained(source))
    raise ValueError(
        f"plan: no dimensions of {source} are known; give a folder with its config.json, or one of "
        f"{', '.join(_PUBLISHED_ENCODERS)}"
    )


class Stand:
    """A teacher that answers the same map at once and notes what it was asked.

    Whatever a strategy does with the answers then runs as it is, at no cost.

    Attributes:
        name: of the teacher it stands for.
        space: of its numbers.
        asked: (b, 3, h, w) of each forward pass.
    """

    sha256 = ""
    licence = None

    def __init__(self, teacher: str | Path, space: Space | None = None) -> None:
        self.name = str(teacher)
        self._configuration, processor = _teacher(self.name)
        with building():
            network = AutoModelForDepthEstimation.from_config(self._configuration)
        self._predictor = DepthPredictor(
            self.name, network, processor, space or Space.AFFINE_DISPARITY, torch.float32
        )
        self.space = self._predictor.space
        self.weights = sum(parameter.numel() for parameter in network.parameters())
        self.asked: list[torch.Size] = []

    @property
    def preprocessing(self) -> dict[str, Any]:
        """The processor's settings."""
        return self._predictor.preprocessing

    @property
    def inference(self) -> dict[str, Any]:
        """Nothing: no label is kept."""
        return {}

    def prepare(self, image: Image.Image) -> Float[Tensor, "3 h w"]:
        """As the teacher does."""
        return self._predictor.prepare(image)

    def prepare_encoded(
        self, data: bytes, *, name: str | None = None
    ) -> tuple[Float[Tensor, "3 h w"], tuple[int, int]]:
        """As the teacher does."""
        return self._predictor.prepare_encoded(data, name=name)

    def predict_network(self, pixels: Float[Tensor, "b 3 h w"], /) -> Float[Tensor, "b h w"]:
        """A map that codecs make as large as a network's, with other noise each time.

        Slanted planes with edges, and noise: at 690x518, 2048 levels and effort 1 JPEG XL takes 116
        KiB for it, the middle of the 110 to 122 that it took for labels of photographs.
        """
        self.asked.append(pixels.shape)
        count, _, height, width = pixels.shape
        y, x = torch.meshgrid(
            torch.linspace(0, 1, height), torch.linspace(0, 1, width), indexing="ij"
        )
        planes = 2 * y + 0.5 * torch.floor(4 * x + 2 * torch.sin(3 * y)) + 0.2 * torch.cos(9 * x)
        noise = torch.Generator().manual_seed(len(self.asked))
        return planes + _ROUGHNESS * torch.randn(count, height, width, generator=noise)

    def forward(self, shape: torch.Size, *, low: bool) -> tuple[float, int]:
        """FLOPs and peak bytes beside the weights of one pass, under autocast to bf16 if `low`."""
        with building():
            network = AutoModelForDepthEstimation.from_config(self._configuration)
        with shadows(), torch.inference_mode():
            seen = shadow(network.eval())

            def look() -> object:
                with torch.autocast("cpu", torch.bfloat16, enabled=low):
                    return seen(pixel_values=torch.empty(shape)).predicted_depth

            found = cost(look)
        return found.flops, found.peak


def _teacher(name: str) -> tuple[Any, Any]:
    """Configuration and image processor of a teacher: a size, a folder, or a published name."""
    size = _PUBLISHED.get(name, name)
    if (Path(name) / "config.json").is_file():
        return AutoConfig.from_pretrained(name), AutoImageProcessor.from_pretrained(name)
    if size in SIZES:
        config = configuration(SIZES[size])
        return config, image_processor(config)
    raise ValueError(
        f"plan: no shape of the teacher {name} is known; give a folder with config.json and "
        f"preprocessor_config.json, or a size: --set teacher=NAME with one of {', '.join(SIZES)}"
    )
