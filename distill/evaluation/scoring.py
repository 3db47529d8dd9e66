"""One prediction against one truth under one protocol: fit, floor, invert, measure.

evaluation.md numbers the alignments A0 (none), A1 (ratio of medians), A2 (scale), A3 (scale and
shift in depth), A4 (scale and shift in disparity).
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from distill import alignment
from distill.evaluation.benchmarks import Alignment, Protocol, measured_pixels
from distill.evaluation.metrics import all_metrics
from distill.types import Prediction, Space

# what a prediction's unknowns allow: a shift unknown in disparity is not undone by a fit in depth
_ALLOWED = {
    Alignment.NONE: {Space.METRIC_DEPTH, Space.METRIC_INVERSE_DEPTH},
    Alignment.RATIO_OF_MEDIANS: {
        Space.METRIC_DEPTH,
        Space.METRIC_INVERSE_DEPTH,
        Space.SCALE_INVARIANT_DEPTH,
        Space.SCALE_INVARIANT_DISPARITY,
    },
    Alignment.DISPARITY: set(Space) - {Space.ORDINAL},
}
_ALLOWED[Alignment.SCALE] = _ALLOWED[Alignment.RATIO_OF_MEDIANS]
_ALLOWED[Alignment.DEPTH] = _ALLOWED[Alignment.SCALE] | {Space.AFFINE_DEPTH}
_SMALLEST = 1e-6  # a predicted depth or inverse depth at or below 0 has no reciprocal


@dataclass(frozen=True, kw_only=True)
class Aligned:
    """A prediction as depth in metres.

    Attributes:
        depth: metres, > 0.
        scale, shift: `aligned = scale * pred + shift` in the protocol's fit space.
        floored: pixels whose aligned value was raised to the floor or clip; where they are.
        flags: "degenerate" (constant prediction: scale 0), "negative scale".
    """

    depth: Float[Tensor, "h w"]
    scale: float
    shift: float
    floored: Bool[Tensor, "h w"]
    flags: tuple[str, ...]


def score(
    prediction: Prediction,
    target: Float[Tensor, "h w"],
    valid: Bool[Tensor, "h w"],
    protocol: Protocol,
) -> dict[str, Any]:
    """The row of one image: metrics, fit, counts and flags.

    Args:
        prediction: at the size of `target`.
        target: metres.
        valid: finite truth; the protocol's range and crop are applied here.
        protocol: what to fit and measure.

    Returns:
        `n_valid`, `flags`, and unless "skipped" is a flag the metrics, `scale`, `shift` and
        `floored`, the share of the measured pixels at the floor. The flag "mostly zero" marks a
        prediction with more than half exact zeros, what a dead final ReLU gives.

    Raises:
        ValueError: sizes differ, the prediction is not finite, or its space does not allow the
            protocol's alignment.
    """
    values = prediction.values
    if values.shape != target.shape:
        raise ValueError(f"prediction {tuple(values.shape)} but truth {tuple(target.shape)}")
    if not values.isfinite().all():
        raise ValueError(f"{int((~values.isfinite()).sum())} predicted pixels are not finite")
    measured = measured_pixels(target, valid, protocol)
    n_valid = int(measured.sum())
    flags = ["mostly zero"] if (values == 0).double().mean() > 0.5 else []
    if n_valid < protocol.min_pixels:
        return {"n_valid": n_valid, "flags": [*flags, "skipped"]}
    aligned = align(prediction, target, measured, protocol)
    return {
        **all_metrics(aligned.depth, target, measured),
        "n_valid": n_valid,
        "scale": aligned.scale,
        "shift": aligned.shift,
        "floored": aligned.floored[measured].double().mean().item(),
        "flags": [*flags, *aligned.flags],
    }


def align(
    prediction: Prediction,
    target: Float[Tensor, "h w"],
    measured: Bool[Tensor, "h w"],
    protocol: Protocol,
) -> Aligned:
    """The prediction as depth in metres: fitted on the measured pixels, applied to all.

    A negative scale is kept and flagged, never turned round: it says the polarity is wrong.

    Raises:
        ValueError: the prediction's space does not allow the protocol's alignment.
    """
    if prediction.space not in _ALLOWED[protocol.alignment]:
        raise ValueError(
            f"protocol {protocol.id} aligns by {protocol.alignment.value}, which a prediction in "
            f"{prediction.space.value} does not allow; choose a benchmark whose protocol does"
        )
    truth = target.double().where(measured, torch.ones_like(target, dtype=torch.float64))
    in_disparity = protocol.alignment is Alignment.DISPARITY
    x = prediction.values.double()
    if prediction.space.is_inverse != in_disparity:
        x = 1 / x.clamp(min=_SMALLEST)
    y = 1 / truth if in_disparity else truth
    scale, shift, flags = _fit(x, y, measured, protocol.alignment)
    depth, floored = _to_depth(scale * x + shift, truth[measured].max().item(), protocol)
    return Aligned(depth=depth, scale=scale, shift=shift, floored=floored, flags=flags)


def _fit(
    x: Float[Tensor, "h w"],
    y: Float[Tensor, "h w"],
    measured: Bool[Tensor, "h w"],
    family: Alignment,
) -> tuple[float, float, tuple[str, ...]]:
    if family is Alignment.NONE:
        return 1.0, 0.0, ()
    maps = x[None], y[None], measured[None]
    if family is Alignment.RATIO_OF_MEDIANS:
        scale, shift = alignment.ratio_of_medians(*maps).item(), 0.0
    elif family is Alignment.SCALE:
        scale, shift = alignment.least_squares_scale(*maps).item(), 0.0
    else:
        scale, shift = (fitted.item() for fitted in alignment.least_squares(*maps))
    flags = ("degenerate",) if scale == 0 else ("negative scale",) if scale < 0 else ()
    return scale, shift, flags


def _to_depth(
    aligned: Float[Tensor, "h w"], deepest: float, protocol: Protocol
) -> tuple[Float[Tensor, "h w"], Bool[Tensor, "h w"]]:
    floored = torch.zeros_like(aligned, dtype=torch.bool)
    if protocol.floor is not None:
        floor = 1 / deepest if protocol.floor == "1/max" else protocol.floor
        floored = aligned < floor
        aligned = 1 / aligned.clamp(min=floor)
    low, high = protocol.clip or (_SMALLEST, float("inf"))
    return aligned.clamp(low, high), floored | (aligned < low) | (aligned > high)
