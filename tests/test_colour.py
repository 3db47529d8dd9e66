"""Cold to warm between two ends, grey where nothing is known."""

import matplotlib
import numpy as np
import torch

from distill.colour import COLUMNS, UNKNOWN, colourise, panel
from distill.types import Batch, Space


def test_ends_have_the_ends_of_the_colour_map():
    picture = colourise(np.array([[-5.0, 1.0, 3.0, 9.0]]), low=1.0, high=3.0)
    cold, warm = (
        np.round(np.array(matplotlib.colormaps["Spectral_r"](e)[:3]) * 255) for e in (0.0, 1.0)
    )
    assert np.array_equal(picture[0], [cold, cold, warm, warm])
    assert cold[2] > cold[0]
    assert warm[0] > warm[2]


def test_percentiles_are_the_ends_when_none_are_given():
    values = np.linspace(0, 1, 101)[None]
    values[0, -1] = 1e6  # one outlier moves nothing
    assert np.array_equal(colourise(values), colourise(values, low=0.02, high=0.98))


def test_unknown_is_grey_and_changes_nothing_else():
    values = np.array([[0.0, 1.0, np.nan, np.inf, -np.inf]])
    picture = colourise(values)
    assert (picture[0, 2:] == UNKNOWN).all()
    assert np.array_equal(picture[:, :2], colourise(values[:, :2]))


def test_a_constant_and_a_map_of_nothing_are_pictures():
    assert colourise(np.full((2, 3), 7.0)).shape == (2, 3, 3)
    assert (colourise(np.full((2, 3), np.nan)) == UNKNOWN).all()


def test_a_panel_shows_image_target_and_prediction():
    depth = torch.linspace(1, 4, 12).view(1, 3, 4)
    valid = torch.ones(1, 3, 4) > 0
    valid[0, 0, 0] = False
    batch = Batch(
        key=["set/0"],
        image=torch.full((1, 3, 3, 4), 0.5),
        space=[Space.METRIC_DEPTH],
        target=torch.where(valid, depth, torch.nan),
        valid=valid,
    )
    pred = torch.where(valid, 5 / depth + 1, torch.nan)
    made = panel(batch, pred, Space.AFFINE_DISPARITY)
    image, target, shown, error = np.split(made, len(COLUMNS), axis=1)
    assert (image == 128).all()
    assert (target[0, 0] == UNKNOWN).all()
    # right up to scale and shift: the same picture, but for the steps of the colour map
    assert np.abs(target.astype(int) - shown).max() < 10
    assert len(np.unique(target.reshape(-1, 3), axis=0)) > 8
    assert (error[0, 0] == UNKNOWN).all()
    assert (error.reshape(-1, 3)[1:] == error[1, 1]).all()
    assert error[1, 1].max() < 10
    two = Batch(key=["a", "b"], image=torch.zeros(2, 3, 3, 4), space=[None, None])
    assert panel(two, torch.zeros(2, 3, 4), Space.AFFINE_DISPARITY).shape == (6, 8, 3)


def test_metres_share_the_truths_range_and_errors_are_relative():
    truth = torch.tensor([[[1.0, 2.0, 4.0, 8.0]] * 2])
    batch = Batch(
        key=["set/0"],
        image=torch.zeros(1, 3, 2, 4),
        space=[Space.METRIC_DEPTH],
        target=truth,
        valid=truth > 0,
    )
    made = panel(batch, 1.25 * truth, Space.METRIC_DEPTH)
    _, target, shown, error = np.split(made, len(COLUMNS), axis=1)
    assert not np.array_equal(target, shown)
    half_way = np.round(np.array(matplotlib.colormaps["magma"](0.5)[:3]) * 255)
    assert (error == half_way).all()
    exact = np.split(panel(batch, truth, Space.METRIC_DEPTH), len(COLUMNS), axis=1)
    assert np.array_equal(exact[1], exact[2])
