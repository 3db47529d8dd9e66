"""A teacher that sees a picture's first channel, no finer than its network is."""

import numpy as np
import torch
from PIL import Image

from distill.datasets.images import read_pil
from distill.types import Space


class Seer:
    """Prepares by averaging to `side` pixels on the short side; answers with what it sees.

    Each answer has a scale and shift of its own, which follow from the input alone, as those of
    affine-invariant teachers do. `change` is what this one gets wrong.
    """

    licence = "apache-2.0"

    def __init__(self, *, side=28, name="seer", space=Space.AFFINE_DISPARITY, change=None):
        self.side, self.name, self.space, self.change = side, name, space, change
        self.sha256, self.preprocessing = "0" * 64, {"ensure_multiple_of": 14}
        self.inference = {"network": "none"}
        self.seen = []

    def prepare(self, image):
        ratio = self.side / min(image.size)
        size = tuple(max(1, round(length * ratio)) for length in image.size)
        pixels = np.array(image.convert("RGB").resize(size, Image.Resampling.BOX), np.float32)
        return torch.from_numpy(pixels / 255).permute(2, 0, 1)

    def prepare_encoded(self, data, *, name=None):
        image = read_pil(data, name=name)
        return self.prepare(image), (image.height, image.width)

    def predict_network(self, pixels):
        self.seen.append(tuple(pixels.shape))
        seen = pixels[:, 0]
        if self.change is not None:
            seen = self.change(seen)
        if self.space is not Space.AFFINE_DISPARITY:
            return seen
        scale = 0.5 + 3 * pixels[:, 1].mean((1, 2))[:, None, None]
        return scale * seen + 10 * pixels[:, 2].std((1, 2))[:, None, None]


def picture(values, *, seed=0):
    """`values` in [0, 1] as the first channel; the others are slow noise."""
    height, width = values.shape
    rng = np.random.default_rng(seed)
    rest = Image.fromarray(rng.integers(0, 256, (4, 5, 3), dtype=np.uint8)).resize((width, height))
    pixels = np.array(rest)
    pixels[..., 0] = (np.asarray(values) * 255).round()
    return Image.fromarray(pixels)


def asked(asker, *images):
    """The answer to images of one size, as a job gets it."""
    views = [asker.views(image) for image in images]
    return asker.ask([torch.stack(same) for same in zip(*views, strict=True)])


def unit(values):
    """Between 0 and 1."""
    low, high = values.amin((-2, -1), keepdim=True), values.amax((-2, -1), keepdim=True)
    return (values - low) / (high - low)


def fitted(values, truth):
    """`values` after the best scale and shift, for each image."""
    x, y = values.flatten(1).double(), truth.flatten(1).double()
    x, y = x - x.mean(1, keepdim=True), y - y.mean(1, keepdim=True)
    scale = (x * y).sum(1, keepdim=True) / x.square().sum(1, keepdim=True)
    best = scale * x + truth.flatten(1).double().mean(1, keepdim=True)
    return best.view_as(values).float()
