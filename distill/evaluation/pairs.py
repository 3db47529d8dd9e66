"""Which of two points is closer: the accuracy of DA-2K (Yang et al. 2024, Depth Anything V2).

A pair says which of its points people found closer. It counts as right only where the prediction
puts that point strictly closer: a model that says the same everywhere has an accuracy of 0.
"""

import math
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

from distill.evaluation.scoring import flags_of
from distill.types import Dataset, Prediction


@runtime_checkable
class Pair(Protocol):
    """Two points of an image, (row, column) of its pixels."""

    @property
    def closer(self) -> tuple[int, int]:
        """The one that is closer to the camera."""
        ...

    @property
    def farther(self) -> tuple[int, int]:
        """The other one."""
        ...


@runtime_checkable
class PairDataset(Dataset, Protocol):
    """Images with pairs of points instead of depth; `datasets.da2k` is one."""

    def pairs(self, index: int) -> Sequence[Pair]:
        """Of image `index`."""
        ...

    def scene(self, index: int) -> str:
        """The kind of scene that image `index` shows."""
        ...


def score_pairs(prediction: Prediction, pairs: Sequence[Pair], scene: str) -> dict[str, Any]:
    """The row of one image: how many of its pairs are right.

    Args:
        prediction: at the size of the image, in any space.
        pairs: of the image.
        scene: goes into the row.

    Returns:
        `pairs`, `correct`, `ties` (which are wrong), `accuracy`, `scene`, `flags`; without pairs
        the flag is "skipped" and there is no accuracy.

    Raises:
        ValueError: a point lies outside the image, or the prediction is not finite.
    """
    values = prediction.values if prediction.space.is_inverse else -prediction.values
    flags = flags_of(values)
    height, width = values.shape
    for row, column in (point for pair in pairs for point in (pair.closer, pair.farther)):
        if not (0 <= row < height and 0 <= column < width):
            raise ValueError(f"point at row {row}, column {column} of {height} x {width} pixels")
    if not pairs:
        return {"pairs": 0, "scene": scene, "flags": [*flags, "skipped"]}
    gaps = [(values[pair.closer] - values[pair.farther]).item() for pair in pairs]
    correct = sum(gap > 0 for gap in gaps)
    return {
        "accuracy": correct / len(pairs),
        "correct": correct,
        "ties": gaps.count(0.0),
        "pairs": len(pairs),
        "scene": scene,
        "flags": flags,
    }


def accuracies(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """`accuracy` over all pairs, `accuracy_mean_of_scenes`, and one for each kind of scene."""
    scenes = sorted({row["scene"] for row in rows})
    each = {s: _share([row for row in rows if row["scene"] == s]) for s in scenes}
    return {
        "accuracy": _share(rows),
        "accuracy_mean_of_scenes": math.fsum(each.values()) / len(each),
        **{f"accuracy_{scene}": share for scene, share in each.items()},
    }


def _share(rows: Sequence[dict[str, Any]]) -> float:
    return sum(row["correct"] for row in rows) / sum(row["pairs"] for row in rows)
