"""Each objective's first twenty updates are what they were when last written."""

import json
import os
from functools import partial
from typing import Any

import pytest
import torch
from golden import FOLDER, METRIC, OBJECTIVES, STEPS, curve, difference

from distill.losses.silog import silog
from distill.objectives.supervised import Supervised
from distill.objectives.terms import Term

# Weights moved in their last bit (`tests/golden.py --rounding`) moved these by 2e-7 to 1e-5 in 16
# runs, by 1e-4 at five times shorter steps; a loss, or its gradient alone, 1 % larger: by 0.01.
TOLERANCE = 1e-3


@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_numbers_did_not_move(name: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(os, "fsync", lambda _descriptor: None)
    kept = json.loads((FOLDER / f"{name}.json").read_text())
    found = curve(name)
    assert {len(values) for values in found.values()} == {STEPS}
    assert difference(found, kept) < TOLERANCE, "python tests/golden.py, and say so in the commit"


def test_every_curve_that_is_kept_is_drawn():
    assert {path.stem for path in FOLDER.glob("*.json")} == set(OBJECTIVES)


def test_a_gradient_one_per_cent_larger_is_seen(monkeypatch: pytest.MonkeyPatch):
    def steeper(*args: Any) -> torch.Tensor:
        exact = silog(*args)
        return 1.01 * exact - 0.01 * exact.detach()

    monkeypatch.setattr(os, "fsync", lambda _descriptor: None)
    kept = json.loads((FOLDER / "supervised_metric.json").read_text())
    objective = partial(Supervised, METRIC, [Term("silog", 1.0, steeper)])
    assert difference(curve("supervised_metric", objective=objective), kept) > 5 * TOLERANCE
