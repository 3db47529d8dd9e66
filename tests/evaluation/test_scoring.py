"""The conformance vectors of our evaluation rules, and what decides a number besides the metric."""

import dataclasses

import numpy as np
import pytest
import torch

from distill.evaluation.benchmarks import Alignment, Crop, Protocol
from distill.evaluation.scoring import align, score
from distill.types import Prediction, Space

METRICS = ("abs_rel", "sq_rel", "rmse", "rmse_log", "log10", "silog", "delta1", "delta2", "delta3")


def wedge():
    """A tilted plane with a step, two far rows, and holes; predictions with smooth errors."""
    y, x = np.mgrid[0:24, 0:32].astype(float)
    truth = 2 + 0.1 * x + 0.05 * y + 3 * (x >= 16)
    truth[y < 2] = 60
    disparity = 0.8 / truth + 0.1 + 0.02 * np.sin(0.7 * x + 0.3 * y)
    depth = 1.5 * truth + 0.4 + 0.3 * np.cos(0.5 * x - 0.2 * y)
    return [torch.from_numpy(a) for a in (truth, (x + 2 * y) % 7 != 0, disparity, depth)]


TARGET, VALID, DISPARITY, DEPTH = wedge()


def protocol(alignment, **settings):
    return Protocol(id="test", dataset="wedge", alignment=alignment, source="", **settings)


NONE = protocol(Alignment.NONE)
IN_DISPARITY = protocol(Alignment.DISPARITY, floor="1/max")


# evaluation rules, section 8: numpy float64
@pytest.mark.parametrize(
    ("rules", "scale", "shift", "expected"),
    [
        pytest.param(
            NONE, 1, 0,
            (0.580978, 3.002173, 9.394448, 0.459041, 0.198549, 4.134178, 0, 0.480243, 1),
            id="V1-none",
        ),
        pytest.param(
            protocol(Alignment.RATIO_OF_MEDIANS), 0.643480, 0,
            (0.032327, 0.011523, 0.553736, 0.044443, 0.013673, 4.134178, 1, 1, 1),
            id="V2-ratio-of-medians",
        ),
        pytest.param(
            protocol(Alignment.SCALE), 0.661058, 0,
            (0.045792, 0.014547, 0.263529, 0.059839, 0.019082, 4.134178, 1, 1, 1),
            id="V4-scale",
        ),
        pytest.param(
            protocol(Alignment.DEPTH), 0.666593, -0.270206,
            (0.025556, 0.004019, 0.141273, 0.032315, 0.011103, 3.231207, 1, 1, 1),
            id="V5-scale-and-shift-in-depth",
        ),
    ],
)  # fmt: skip
def test_depth_vectors(rules, scale, shift, expected):
    row = score(Prediction(values=DEPTH, space=Space.METRIC_DEPTH), TARGET, VALID, rules)
    assert row["n_valid"] == 658
    assert (row["scale"], row["shift"]) == pytest.approx((scale, shift), abs=1e-6)
    assert [row[name] for name in METRICS] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("floor", "clip", "expected"),
    [
        pytest.param(
            1 / 80, None,
            (0.117089, 1.071629, 7.760180, 0.204245, 0.054814, 20.277866,
             0.919453, 0.957447, 0.969605),
            id="V6-midas",
        ),
        pytest.param(
            "1/max", None,
            (0.106958, 0.868994, 6.932700, 0.197991, 0.051017, 19.519208,
             0.949848, 0.957447, 0.969605),
            id="V7-moge",
        ),
        pytest.param(
            1e-3, (1e-3, 80.0),
            (0.117089, 1.071629, 7.760180, 0.204245, 0.054814, 20.277866,
             0.919453, 0.957447, 0.969605),
            id="V8-marigold",
        ),
        pytest.param(
            1e-3, None,
            (0.388402, 249.375136, 122.304664, 0.427438, 0.076270, 42.670801,
             0.919453, 0.933131, 0.945289),
            id="V9-floor-only",
        ),
    ],
)  # fmt: skip
def test_disparity_vectors(floor, clip, expected):
    rules = protocol(Alignment.DISPARITY, floor=floor, clip=clip)
    row = score(Prediction(values=DISPARITY, space=Space.AFFINE_DISPARITY), TARGET, VALID, rules)
    assert (row["scale"], row["shift"]) == pytest.approx((1.222169, -0.118066), abs=1e-6)
    assert [row[name] for name in METRICS] == pytest.approx(expected, abs=1e-6)
    assert row["floored"] >= 11 / 658  # as many aligned values are not positive


def test_a_floor_of_almost_zero_decides_the_number():
    # V10 of the same table
    rules = protocol(Alignment.DISPARITY, floor=1e-8)
    row = score(Prediction(values=DISPARITY, space=Space.AFFINE_DISPARITY), TARGET, VALID, rules)
    assert row["abs_rel"] == pytest.approx(27862.318493, abs=1e-6)
    assert row["silog"] == pytest.approx(185.316788, abs=1e-6)


def test_exact_disparity_has_no_error_and_one_outlier_is_floored():
    x = 0.7 / TARGET + 0.05
    exact = score(Prediction(values=x, space=Space.AFFINE_DISPARITY), TARGET, VALID, IN_DISPARITY)
    assert (exact["scale"], exact["shift"]) == pytest.approx((1 / 0.7, -0.05 / 0.7), rel=1e-9)
    assert exact["abs_rel"] < 1e-9
    x[5, 3] = -10
    spoilt = score(Prediction(values=x, space=Space.AFFINE_DISPARITY), TARGET, VALID, IN_DISPARITY)
    assert 0.01 < spoilt["abs_rel"] < 10


@pytest.mark.parametrize(
    ("space", "values"),
    [
        (Space.METRIC_DEPTH, TARGET),
        (Space.SCALE_INVARIANT_DEPTH, 3 * TARGET),
        (Space.METRIC_INVERSE_DEPTH, 1 / TARGET),
        (Space.SCALE_INVARIANT_DISPARITY, 5 / TARGET),
        (Space.AFFINE_DISPARITY, 5 / TARGET + 1),
    ],
)
def test_a_right_answer_in_any_space_is_right_in_disparity(space, values):
    row = score(Prediction(values=values, space=space), TARGET, VALID, IN_DISPARITY)
    assert row["abs_rel"] < 1e-9
    assert row["flags"] == []


@pytest.mark.parametrize(
    ("alignment", "space"),
    [
        (Alignment.NONE, Space.SCALE_INVARIANT_DEPTH),
        (Alignment.NONE, Space.AFFINE_DISPARITY),
        (Alignment.SCALE, Space.AFFINE_DEPTH),
        (Alignment.RATIO_OF_MEDIANS, Space.AFFINE_DISPARITY),
        (Alignment.DEPTH, Space.AFFINE_DISPARITY),
    ],
)
def test_a_space_that_says_too_little_is_refused(alignment, space):
    with pytest.raises(ValueError, match=f"in {space.value} does not allow"):
        score(Prediction(values=TARGET, space=space), TARGET, VALID, protocol(alignment))
    ordinal = Prediction(values=TARGET, space=Space.ORDINAL)
    with pytest.raises(ValueError, match="in ordinal does not allow"):
        score(ordinal, TARGET, VALID, IN_DISPARITY)


def test_wrong_polarity_keeps_its_negative_scale_and_is_flagged():
    upside_down = Prediction(values=-1 / TARGET, space=Space.AFFINE_DISPARITY)
    row = score(upside_down, TARGET, VALID, IN_DISPARITY)
    assert row["scale"] == pytest.approx(-1)
    assert row["flags"] == ["negative scale"]


def test_a_constant_becomes_the_mean_disparity_and_is_flagged():
    flat = Prediction(values=torch.zeros_like(TARGET), space=Space.AFFINE_DISPARITY)
    row = score(flat, TARGET, VALID, IN_DISPARITY)
    assert row["flags"] == ["mostly zero", "degenerate"]
    assert row["scale"] == 0
    assert row["shift"] == pytest.approx((1 / TARGET[VALID]).mean().item())


def test_range_and_crop_come_before_the_fit():
    """Rubbish outside the range and the crop changes nothing, not even the fit."""
    crop = Crop(name="middle", rows=(0.25, 1.0), cols=(0.0, 0.5))
    rules = dataclasses.replace(IN_DISPARITY, crop=crop, maximum=4.0)
    values = 0.3 / TARGET + 1
    values[:6], values[:, 16:] = 1e3, -1e3
    row = score(Prediction(values=values, space=Space.AFFINE_DISPARITY), TARGET, VALID, rules)
    inside = VALID & (TARGET < 4)
    inside[:6], inside[:, 16:] = False, False
    assert row["n_valid"] == int(inside.sum()) > 0
    assert row["abs_rel"] < 1e-9


def test_ten_pixels_are_measured_nine_are_skipped():
    prediction = Prediction(values=1 / TARGET, space=Space.AFFINE_DISPARITY)
    few = torch.zeros_like(VALID)
    few[10, :9] = True
    assert score(prediction, TARGET, few, IN_DISPARITY) == {"n_valid": 9, "flags": ["skipped"]}
    few[10, 9] = True
    assert score(prediction, TARGET, few, IN_DISPARITY)["n_valid"] == 10


def test_bounds_are_exclusive():
    rules = dataclasses.replace(IN_DISPARITY, minimum=2.0, maximum=4.0)
    target = torch.tensor([[2.0, 3.0, 4.0]] * 10)
    row = score(
        Prediction(values=1 / target, space=Space.AFFINE_DISPARITY),
        target, torch.ones_like(target, dtype=torch.bool), rules,
    )  # fmt: skip
    assert row["n_valid"] == 10


def test_pixels_that_are_not_valid_cannot_matter():
    prediction = Prediction(values=DISPARITY, space=Space.AFFINE_DISPARITY)
    holes = TARGET.where(VALID, torch.nan)
    assert score(prediction, holes, VALID, IN_DISPARITY) == score(
        prediction, TARGET, VALID, IN_DISPARITY
    )


def test_a_prediction_of_another_size_or_not_finite_is_an_error():
    with pytest.raises(ValueError, match=r"prediction \(23, 32\) but truth \(24, 32\)"):
        score(Prediction(values=DEPTH[1:], space=Space.METRIC_DEPTH), TARGET, VALID, NONE)
    broken = DEPTH.clone()
    broken[0, 0] = torch.inf
    with pytest.raises(ValueError, match="1 predicted pixels are not finite"):
        score(Prediction(values=broken, space=Space.METRIC_DEPTH), TARGET, VALID, NONE)


def test_a_metric_prediction_is_clipped_not_refused():
    rules = dataclasses.replace(NONE, clip=(1e-3, 50.0))
    values = TARGET.clone()
    values[3, 3], values[4, 3] = -1, 99
    aligned = align(Prediction(values=values, space=Space.METRIC_DEPTH), TARGET, VALID, rules)
    assert (aligned.depth[3, 3], aligned.depth[4, 3]) == (1e-3, 50)
    assert int(aligned.floored.sum()) == 2 + 64  # and the two rows at 60 m
