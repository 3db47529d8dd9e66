"""Boundaries by hand; the published values of the wedge are in test_conformance."""

import pytest
import torch

from distill.evaluation.boundary import boundary_recall, boundary_scores

STEP = torch.tensor([[1.0, 1.0, 2.0, 2.0]] * 2)  # near on the left: one edge in each row
ALL = torch.ones_like(STEP, dtype=torch.bool)


def test_a_perfect_map_of_one_step_scores_a_quarter_as_published_and_one_when_fixed():
    # edges in one of four directions: precision and recall are 1/4 each, and so is F1
    assert boundary_scores(STEP, STEP, ALL) == pytest.approx({"bf1": 0.25, "bf1_dirfix": 1.0})


def test_scale_does_not_count_and_flat_maps_score_nothing():
    assert boundary_scores(7 * STEP, STEP, ALL) == boundary_scores(STEP, STEP, ALL)
    flat = torch.ones_like(STEP)
    for pred, target in ((flat, STEP), (STEP, flat), (flat, flat)):
        assert boundary_scores(pred, target, ALL) == {"bf1": 0, "bf1_dirfix": 0}


def test_polarity_and_place_count():
    assert boundary_scores(STEP.flip(1), STEP, ALL)["bf1_dirfix"] == 0
    moved = torch.tensor([[1.0, 2.0, 2.0, 2.0]] * 2)
    assert boundary_scores(moved, STEP, ALL)["bf1_dirfix"] == 0


def test_a_step_in_a_direction_of_its_own_costs_precision():
    spoilt = STEP.clone()
    spoilt[1] *= 2  # an edge below the first row, which the truth does not have
    fixed = boundary_scores(spoilt, STEP, ALL)["bf1_dirfix"]
    assert fixed == pytest.approx(2 * 0.5 * 1 / 1.5)  # precision (1 + 0) / 2, recall 1


def test_thresholds_between_1_05_and_1_25_weigh_what_they_are():
    # a step of 15%: an edge at the five lowest thresholds only
    low = torch.where(STEP > 1, 1.15, 1.0)
    thresholds = [1.05 + 0.2 * i / 9 for i in range(10)]
    expected = sum(t for t in thresholds if t < 1.15) / sum(thresholds)
    assert boundary_scores(low, STEP, ALL)["bf1_dirfix"] == pytest.approx(expected)


def test_a_pair_that_touches_an_invalid_pixel_is_no_edge():
    valid = torch.tensor([[True, True, True, True, False, True]])
    target = torch.tensor([[1.0, 1.0, 2.0, 2.0, torch.nan, 9.0]])
    pred = torch.tensor([[1.0, 1.0, 2.0, 2.0, 50.0, 0.1]])
    assert boundary_scores(pred, target, valid) == pytest.approx({"bf1": 0.25, "bf1_dirfix": 1})


def test_recall_is_of_the_outline_and_takes_the_steepest_of_a_run():
    alpha = torch.tensor([[1.0, 1.0, 0.0, 0.0, 0.0]])
    sharp = torch.tensor([[1.0, 1.0, 4.0, 4.0, 4.0]])
    assert boundary_recall(sharp, alpha) == pytest.approx(0.25)  # one direction has an outline
    blurred = torch.tensor([[1.0, 1.3, 2.6, 3.5, 4.0]])  # steepest between the second and third
    assert boundary_recall(blurred, alpha) == pytest.approx(0.25)
    elsewhere = torch.tensor([[1.0, 1.3, 1.6, 3.5, 4.0]])  # steepest one pixel further
    assert boundary_recall(elsewhere, alpha) == 0
    assert boundary_recall(sharp, alpha * 0.1) == 0  # 0.1 is not yet the object
    assert boundary_recall(sharp, alpha * 0.11) == pytest.approx(0.25)
    assert boundary_recall(sharp.T.contiguous(), alpha.T.contiguous()) == pytest.approx(0.25)


def test_of_equally_steep_edges_of_a_run_the_first_stays():
    ramp = torch.tensor([[1.0, 2.0, 4.0, 8.0]])
    first, second = torch.tensor([[1.0, 0.0, 0.0, 0.0]]), torch.tensor([[1.0, 1.0, 0.0, 0.0]])
    assert boundary_recall(ramp, first) == pytest.approx(0.25)
    assert boundary_recall(ramp, second) == 0


def test_runs_end_with_the_row():
    two_rows = torch.tensor([[1.0, 2.0], [1.0, 3.0]])
    alpha = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    assert boundary_recall(two_rows, alpha) == pytest.approx(0.25)
