"""Maps to pictures."""

import matplotlib
import numpy as np
import torch
from jaxtyping import Float, UInt8
from numpy import ndarray
from torch import Tensor

from distill.geometry import to_space
from distill.types import Batch, Space

UNKNOWN = 128  # grey: no colour of the maps in use


def colourise(
    values: Float[ndarray, "h w"],
    *,
    low: float | None = None,
    high: float | None = None,
    colours: str = "Spectral_r",
) -> UInt8[ndarray, "h w 3"]:
    """A map in colour, cold at `low` and warm at `high`; grey where it is not finite.

    Args:
        values: in any unit; larger is warmer, so give disparity to show what is near as warm.
        low: shown coldest, as is all below; the 2nd percentile if not given.
        high: shown warmest, as is all above; the 98th percentile if not given.
        colours: the name of a matplotlib colour map.
    """
    values = values.astype(np.float64)
    known = np.isfinite(values)
    ends = np.quantile(values[known], (0.02, 0.98)) if known.any() else (0.0, 1.0)
    coldest = float(ends[0]) if low is None else low
    warmest = float(ends[1]) if high is None else high
    spread = max(warmest - coldest, 1e-12)
    unit = (np.where(known, values - coldest, 0) / spread).clip(0, 1)
    picture = np.round(matplotlib.colormaps[colours](unit)[..., :3] * 255).astype(np.uint8)
    picture[~known] = UNKNOWN
    return picture


def panel(
    batch: Batch, pred: Float[Tensor, "b h w"] | None, space: Space | None
) -> UInt8[ndarray, "y x 3"]:
    """One row a sample: the image, its target in `space` where it has one, the prediction if any.

    Pixels that are not finite are grey; without a `space` targets are shown in their own.
    """
    image = batch["image"].nan_to_num(*[UNKNOWN / 255] * 3).clamp(0, 1)
    pixels = (image.permute(0, 2, 3, 1).cpu().numpy() * 255).round().astype(np.uint8)
    columns = [pixels] if pred is None else [pixels, _each(pred)]
    if "target" in batch and "valid" in batch:
        rows = zip(batch["target"], batch["valid"], batch["space"], strict=True)
        shown = [
            target
            if source is None or space is None
            else to_space(target, valid, None, source=source, target=space)[0]
            for target, valid, source in rows
        ]
        columns.insert(1, _each(torch.stack(shown)))
    return np.concatenate(np.concatenate(columns, axis=2), axis=0)


def _each(maps: Float[Tensor, "b h w"]) -> UInt8[ndarray, "b h w 3"]:
    return np.stack([colourise(map_) for map_ in maps.float().cpu().numpy()])
