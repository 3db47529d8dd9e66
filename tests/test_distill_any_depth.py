"""The recipe's numbers and its crops."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from distill import recipe
from distill.types import Sample
from recipes import distill_any_depth


def test_published_numbers():
    """He et al. 2025, sections 3 and 4."""
    job: Any = distill_any_depth.vits(assistant=Path("b"))
    assert (job.steps, job.batch_size) == (20_000, 8)
    assert job.lr(0, job.steps)["head"] == 5e-5
    given = job.objective.keywords
    shared, gradient = job.objective.args[2]
    weights = [term.weight for term in (shared, given["local"].term, given["feature"], gradient)]
    assert weights == [1.0, 0.5, 1.0, 2.0]
    assert given["chances"] == (0.7, pytest.approx(0.3))
    assert given["size"] == 560
    assert shared.loss.keywords["levels"] == (1, 2, 4)


@pytest.mark.parametrize(
    ("name", "levels"), [("global", (1,)), ("local", (4,)), ("hybrid", (1, 2, 4)), ("none", ())]
)
def test_the_four_normalisations_of_table_1_in_either_context(name: str, levels: tuple[int, ...]):
    function = recipe.load("recipes.distill_any_depth:vitb")
    for setting in ("normalisation", "local_normalisation"):
        job: Any = recipe.build(function, data=Path("d"), settings={setting: name})[0]
        shared, local = job.objective.args[2][0], job.objective.keywords["local"].term
        changed, other = (shared, local) if setting == "normalisation" else (local, shared)
        assert changed.loss.keywords["levels"] == levels
        assert other.loss.keywords["levels"] == (1, 2, 4)


def test_what_a_student_starts_from():
    """Their demo models: all of it. Table 5: its encoder. Neither: DINOv2."""
    function = recipe.load("recipes.distill_any_depth:vits")

    def begin(**settings: str) -> tuple[Any, ...]:
        job: Any = recipe.build(function, data=Path("d"), settings=settings)[0]
        made = job.objective.args[0]
        return made.func.__name__, made.args, made.keywords

    whole = Path("models/depth_anything_v2_vits")
    assert begin() == ("load_depth_anything", (whole,), {})
    assert begin(new_head="true") == ("depth_anything", ("vits",), {"encoder": whole})
    hub = {"encoder": "facebook/dinov2-small"}
    assert begin(start="none") == ("depth_anything", ("vits",), hub)


def test_squares_are_uniform_and_stay_inside():
    image = torch.stack([torch.arange(90.0).expand(70, 90) / 90] * 3)
    sides = set()
    for seed in range(100):
        rng = np.random.default_rng(seed)
        made = distill_any_depth._square(
            Sample(key="a/b", image=image), rng, smallest=60, side=40, flip=0.5
        )
        assert made.image.shape == (3, 40, 40)
        sides.add(round(float((made.image[0, 0, -1] - made.image[0, 0, 0]).abs()) * 90 / 39 * 40))
    assert min(sides) >= 58
    assert max(sides) <= 72
    assert len(sides) > 8
    small = distill_any_depth._square(
        Sample(key="a/b", image=image), np.random.default_rng(0), smallest=644, side=40, flip=0.0
    )
    assert small.image.shape == (3, 40, 40)
