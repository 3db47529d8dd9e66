"""Pairs of points by hand: order in every space, ties, rows before columns, means by scene."""

from dataclasses import dataclass

import pytest
import torch

from distill.evaluation.pairs import accuracies, score_pairs
from distill.types import Prediction, Space

MAP = torch.tensor([[5.0, 4.0, 3.0], [2.0, 1.0, 1.0]])


@dataclass(frozen=True)
class Points:
    closer: tuple[int, int]
    farther: tuple[int, int]


RIGHT, WRONG, TIE = Points((0, 0), (1, 2)), Points((1, 0), (0, 2)), Points((1, 1), (1, 2))


@pytest.mark.parametrize("space", Space)
def test_closer_is_larger_in_inverse_spaces_and_smaller_in_depth(space):
    values = MAP if space.is_inverse else -MAP
    pairs = [RIGHT, RIGHT, WRONG, TIE]
    row = score_pairs(Prediction(values=values, space=space), pairs, "indoor")
    assert (row["pairs"], row["correct"], row["ties"]) == (4, 2, 1)
    assert row["accuracy"] == 0.5
    assert (row["scene"], row["flags"]) == ("indoor", [])
    opposite = score_pairs(Prediction(values=-values, space=space), [RIGHT, RIGHT, WRONG], "s")
    assert opposite["correct"] == 1


def test_a_model_that_says_the_same_everywhere_is_never_right():
    """However the points of a pair are ordered: counting ties as right would give it 100%."""
    flat = Prediction(values=torch.full((2, 3), 0.7), space=Space.AFFINE_DISPARITY)
    turned = [Points(pair.farther, pair.closer) for pair in (RIGHT, WRONG, TIE)]
    for pairs in ([RIGHT, WRONG, TIE], turned):
        assert score_pairs(flat, pairs, "s")["accuracy"] == 0
    sharp = Prediction(values=MAP, space=Space.AFFINE_DISPARITY)
    assert score_pairs(sharp, turned, "s")["correct"] == 1  # WRONG turned round


def test_what_cannot_be_scored():
    prediction = Prediction(values=MAP, space=Space.ORDINAL)
    with pytest.raises(ValueError, match="point at row 0, column 3 of 2 x 3 pixels"):
        score_pairs(prediction, [Points((0, 0), (0, 3))], "s")
    with pytest.raises(ValueError, match="point at row -1, column 0"):
        score_pairs(prediction, [Points((-1, 0), (0, 0))], "s")
    broken = Prediction(values=MAP.log().sub(1).sqrt(), space=Space.ORDINAL)
    with pytest.raises(ValueError, match="predicted pixels are not finite"):
        score_pairs(broken, [RIGHT], "s")
    empty = score_pairs(prediction, [], "s")
    assert empty == {"pairs": 0, "scene": "s", "flags": ["skipped"]}
    dead = Prediction(values=torch.zeros(2, 3), space=Space.AFFINE_DISPARITY)
    assert score_pairs(dead, [RIGHT], "s")["flags"] == ["mostly zero"]


def test_accuracy_is_of_all_pairs_and_the_mean_of_scenes_is_of_scenes():
    rows = [
        {"correct": 3, "pairs": 3, "scene": "indoor"},
        {"correct": 0, "pairs": 1, "scene": "aerial"},
        {"correct": 1, "pairs": 1, "scene": "aerial"},
    ]
    assert accuracies(rows) == {
        "accuracy": 4 / 5,
        "accuracy_mean_of_scenes": 0.75,
        "accuracy_aerial": 0.5,
        "accuracy_indoor": 1.0,
    }
