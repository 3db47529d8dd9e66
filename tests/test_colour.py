"""Cold to warm between two ends, grey where nothing is known."""

import matplotlib
import numpy as np

from distill.colour import UNKNOWN, colourise


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
