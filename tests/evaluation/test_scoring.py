"""What decides a number besides the metric; its values are in test_conformance."""

import dataclasses

import pytest
import torch
from wedge import wedge

from distill.evaluation.protocols import Alignment, Crop, Protocol
from distill.evaluation.scoring import align, flags_of, score
from distill.types import Prediction, Space

TARGET, VALID, DISPARITY, DEPTH = wedge()


def protocol(alignment, **settings):
    return Protocol(id="test", dataset="wedge", alignment=alignment, source="", **settings)


NONE = protocol(Alignment.NONE)
IN_DISPARITY = protocol(Alignment.DISPARITY, floor="1/max")


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
        (Alignment.L1_SCALE, Space.AFFINE_DEPTH),
        (Alignment.MEDIAN_OF_RATIOS, Space.AFFINE_DEPTH),
        (Alignment.L1_DEPTH, Space.AFFINE_DISPARITY),
        (Alignment.RATIO_OF_MEDIANS, Space.AFFINE_DISPARITY),
        (Alignment.DEPTH, Space.AFFINE_DISPARITY),
        (Alignment.DISPARITY, Space.AFFINE_DEPTH),
        (Alignment.DISPARITY, Space.ORDINAL),
    ],
)
def test_a_space_that_says_too_little_is_refused(alignment, space):
    floor = "1/max" if alignment is Alignment.DISPARITY else None
    with pytest.raises(ValueError, match=f"in {space.value} does not allow"):
        score(
            Prediction(values=TARGET, space=space), TARGET, VALID, protocol(alignment, floor=floor)
        )


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


def test_more_than_half_zeros_are_mostly_zero():
    assert flags_of(torch.tensor([[0.0, 0.0, 1.0, 2.0]])) == []
    assert flags_of(torch.tensor([[0.0, 0.0, 0.0, 2.0, 3.0]])) == ["mostly zero"]


def test_the_floor_of_the_farthest_truth_goes_with_the_scale_of_the_scene():
    """A scene of less than a metre: what is not measured does not set the floor."""
    prediction = Prediction(values=DISPARITY, space=Space.AFFINE_DISPARITY)
    large, small = (score(prediction, s * TARGET, VALID, IN_DISPARITY) for s in (1, 0.01))
    assert small["abs_rel"] == pytest.approx(large["abs_rel"])
    assert small["floored"] == large["floored"] > 0


def test_a_predicted_depth_of_zero_has_a_disparity():
    values = TARGET.clone()
    values[5, 3] = 0
    row = score(Prediction(values=values, space=Space.METRIC_DEPTH), TARGET, VALID, IN_DISPARITY)
    assert 0 < row["abs_rel"] < 100


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
