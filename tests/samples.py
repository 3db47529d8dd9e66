"""A scene of `scenes` as the sample that a data set would make of it."""

from typing import Any

import torch

from distill.types import Sample, Space


def sample_of(scene) -> Any:
    """The scene as a sample: its blue is replaced by noise, so that nothing is smooth."""
    image = scene.image.float()
    image[2] = torch.rand(image.shape[1:], generator=torch.Generator().manual_seed(0))
    valid = scene.valid & (image[2] > 0.1)
    return Sample(
        key="scenes/room",
        image=image,
        target=torch.where(valid, scene.depth, torch.nan).float(),
        valid=valid,
        far=~valid & (image[2] > 0.05),
        confidence=image[2],
        space=Space.METRIC_DEPTH,
        K=scene.K.float(),
    )
