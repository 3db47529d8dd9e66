"""Every alignment and floor against numbers from NumPy in float64 and, for L1, scipy's HiGHS.

The scoring engine computes all of them from protocols; no arithmetic happens here.
"""

import dataclasses

import pytest
import torch
from wedge import wedge

from distill.evaluation.boundary import boundary_recall, boundary_scores
from distill.evaluation.house import boundaries
from distill.evaluation.metrics import METRICS
from distill.evaluation.protocols import Alignment, Protocol
from distill.evaluation.scoring import align, score
from distill.types import Prediction, Space

TARGET, VALID, DISPARITY, DEPTH = wedge()
IN_DEPTH = Prediction(values=DEPTH, space=Space.METRIC_DEPTH)
IN_DISPARITY = Prediction(values=DISPARITY, space=Space.AFFINE_DISPARITY)


def protocol(alignment, **settings):
    return Protocol(id="test", dataset="wedge", alignment=alignment, source="", **settings)


def test_the_input_is_the_one_that_was_measured():
    assert int(VALID.sum()) == 658
    means = [values[VALID].mean().item() for values in (TARGET, DISPARITY, DEPTH)]
    assert means == pytest.approx((10.212538, 0.259430, 15.725850), abs=1e-6)


@pytest.mark.parametrize(
    ("alignment", "scale", "shift", "expected"),
    [
        pytest.param(
            Alignment.NONE, 1, 0,
            (0.580978, 3.002173, 9.394448, 0.459041, 0.198549, 4.134178, 0, 0.480243, 1),
            id="V1-A0",
        ),
        pytest.param(
            Alignment.RATIO_OF_MEDIANS, 0.643480, 0,
            (0.032327, 0.011523, 0.553736, 0.044443, 0.013673, 4.134178, 1, 1, 1),
            id="V2-A1",
        ),
        pytest.param(
            Alignment.MEDIAN_OF_RATIOS, 0.638745, 0,
            (0.031612, 0.013269, 0.672013, 0.042294, 0.013465, 4.134178, 1, 1, 1),
            id="V3-A1'",
        ),
        pytest.param(
            Alignment.SCALE, 0.661058, 0,
            (0.045792, 0.014547, 0.263529, 0.059839, 0.019082, 4.134178, 1, 1, 1),
            id="V4-A2",
        ),
        pytest.param(
            Alignment.DEPTH, 0.666593, -0.270206,
            (0.025556, 0.004019, 0.141273, 0.032315, 0.011103, 3.231207, 1, 1, 1),
            id="V5-A3",
        ),
        pytest.param(
            Alignment.L1_DEPTH, 0.666047, -0.276742,
            (0.025526, 0.004038, 0.142626, 0.032465, 0.011119, 3.236127, 1, 1, 1),
            id="V11-A5-scale-and-shift",
        ),
        pytest.param(
            Alignment.L1_SCALE, 0.637790, 0,
            (0.031596, 0.013754, 0.696447, 0.042004, 0.013478, 4.134178, 1, 1, 1),
            id="V12-A5-scale",
        ),
    ],
)  # fmt: skip
def test_fits_in_depth(alignment, scale, shift, expected):
    row = score(IN_DEPTH, TARGET, VALID, protocol(alignment))
    assert row["n_valid"] == 658
    assert (row["scale"], row["shift"]) == pytest.approx((scale, shift), abs=1e-6)
    assert [row[name] for name in METRICS] == pytest.approx(expected, abs=1e-6)


def test_the_least_weighted_sum_of_errors():
    """V11's objective is the sum of |error| / truth: AbsRel times the number of pixels."""
    row = score(IN_DEPTH, TARGET, VALID, protocol(Alignment.L1_DEPTH))
    assert row["abs_rel"] * row["n_valid"] == pytest.approx(16.795854, abs=1e-6)


FLOORED = (0.117089, 1.071629, 7.760180, 0.204245, 0.054814, 20.277866, 0.919453, 0.957447,
           0.969605)  # fmt: skip


@pytest.mark.parametrize(
    ("floor", "clip", "expected"),
    [
        pytest.param(1 / 80, None, FLOORED, id="V6-midas"),
        pytest.param(
            "1/max", None,
            (0.106958, 0.868994, 6.932700, 0.197991, 0.051017, 19.519208,
             0.949848, 0.957447, 0.969605),
            id="V7-moge",
        ),
        pytest.param(1e-3, (1e-3, 80.0), FLOORED, id="V8-marigold"),
        pytest.param(
            1e-3, None,
            (0.388402, 249.375136, 122.304664, 0.427438, 0.076270, 42.670801,
             0.919453, 0.933131, 0.945289),
            id="V9-floor-alone",
        ),
        pytest.param(
            1e-8, None,
            (27862.318493, None, None, 1.865881, 0.159856, 185.316788,
             0.919453, 0.933131, 0.945289),
            id="V10-hardly-a-floor",
        ),
    ],
)  # fmt: skip
def test_floors_of_a_fit_in_disparity(floor, clip, expected):
    """A4: the fits are one; the floor alone decides the number."""
    rules = protocol(Alignment.DISPARITY, floor=floor, clip=clip)
    row = score(IN_DISPARITY, TARGET, VALID, rules)
    assert (row["scale"], row["shift"]) == pytest.approx((1.222169, -0.118066), abs=1e-6)
    wanted = {name: x for name, x in zip(METRICS, expected, strict=True) if x is not None}
    assert {name: row[name] for name in wanted} == pytest.approx(wanted, abs=1e-6)
    assert row["floored"] >= 11 / 658


def test_eleven_aligned_pixels_are_not_positive():
    rules = protocol(Alignment.DISPARITY, floor=1e-8)
    aligned = align(IN_DISPARITY, TARGET, VALID, rules)
    assert int(aligned.floored[VALID].sum()) == 11
    lowest = (aligned.scale * DISPARITY + aligned.shift)[VALID].min().item()
    assert lowest == pytest.approx(-0.003608, abs=1e-6)


def test_boundary_f1():
    everywhere = torch.ones_like(VALID)
    rules = boundaries(dataclasses.replace(protocol(Alignment.NONE), minimum=0.0))
    assert score(IN_DEPTH, TARGET, everywhere, rules)["bf1"] == pytest.approx(0.487790, abs=1e-6)
    own = Prediction(values=TARGET, space=Space.METRIC_DEPTH)
    assert score(own, TARGET, everywhere, rules)["bf1"] == pytest.approx(0.5, abs=1e-6)
    first = boundary_scores(DEPTH, TARGET, everywhere)
    assert first["bf1"] == pytest.approx(0.487790, abs=1e-6)


def test_boundary_recall():
    y, x = torch.meshgrid(torch.arange(24.0), torch.arange(32.0), indexing="ij")
    disc = ((x - 10) ** 2 + (y - 12) ** 2 < 36).double()
    assert boundary_recall(5 - 2 * disc, disc) == pytest.approx(1.0, abs=1e-6)
    assert boundary_recall(DEPTH, disc) == pytest.approx(0.159091, abs=1e-6)
