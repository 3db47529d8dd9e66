"""Terms: their names, what they learn from, and the mean they make."""

from typing import Any

import pytest
import torch

from distill.losses.silog import silog
from distill.objectives.terms import Term, check_names, report, share, targets, usable
from distill.types import Batch, Space


def batch(*spaces: Space | None) -> Any:
    """Two pixels a sample: 2 m and sky."""
    size = len(spaces)
    return Batch(
        key=[f"set/{i}" for i in range(size)],
        image=torch.zeros(size, 3, 1, 2),
        space=list(spaces),
        target=torch.tensor([[[2.0, torch.nan]]]).repeat(size, 1, 1),
        valid=torch.tensor([[[True, False]]]).repeat(size, 1, 1),
        far=torch.tensor([[[False, True]]]).repeat(size, 1, 1),
    )


@pytest.mark.parametrize("name", ["loss", "zeros", "mean", "spread"])
def test_reserved_names_are_refused(name: str):
    with pytest.raises(ValueError, match="the objective reports that"):
        Term(name, 1.0, silog)


@pytest.mark.parametrize("weight", [-1.0, float("nan"), float("inf")])
def test_weights_are_checked(weight: float):
    with pytest.raises(ValueError, match="must be finite and >= 0"):
        Term("silog", weight, silog)


def test_names_are_checked():
    with pytest.raises(ValueError, match="two terms are named 'silog'"):
        check_names([Term("silog", 1.0, silog), Term("silog", 2.0, silog)])
    with pytest.raises(ValueError, match="at least one term"):
        check_names([])


def test_each_sample_comes_from_its_own_space():
    made = batch(Space.METRIC_DEPTH, Space.METRIC_INVERSE_DEPTH, None)
    target, valid = targets(made, Space.AFFINE_DISPARITY)
    # sky is disparity 0; a sample without a space stays as it is
    expected = [[0.5, 0.0], [2.0, 0.0], [2.0, torch.nan]]
    torch.testing.assert_close(target[:, 0], torch.tensor(expected), equal_nan=True)
    assert valid[:, 0].tolist() == [[True, True], [True, True], [True, False]]
    metric, known = targets(made, Space.METRIC_DEPTH)
    assert metric[0, 0, 0] == 2.0
    assert not known[0, 0, 1], "sky has no metric depth"
    assert made["target"][0, 0, 0] == 2.0, "the batch itself changed"


def test_a_batch_without_targets_is_named():
    made = batch(None)
    del made["target"]
    with pytest.raises(ValueError, match=r"no sample of set/0, \.\.\. has a target"):
        targets(made, Space.AFFINE_DISPARITY)


def test_what_cannot_be_converted_is_refused():
    with pytest.raises(ValueError, match="no conversion from affine-invariant disparity"):
        targets(batch(Space.AFFINE_DISPARITY), Space.METRIC_DEPTH)


def test_usable_needs_pixels_and_contrast():
    target = torch.stack([torch.arange(16.0), torch.ones(16), torch.arange(16.0)]).view(3, 4, 4)
    valid = torch.ones(3, 4, 4) > 0
    valid[2, 0] = False
    valid[2, 1, :3] = False  # nine pixels are left
    assert usable(target, valid, Space.AFFINE_DISPARITY).tolist() == [True, False, False]
    assert usable(target, valid, Space.METRIC_DEPTH).tolist() == [True, True, False]


def test_shares_of_a_mean_add_up():
    values = torch.tensor([1.0, 2.0, 6.0])
    parts = share(values[:1], torch.tensor(3.0)) + share(values[1:], torch.tensor(3.0))
    assert parts == 3.0
    assert share(values[:0], torch.tensor(0.0)) == 0.0


def test_report_weighs_and_looks_at_the_output():
    terms = [Term("a", 1.0, silog), Term("b", 2.0, silog)]
    a = torch.tensor(0.5, requires_grad=True)
    pred = torch.tensor([[[0.0, -3.0]], [[1.0, 2.0]]])
    made = report({"a": a, "b": torch.tensor(0.25)}, terms, pred, torch.tensor(2.0))
    assert {name: float(value.detach()) for name, value in made.items()} == {
        **{"loss": 1.0, "a": 0.5, "b": 0.25},
        **{"zeros": 0.25, "mean": 1.5, "spread": 1.0},
    }
    assert [name for name, value in made.items() if value.requires_grad] == ["loss"]
