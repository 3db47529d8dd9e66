"""One image of a benchmark: what a model is shown, what it is measured against, its row."""

import hashlib
import json
from collections.abc import Sequence
from functools import partial
from typing import Any, Protocol, runtime_checkable

import torch
from PIL import Image
from torch import Tensor

from distill.evaluation import protocols
from distill.evaluation.pairs import PairDataset, score_pairs
from distill.evaluation.scoring import score
from distill.types import Dataset, Prediction, Sample, Space


@runtime_checkable
class Predictor(Protocol):
    """What is scored; `models.foreign.DepthPredictor` is one."""

    @property
    def space(self) -> Space:
        """What the predicted numbers mean."""
        ...

    def predict(self, images: Sequence[Image.Image]) -> list[Prediction]:
        """One map per image, each at its image's size."""
        ...


def row(
    predictor: Predictor, dataset: Dataset, index: int, protocol: protocols.Protocol
) -> dict[str, Any]:
    """Key, digest and scores of image `index`.

    Raises:
        ValueError: it cannot be read, cut or scored; the message names it.
    """
    sample = dataset[index]
    picture = as_picture(sample)
    told = {"key": sample.key, "sha256": _digest(dataset, index, sample, picture)}
    shown = protocols.pre_cropped(sample, protocol)
    if isinstance(dataset, PairDataset):
        pairs, scene = dataset.pairs(index), dataset.scene(index)
        measure = partial(score_pairs, pairs=pairs, scene=scene)
    else:
        target, valid = truth(shown)
        measure = partial(score, target=target, valid=valid, protocol=protocol)
    (prediction,) = predictor.predict([picture if shown is sample else as_picture(shown)])
    try:
        return told | measure(prediction)
    except ValueError as error:
        raise ValueError(f"{sample.key}: {error}") from error


def digest(dataset: Dataset, index: int) -> str:
    """The sha256 of the whole picture and of what is known about it, as decoded.

    Raises:
        ValueError: it cannot be read, or its truth is not metric depth.
    """
    sample = dataset[index]
    return _digest(dataset, index, sample, as_picture(sample))


def as_picture(sample: Sample) -> Image.Image:
    """The image of a sample as Pillow holds it: exactly the file's pixels where it had 8 bits."""
    pixels = (sample.image * 255).round().to(torch.uint8)
    return Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())


def truth(sample: Sample) -> tuple[Tensor, Tensor]:
    """Metric depth and where it is valid.

    Raises:
        ValueError: the sample's truth is something else, or it has none.
    """
    if sample.target is None or sample.valid is None or sample.space is not Space.METRIC_DEPTH:
        raise ValueError(f"{sample.key}: truth is {sample.space}, metric depth is needed")
    return sample.target, sample.valid


def _digest(dataset: Dataset, index: int, sample: Sample, picture: Image.Image) -> str:
    if isinstance(dataset, PairDataset):
        points = [[*pair.closer, *pair.farther] for pair in dataset.pairs(index)]
        header, depths = json.dumps(points), b""
    else:
        target, valid = truth(sample)
        header = str(tuple(target.shape))
        depths = target.where(valid, 0).contiguous().numpy().tobytes()
    whole = hashlib.sha256(f"{picture.size} {header}".encode())
    whole.update(picture.tobytes())
    whole.update(depths)
    return whole.hexdigest()
