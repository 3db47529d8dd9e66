"""Point-wise depth metrics of one image, in float64: maps in, one number out.

`pred` and `target` are in the same unit and already aligned; only pixels in `valid` count. The
mean over a data set is the mean of these numbers (`evaluate`), never a mean over all its pixels.
"""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

METRICS = (
    *("abs_rel", "sq_rel", "rmse", "rmse_log", "log10", "silog"),
    *("delta1", "delta2", "delta3"),
)


def abs_rel(
    pred: Float[Tensor, "h w"], target: Float[Tensor, "h w"], valid: Bool[Tensor, "h w"]
) -> float:
    """Mean of |pred - target| / target.

    Raises:
        ValueError: no valid pixel, or a valid target that is not positive.
    """
    p, t = _positive_target(pred, target, valid, "abs_rel")
    return ((p - t).abs() / t).mean().item()


def sq_rel(
    pred: Float[Tensor, "h w"], target: Float[Tensor, "h w"], valid: Bool[Tensor, "h w"]
) -> float:
    """Mean of (pred - target)^2 / target: the denominator is not squared. Eigen et al. 2014.

    Raises:
        ValueError: no valid pixel, or a valid target that is not positive.
    """
    p, t = _positive_target(pred, target, valid, "sq_rel")
    return ((p - t).square() / t).mean().item()


def rmse(
    pred: Float[Tensor, "h w"], target: Float[Tensor, "h w"], valid: Bool[Tensor, "h w"]
) -> float:
    """Root of the mean of (pred - target)^2, in the unit of the maps.

    Raises:
        ValueError: no valid pixel.
    """
    p, t = _pixels(pred, target, valid, "rmse")
    return (p - t).square().mean().sqrt().item()


def rmse_log(
    pred: Float[Tensor, "h w"], target: Float[Tensor, "h w"], valid: Bool[Tensor, "h w"]
) -> float:
    """Root of the mean of (ln pred - ln target)^2.

    Raises:
        ValueError: no valid pixel, or a valid pixel of either map that is not positive.
    """
    return _log_ratio(pred, target, valid, "rmse_log").square().mean().sqrt().item()


def log10(
    pred: Float[Tensor, "h w"], target: Float[Tensor, "h w"], valid: Bool[Tensor, "h w"]
) -> float:
    """Mean of |log10 pred - log10 target|.

    Raises:
        ValueError: no valid pixel, or a valid pixel of either map that is not positive.
    """
    return _log_ratio(pred, target, valid, "log10").abs().mean().item() / math.log(10)


def silog(
    pred: Float[Tensor, "h w"], target: Float[Tensor, "h w"], valid: Bool[Tensor, "h w"]
) -> float:
    """100 times the standard deviation (division by n) of ln pred - ln target: no scale counts.

    Raises:
        ValueError: no valid pixel, or a valid pixel of either map that is not positive.
    """
    e = _log_ratio(pred, target, valid, "silog")
    return 100 * (e - e.mean()).square().mean().sqrt().item()


def delta(
    pred: Float[Tensor, "h w"],
    target: Float[Tensor, "h w"],
    valid: Bool[Tensor, "h w"],
    *,
    k: int = 1,
) -> float:
    """Share of valid pixels with max(pred / target, target / pred) < 1.25^k, strictly.

    Raises:
        ValueError: no valid pixel, or a valid pixel of either map that is not positive.
    """
    p, t = _positive(pred, target, valid, "delta")
    return (torch.maximum(p / t, t / p) < 1.25**k).double().mean().item()


def all_metrics(
    pred: Float[Tensor, "h w"], target: Float[Tensor, "h w"], valid: Bool[Tensor, "h w"]
) -> dict[str, float]:
    """Every metric of this file under its name, in the order of a results table.

    Raises:
        ValueError: no valid pixel, or a valid pixel of either map that is not positive.
    """
    # the valid pixels are picked once: each function then sees a map of one row
    p, t = (pixels[None] for pixels in _positive(pred, target, valid, "all_metrics"))
    every = torch.ones_like(p, dtype=torch.bool)
    scores = {m.__name__: m(p, t, every) for m in (abs_rel, sq_rel, rmse, rmse_log, log10, silog)}
    return scores | {f"delta{k}": delta(p, t, every, k=k) for k in (1, 2, 3)}


def _pixels(
    pred: Float[Tensor, "h w"],
    target: Float[Tensor, "h w"],
    valid: Bool[Tensor, "h w"],
    name: str,
) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
    if not valid.any():
        raise ValueError(f"{name}: no valid pixel; skip the image and count it as skipped")
    return pred[valid].double(), target[valid].double()


def _positive_target(
    pred: Float[Tensor, "h w"],
    target: Float[Tensor, "h w"],
    valid: Bool[Tensor, "h w"],
    name: str,
) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
    p, t = _pixels(pred, target, valid, name)
    if not (t > 0).all():
        raise ValueError(
            f"{name}: smallest valid target is {t.min().item():g} but must be > 0; "
            "leave pixels without depth out of `valid`"
        )
    return p, t


def _positive(
    pred: Float[Tensor, "h w"],
    target: Float[Tensor, "h w"],
    valid: Bool[Tensor, "h w"],
    name: str,
) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
    p, t = _positive_target(pred, target, valid, name)
    if not (p > 0).all():
        raise ValueError(
            f"{name}: smallest valid prediction is {p.min().item():g} but must be > 0; "
            "clamp it as the protocol says before measuring"
        )
    return p, t


def _log_ratio(
    pred: Float[Tensor, "h w"],
    target: Float[Tensor, "h w"],
    valid: Bool[Tensor, "h w"],
    name: str,
) -> Float[Tensor, " n"]:
    p, t = _positive(pred, target, valid, name)
    return p.log() - t.log()
