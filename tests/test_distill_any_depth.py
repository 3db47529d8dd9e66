"""The recipe's numbers, and a run of it at its smallest."""

import dataclasses
import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_teacher import write_photos

from distill import recipe
from distill.models.depth_anything import depth_anything
from distill.objectives.cross_context import CrossContext
from distill.train import TrainJob
from distill.types import Sample
from recipes import distill_any_depth


def test_published_numbers():
    """He et al. 2025, sections 3 and 4."""
    job = distill_any_depth.vits(assistant=Path("b"))
    assert (job.steps, job.batch_size) == (20_000, 8)
    assert job.lr(0, job.steps)["head"] == 5e-5
    assert isinstance(job.objective, partial)
    given = job.objective.keywords
    shared, gradient = job.objective.args[2]
    weights = [term.weight for term in (shared, given["local"].term, given["feature"], gradient)]
    assert weights == [1.0, 0.5, 1.0, 2.0]
    assert given["chances"] == (0.7, pytest.approx(0.3))
    assert given["size"] == 560
    assert shared.loss.keywords["levels"] == (1, 2, 4)


def test_sources_are_shown():
    function = recipe.load("recipes.distill_any_depth:vits")
    text = recipe.explain(function, function(), {})
    assert "size = 560   # section 4: 560, 40 patches" in text
    assert "parts = 2   # our own" in text


def test_squares_are_uniform_and_stay_inside():
    image = torch.stack([torch.arange(90.0).expand(70, 90) / 90] * 3)
    sides = set()
    for seed in range(100):
        made = distill_any_depth._square(
            Sample(key="a/b", image=image), np.random.default_rng(seed), smallest=60, side=40
        )
        assert made.image.shape == (3, 40, 40)
        sides.add(round(float((made.image[0, 0, -1] - made.image[0, 0, 0]).abs()) * 90 / 39 * 40))
    assert min(sides) >= 58
    assert max(sides) <= 72
    assert len(sides) > 8
    small = distill_any_depth._square(
        Sample(key="a/b", image=image), np.random.default_rng(0), smallest=644, side=40
    )
    assert small.image.shape == (3, 40, 40)


def test_a_run_at_its_smallest(tmp_path: Path):
    photos = write_photos(tmp_path / "photos", count=4)
    teacher = depth_anything("tiny_teacher")
    teacher.save_pretrained(tmp_path / "teacher")
    whole = distill_any_depth.vits(
        photos, teacher=tmp_path / "teacher", size=24, smallest=30, parts=1, start=None
    )
    assert isinstance(whole.objective, partial)
    given = {
        name: value
        for name, value in whole.objective.keywords.items()
        if name not in {"feature", "encoder"}  # need weights of DINOv2
    }
    student = partial(depth_anything, "tiny")
    objective = partial(CrossContext, student, *whole.objective.args[1:], **given)
    job = dataclasses.replace(whole, objective=objective, batch_size=2, steps=2, workers=0)
    lr = partial(whole.lr.func, rates=dict.fromkeys(("encoder", "head"), 1e-4), power=0.9)  # type: ignore[attr-defined]  # a partial
    job = dataclasses.replace(job, lr=lr, log_every=1)
    assert isinstance(job, TrainJob)
    job.run(tmp_path / "out")
    rows = [json.loads(line) for line in (tmp_path / "out" / "metrics.jsonl").open()]
    assert any("local" in str(row) for row in rows)
    assert (tmp_path / "out" / "model" / "config.json").is_file()
