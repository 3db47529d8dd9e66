"""Any depth model of transformers as a teacher or a rival, its `Space` declared.

In float32 it predicts what `transformers.pipeline("depth-estimation")` predicts, pixel by pixel.
"""

import hashlib
import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import torch
from huggingface_hub import metadata_load
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModelForDepthEstimation,
    DepthAnythingForDepthEstimation,
    PretrainedConfig,
)
from transformers.modeling_outputs import DepthEstimatorOutput
from transformers.utils.hub import cached_file

from distill.datasets.images import read_pil, read_sized
from distill.models.frozen import FrozenDepthAnything, freezable
from distill.models.inference import Inference
from distill.models.preparing import reduced_size, upright, workable
from distill.models.weights import load_strictly
from distill.types import Prediction, Space

_SPACES = {
    "dpt": Space.AFFINE_DISPARITY,
    "zoedepth": Space.METRIC_DEPTH,
    "glpn": Space.METRIC_DEPTH,
    "depth_pro": Space.METRIC_DEPTH,
}
_TOGETHER = 8  # images of one prepared size that `predict` runs at once


class DepthPredictor:
    """A depth model with its image processor.

    Attributes:
        name: hub id or directory it came from.
        space: what the values mean.
        device: where it runs.
    """

    def __init__(
        self,
        name: str,
        model: nn.Module,
        processor: Any,
        space: Space,
        dtype: torch.dtype,
        *,
        compiled: bool = False,
        reduced: bool = False,
    ) -> None:
        self.name, self.space, self._dtype = name, space, dtype
        self._processor, self._compiled, self._reduced = processor, compiled, reduced
        self._config = cast(PretrainedConfig, model.config)
        self.device = next(model.parameters()).device
        self._model: nn.Module | Inference = model
        if dtype != torch.float32 and freezable(model):
            frozen = FrozenDepthAnything(cast(DepthAnythingForDepthEstimation, model), dtype)
            self._model = Inference(frozen.eval(), compiled=compiled)
        elif compiled:
            raise ValueError(
                f"{name}: only Depth Anything in bfloat16 is compiled, and this is "
                f"{self._config.model_type} in {dtype}; leave `compiled` out"
            )

    @cached_property
    def sha256(self) -> str:
        """As `weights_sha256`."""
        return weights_sha256(self.name)

    @cached_property
    def licence(self) -> str | None:
        """What the model card (README.md beside the weights) declares; None where it is silent."""
        card = _file(self.name, "README.md")
        fields = metadata_load(card) if card else None
        return (fields or {}).get("license")

    @property
    def preprocessing(self) -> dict[str, Any]:
        """What `prepare` does, as plain JSON: the settings of the image processor.

        `decoding` is there if `prepare_encoded` does something else.
        """
        settings = json.loads(self._processor.to_json_string())
        return settings | ({"decoding": "reduced, OpenCV bicubic"} if self._reduced else {})

    @property
    def inference(self) -> dict[str, Any]:
        """How `predict_network` computes, as plain JSON; values depend on it in their last bits."""
        frozen = isinstance(self._model, Inference)
        return {"network": "frozen" if frozen else "transformers", "compiled": self._compiled}

    def prepare(self, image: Image.Image) -> Float[Tensor, "3 h w"]:
        """The network's input for the whole image and nothing but it (ZoeDepth's border left out).

        Images of one size have inputs of one size, so that they can be stacked.
        """
        # every processor has do_pad; ZoeDepth's mirrors a border that the pipeline cuts off again
        return self._pixels(workable(upright(image), self._processor), do_pad=False)

    def prepare_encoded(
        self, data: bytes, *, name: str | None = None
    ) -> tuple[Float[Tensor, "3 h w"], tuple[int, int]]:
        """The network's input for an image file, and the image's own (height, width), upright.

        What `prepare` makes of the whole image; if `reduced`, and it is a JPEG of at least twice
        the network's size: decoded at a fraction of its size, the rest as the official code has it.

        Raises:
            ValueError: see `datasets.images.read_pil`; `name` is what it calls the file.
        """
        size = reduced_size(data, self._processor) if self._reduced else None
        if size is None:
            image = read_pil(data, name=name)
            return self.prepare(image), _size(image)
        pixels, whole = read_sized(data, *size, name=name)
        given = {"do_resize": False, "do_rescale": False, "do_pad": False}
        return self._pixels(pixels, **given), whole

    def predict_network(self, pixel_values: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b h w"]:
        """Values in `space` at the network's size; they cover the whole image."""
        outputs = self._run(pixel_values)
        if self._config.model_type != "depth_pro":
            return outputs["predicted_depth"]
        # Depth Pro's network gives canonical inverse depth; its processor knows the way to metres
        sizes = [tuple(pixel_values.shape[-2:])] * len(pixel_values)
        maps = self._processor.post_process_depth_estimation(outputs, sizes)
        return torch.stack([entry["predicted_depth"] for entry in maps])

    def predict(self, images: Sequence[Image.Image]) -> list[Prediction]:
        """A map for each image at its own size (upright, if EXIF rotates it).

        Equal to the pipeline for one image; images of one prepared size run together, which may
        move the last bits. Images too small or too narrow for the processor, on which the pipeline
        fails, are enlarged first and their maps reduced after.
        """
        whole = [upright(image) for image in images]
        taken = [workable(image, self._processor) for image in whole]
        pixels = [self._pixels(image) for image in taken]
        groups: dict[tuple[int, ...], list[int]] = {}
        for index, value in enumerate(pixels):
            groups.setdefault(tuple(value.shape), []).append(index)
        maps: dict[int, Tensor] = {}
        for group in groups.values():
            for start in range(0, len(group), _TOGETHER):
                chunk = group[start : start + _TOGETHER]
                # unlike stack, cat keeps the memory format, on which the last bits depend
                outputs = self._run(torch.cat([pixels[index][None] for index in chunk]))
                sizes = [_size(taken[index]) for index in chunk]
                found = self._processor.post_process_depth_estimation(outputs, sizes)
                for index, entry, size in zip(chunk, found, sizes, strict=True):
                    values = entry["predicted_depth"].view(size)
                    maps[index] = _resized(values, _size(whole[index]))
        return [Prediction(values=maps[i].cpu(), space=self.space) for i in range(len(images))]

    @torch.no_grad()
    def _run(self, pixel_values: Tensor) -> Any:
        """The model's outputs, the depth in float32."""
        if isinstance(self._model, Inference):
            return DepthEstimatorOutput(predicted_depth=self._model(pixel_values))
        low = self._dtype != torch.float32
        dtype = self._dtype if low else None
        with torch.autocast(self.device.type, dtype=dtype, enabled=low):
            outputs = self._model(pixel_values=pixel_values.to(self.device))
        for name in ("predicted_depth", "field_of_view"):
            if outputs.get(name) is not None:
                outputs[name] = outputs[name].float()
        return outputs

    def _pixels(self, image: Image.Image | Tensor, **settings: Any) -> Float[Tensor, "3 h w"]:
        return self._processor(images=image, return_tensors="pt", **settings)["pixel_values"][0]


def load_predictor(
    model: str | Path,
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    space: Space | None = None,
    compiled: bool = False,
    reduced: bool = False,
) -> DepthPredictor:
    """Load a depth model of transformers: hub id, or directory such as `model/` of a run.

    Code that comes with weights is never run; pickles are read as plain tensors only.

    Args:
        model: hub id or directory.
        device: where it runs.
        dtype: below float32 a Depth Anything network has its weights in it and is laid out anew
            (`frozen.py`), others run under autocast; the last convolution stays in float32.
        space: what its values mean; needed only where its kind of model does not tell.
        compiled: torch compiles a Depth Anything network below float32, for each prepared size
            anew (20 s for ViT-S on two cores), after which it is about a quarter faster.
        reduced: `prepare_encoded` decodes large JPEGs at a fraction of their size.

    Raises:
        FileNotFoundError: neither here nor on the hub.
        ValueError: a model that needs more than an image, one whose `Space` is not known, weights
            that do not fit, or `compiled` where that is not provided for.
    """
    try:
        if Path(model).is_dir() and not (Path(model) / "config.json").is_file():
            raise FileNotFoundError(f"no config.json in {model}")
        config = AutoConfig.from_pretrained(model, trust_remote_code=False)
        meaning = _space(config, str(model)) if space is None else space
        network = load_strictly(
            AutoModelForDepthEstimation.from_pretrained,
            model,
            # never read by the forward pass, and absent from some published files
            absent=r"mask_token$|fusion_stage\.layers\.0\.residual_layer1\.",
            surplus=True,
        )
        processor = AutoImageProcessor.from_pretrained(model, trust_remote_code=False)
    except OSError as error:
        raise FileNotFoundError(
            f"cannot get the model {model}: no such directory with config.json, weights and "
            "preprocessor_config.json, and the hub does not answer for it; download it where there "
            "is network (`hf download ID --local-dir DIR`) and give the directory; `make teacher` "
            "and `make student` write theirs to runs/teacher/model and runs/student/model"
        ) from error
    network = network.to(device).eval().requires_grad_(False)
    if dtype != torch.float32 and not freezable(network):
        network = network.to(memory_format=torch.channels_last)
        _keep_last_convolution_in_float32(network)
    return DepthPredictor(
        str(model), network, processor, meaning, dtype, compiled=compiled, reduced=reduced
    )


def _space(config: PretrainedConfig, model: str) -> Space:
    kind = config.model_type
    if kind == "prompt_depth_anything":
        raise ValueError(f"{model} needs a sparse depth map beside the image; choose another model")
    if hasattr(config, "depth_estimation_type"):  # Depth Anything, and networks of `models.dpt`
        metric = config.depth_estimation_type == "metric"
        return Space.METRIC_DEPTH if metric else Space.AFFINE_DISPARITY
    if kind not in _SPACES:
        raise ValueError(
            f"{model}: what a {kind} predicts is not known here; say so with --space NAME, as a "
            "teacher's label job with --set space=NAME, where NAME is one of "
            f"{', '.join(entry.name for entry in Space)}"
        )
    return _SPACES[kind]


class _Float32(nn.Module):
    """A module outside autocast: bf16 leaves steps of 0.4 % in a map, float32 does not."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, features: Tensor) -> Tensor:
        with torch.autocast(features.device.type, enabled=False):
            return self.inner(features.float())


def _keep_last_convolution_in_float32(network: nn.Module) -> None:
    """Wrap every convolution that ends in a single channel: the map itself."""
    for name, module in list(network.named_modules()):
        if isinstance(module, nn.Conv2d) and module.out_channels == 1:
            parent, _, child = name.rpartition(".")
            setattr(network.get_submodule(parent), child, _Float32(module))


def _size(image: Image.Image) -> tuple[int, int]:
    """Height and width."""
    return image.height, image.width


def _resized(values: Tensor, size: tuple[int, int]) -> Tensor:
    """Reduced by averaging; most often of the right size already."""
    if values.shape == size:
        return values
    return nn.functional.interpolate(values[None, None], size, mode="area")[0, 0]


def weights_sha256(model: str) -> str:
    """Digest of configuration and weight files, by name and content, of a folder or a hub id."""
    digest = hashlib.sha256()
    for path in _files(model):
        with path.open("rb") as file:
            digest.update(f"{path.name} {path.stat().st_size}\n".encode())
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def _file(model: str, name: str) -> Path | None:
    """A file of a directory or of the hub's local copy; None where there is none."""
    found = cached_file(
        model,
        name,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
    )
    return None if found is None else Path(found)


def _files(model: str) -> list[Path]:
    """Configuration and the weights that transformers prefers, in a fixed order."""
    names = ["config.json", "preprocessor_config.json"]
    for single in ("model.safetensors", "pytorch_model.bin"):
        index = _file(model, f"{single}.index.json")
        if _file(model, single):
            names.append(single)
        elif index:
            names.extend(sorted(set(json.loads(index.read_text())["weight_map"].values())))
        else:
            continue
        break
    return [path for name in names if (path := _file(model, name))]
