"""Rows that a resumed run takes back, pictures, silence elsewhere."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from distill.tracking import Tracker, read_rows


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


def test_pictures_are_named_by_their_step(tmp_path: Path):
    shown = np.arange(36, dtype=np.uint8).reshape(3, 4, 3)
    with Tracker(tmp_path, start=0, steps=1) as tracker:
        tracker.picture(7, shown)
    assert (np.asarray(Image.open(tmp_path / "samples/step-000000007.png")) == shown).all()
