"""Maps to pictures."""

import matplotlib
import numpy as np
import torch
from jaxtyping import Float, UInt8
from numpy import ndarray
from torch import Tensor

from distill.alignment import normalised_difference
from distill.geometry import to_space
from distill.types import Batch, Space

UNKNOWN = 128  # grey: no colour of the maps in use
COLUMNS = ("image", "target", "prediction", "error")  # of a panel with targets
ERROR_TOP = 0.5  # what error maps show brightest


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
    """One row a sample: `COLUMNS`, but for what there is none of.

    Pixels that are not finite are grey; without a `space` targets are shown in their own. Metres
    are shown from the truth's nearest to its farthest, numbers of unknown scale each map by itself.
    Errors are black where there are none, brightest at `ERROR_TOP`: |d - d*| / d* of metres, of
    others the difference of maps brought to median 0 and mean absolute deviation 1.
    """
    image = batch["image"].nan_to_num(*[UNKNOWN / 255] * 3).clamp(0, 1)
    pixels = (image.permute(0, 2, 3, 1).cpu().numpy() * 255).round().astype(np.uint8)
    target = _shown(batch, space)
    metric = space is Space.METRIC_DEPTH
    columns = [pixels]
    if target is not None:
        columns.append(_each(target))
    if pred is not None:
        columns.append(_each(pred, like=target if metric else None))
    if target is not None and pred is not None:
        columns.append(_errors(pred.float(), target, metric=metric))
    return np.concatenate(np.concatenate(columns, axis=2), axis=0)


def _shown(batch: Batch, space: Space | None) -> Float[Tensor, "b h w"] | None:
    """The targets in `space`, NaN where they are not valid; None where there are none."""
    if "target" not in batch or "valid" not in batch:
        return None
    rows = zip(batch["target"], batch["valid"], batch["space"], strict=True)
    return torch.stack(
        [
            target
            if source is None or space is None
            else to_space(target, valid, None, source=source, target=space)[0]
            for target, valid, source in rows
        ]
    )


def _errors(
    pred: Float[Tensor, "b h w"], target: Float[Tensor, "b h w"], *, metric: bool
) -> UInt8[ndarray, "b h w 3"]:
    valid = target.isfinite()
    if metric:
        difference = (pred - target) / target
    else:
        difference, valid = normalised_difference(pred, target, valid)
    wrong = torch.where(valid, difference.abs(), torch.nan).cpu().numpy()
    limits = {"low": 0.0, "high": ERROR_TOP, "colours": "magma"}
    return np.stack([colourise(map_, **limits) for map_ in wrong])


def _each(
    maps: Float[Tensor, "b h w"], *, like: Float[Tensor, "b h w"] | None = None
) -> UInt8[ndarray, "b h w 3"]:
    """In colour; each in the range of the map in its place in `like`."""
    drawn = []
    ranges = maps if like is None else like
    for map_, other in zip(maps.float().cpu().numpy(), ranges.float().cpu().numpy(), strict=True):
        known = other[np.isfinite(other)]
        low, high = np.quantile(known, (0.02, 0.98)).tolist() if known.size else (None, None)
        drawn.append(colourise(map_, low=low, high=high))
    return np.stack(drawn)
