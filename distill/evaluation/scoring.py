"""One prediction against one truth under one protocol: fit, floor, invert, measure.

A protocol says how (`protocols.Protocol`), `published` holds those of papers.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from distill import alignment
from distill.evaluation import fit_grid
from distill.evaluation.boundary import boundary_scores
from distill.evaluation.metrics import all_metrics
from distill.evaluation.protocols import Alignment, Protocol, measured_pixels
from distill.types import Prediction, Space

# what a prediction's unknowns allow: a shift that is unknown in disparity is not undone by a fit in
# depth, nor one that is unknown in depth by a fit in disparity
_METRIC = {Space.METRIC_DEPTH, Space.METRIC_INVERSE_DEPTH}
_UP_TO_SCALE = _METRIC | {Space.SCALE_INVARIANT_DEPTH, Space.SCALE_INVARIANT_DISPARITY}
_ALLOWED = {
    Alignment.NONE: _METRIC,
    Alignment.RATIO_OF_MEDIANS: _UP_TO_SCALE,
    Alignment.MEDIAN_OF_RATIOS: _UP_TO_SCALE,
    Alignment.SCALE: _UP_TO_SCALE,
    Alignment.L1_SCALE: _UP_TO_SCALE,
    Alignment.DEPTH: _UP_TO_SCALE | {Space.AFFINE_DEPTH},
    Alignment.L1_DEPTH: _UP_TO_SCALE | {Space.AFFINE_DEPTH},
    Alignment.DISPARITY: _UP_TO_SCALE | {Space.AFFINE_DISPARITY},
}
_SMALLEST = 1e-6  # a predicted depth or inverse depth at or below 0 has no reciprocal


@dataclass(frozen=True, kw_only=True)
class Aligned:
    """A prediction as depth in metres.

    Attributes:
        depth: metres, > 0.
        scale, shift: `aligned = scale * pred + shift` in the protocol's fit space.
        floored: where the floor or the clip changed the aligned value.
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
        `floored`, the share of the measured pixels at the floor or the clip; the flags hold
        those of `flags_of`.

    Raises:
        ValueError: sizes differ, the prediction is not finite, or its space does not allow the
            protocol's alignment.
    """
    values = prediction.values
    if values.shape != target.shape:
        raise ValueError(f"prediction {tuple(values.shape)} but truth {tuple(target.shape)}")
    flags = flags_of(values)
    measured = measured_pixels(target, valid, protocol)
    n_valid = int(measured.sum())
    if n_valid < protocol.min_pixels:
        return {"n_valid": n_valid, "flags": [*flags, "skipped"]}
    aligned = align(prediction, target, measured, protocol)
    measure = all_metrics if protocol.measures == "depth" else boundary_scores
    return {
        **measure(aligned.depth, target, measured),
        "n_valid": n_valid,
        "scale": aligned.scale,
        "shift": aligned.shift,
        "floored": aligned.floored[measured].double().mean().item(),
        "flags": [*flags, *aligned.flags],
    }


def flags_of(values: Float[Tensor, "h w"]) -> list[str]:
    """The flags of a predicted map, whatever it is scored by: "mostly zero", or none.

    More than half exact zeros are what a dead final ReLU gives.

    Raises:
        ValueError: a pixel is not finite.
    """
    if not values.isfinite().all():
        raise ValueError(f"{int((~values.isfinite()).sum())} predicted pixels are not finite")
    return ["mostly zero"] if (values == 0).double().mean() > 0.5 else []


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
    scale, shift, flags = _fit(*_fitted(x, y, measured, protocol), protocol.alignment)
    depth, floored = _to_depth(scale * x + shift, truth[measured].max().item(), protocol)
    return Aligned(depth=depth, scale=scale, shift=shift, floored=floored, flags=flags)


def _fitted(
    x: Float[Tensor, "h w"], y: Float[Tensor, "h w"], measured: Bool[Tensor, "h w"], rules: Protocol
) -> tuple[Float[Tensor, "1 a b"], Float[Tensor, "1 a b"], Bool[Tensor, "1 a b"]]:
    """Prediction, truth and what counts, as batches of one image that holds what is fitted."""
    if rules.fit_grid == "full":
        return x[None], y[None], measured[None]
    if rules.fit_grid == "nearest 1024":
        chosen = fit_grid.nearest_within(measured, 1024)
    else:
        chosen = fit_grid.nearest_of_cells(measured, 64)
    x, y = (values.flatten()[chosen][None, None] for values in (x, y))
    return x, y, torch.ones_like(x, dtype=torch.bool)


def _fit(
    x: Float[Tensor, "1 h w"],
    y: Float[Tensor, "1 h w"],
    counted: Bool[Tensor, "1 h w"],
    family: Alignment,
) -> tuple[float, float, tuple[str, ...]]:
    maps = x, y, counted
    shift = 0.0
    match family:
        case Alignment.NONE:
            return 1.0, 0.0, ()
        case Alignment.RATIO_OF_MEDIANS:
            scale = alignment.ratio_of_medians(*maps).item()
        case Alignment.MEDIAN_OF_RATIOS:
            scale = alignment.median_of_ratios(*maps).item()
        case Alignment.SCALE:
            scale = alignment.least_squares_scale(*maps).item()
        case Alignment.L1_SCALE:
            scale = alignment.weighted_l1_scale(*maps, 1 / y).item()
        case Alignment.L1_DEPTH:
            scale, shift = (fitted.item() for fitted in alignment.weighted_l1(*maps, 1 / y))
        case _:
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
