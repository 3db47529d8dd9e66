"""Maps to pictures."""

import matplotlib
import numpy as np
from jaxtyping import Float, UInt8
from numpy import ndarray

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
