"""A relative depth network made metric, before it learns: its disparity fitted to measured depth.

The edges that it knows stay what they are. A new head, as in Depth Anything V2's metric code, would
have to find them again in what little has been measured.
"""

from collections.abc import Iterable
from typing import Any, cast

import torch
from torch import nn

from distill.models.depth_anything import DepthAnything
from distill.models.dpt import Dpt, last_convolution
from distill.types import Sample, Space

_NEAREST_SHARE = 1e-3  # of `max_depth`, and of what is missing to it: where a sigmoid can still be


@torch.no_grad()
def in_metres(
    student: DepthAnything | Dpt, samples: Iterable[Sample], *, max_depth: int
) -> DepthAnything | Dpt:
    """The same network predicting metres; one line from its disparity to depth is fitted.

    Least squares over all valid pixels, of depth behind a ReLU, of its logit in Depth Anything,
    whose metric networks end in `max_depth` times a sigmoid. Both numbers go into the last
    convolution, so nothing is added. A network that predicts metres already stays as it is.

    Args:
        student: relative, with its weights.
        samples: some with depth in metres, of sizes that the student takes.
        max_depth: metres.

    Raises:
        ValueError: no sample has depth to fit, or the student predicts a constant.
    """
    if student.space is Space.METRIC_DEPTH:
        return student
    bounded = isinstance(student, DepthAnything)
    seen, wanted = [], []
    for sample in samples:
        assert sample.target is not None
        assert sample.valid is not None
        known = sample.valid & (sample.target <= max_depth)
        seen.append(student.eval()(sample.image[None])[0][known].double())
        share = (sample.target[known].double() / max_depth).clamp(
            _NEAREST_SHARE, 1 - _NEAREST_SHARE
        )
        wanted.append(share.logit() if bounded else share * max_depth)
    x, y = torch.cat([torch.zeros(0), *seen]), torch.cat([torch.zeros(0), *wanted])
    if len(x) < 2 or x.std() <= 1e-6 * x.abs().mean():
        raise ValueError(
            f"in_metres: {len(x)} measured pixels within {max_depth} m and a prediction from "
            f"{x.min() if len(x) else 0:.3g} to {x.max() if len(x) else 0:.3g}; depth in metres "
            "and a trained network are needed"
        )
    slope = ((x - x.mean()) * (y - y.mean())).mean() / x.var(correction=0)
    network: Any = student.network
    last = last_convolution(network)
    last.weight.mul_(slope.float())
    last.bias.mul_(slope.float()).add_((y.mean() - slope * x.mean()).float())
    network.config.depth_estimation_type = "metric"
    if bounded:
        network.config.max_depth = network.head.max_depth = max_depth
        network.head.activation2 = nn.Sigmoid()
    student.space, student.imported = Space.METRIC_DEPTH, None
    return cast(DepthAnything | Dpt, student.train())
