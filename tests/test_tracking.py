"""Rows that a resumed run takes back, and pictures."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from distill.tracking import Tracker, panel, read_rows, side_by_side
from distill.types import Batch, Space


def test_rows_after_the_start_are_taken_back(tmp_path: Path):
    with Tracker(tmp_path, start=0, steps=4) as tracker:
        for step in range(1, 4):
            tracker.advance({"loss": 1.0})
            tracker.row(step, {"loss": float(step), "lr/head": 0.5})
        tracker.sync()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "lo')  # killed while writing
    with Tracker(tmp_path, start=2, steps=4) as tracker:
        tracker.row(3, {"loss": 9.0})
    assert list(read_rows(tmp_path / "metrics.jsonl")) == [
        {"step": 1, "loss": 1.0, "lr/head": 0.5},
        {"step": 2, "loss": 2.0, "lr/head": 0.5},
        {"step": 3, "loss": 9.0},
    ]
    assert len(list((tmp_path / "tensorboard").iterdir())) == 2


def test_another_process_writes_nothing(tmp_path: Path):
    with Tracker(tmp_path, start=0, steps=4, enabled=False) as tracker:
        tracker.advance({"loss": 1.0})
        tracker.row(1, {"loss": 1.0})
        tracker.picture(1, np.zeros((2, 2, 3), np.uint8))
        tracker.sync()
    assert not list(tmp_path.iterdir())


def test_a_damaged_row_is_named(tmp_path: Path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"st\n{"step": 3}\n')
    with pytest.raises(ValueError, match=r"metrics.jsonl:2: not JSON"):
        list(read_rows(path))
    assert list(read_rows(tmp_path / "none.jsonl")) == []


def test_pictures_show_image_target_and_prediction(tmp_path: Path):
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
    shown = panel(batch, torch.where(valid, 5 / depth + 1, torch.nan), Space.AFFINE_DISPARITY)
    image, target, pred = np.split(shown, 3, 1)
    assert (image == 128).all()
    assert (target[0, 0] == 0).all(), "invalid is black"
    # right up to scale and shift, but for the steps of the colour map
    assert np.abs(target.astype(int) - pred).max() < 10
    assert len(np.unique(target.reshape(-1, 3), axis=0)) > 8
    with Tracker(tmp_path, start=0, steps=1) as tracker:
        tracker.picture(7, shown)
    assert (np.asarray(Image.open(tmp_path / "samples/step-000000007.png")) == shown).all()
    unlabelled = Batch(key=["a"], image=batch["image"], space=[None])
    assert panel(unlabelled, depth, Space.AFFINE_DISPARITY).shape == (3, 8, 3)


def test_a_constant_map_is_a_picture():
    shown = side_by_side(
        torch.zeros(2, 3, 4, 4), torch.zeros(2, 4, 4), torch.full((2, 4, 4), torch.nan)
    )
    assert shown.shape == (8, 12, 3)
    assert json.dumps(shown[0, -1].tolist()) == "[0, 0, 0]"
