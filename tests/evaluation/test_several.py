"""Several benchmarks of one model: each as alone, all in one file, resumed one by one."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from test_evaluate import Loaded, write_pair

from distill.evaluation import evaluate as evaluation
from distill.evaluation.evaluate import EvaluateJob
from distill.evaluation.several import SeveralJob
from recipes.evaluation import house


@pytest.fixture
def folder(tmp_path: Path, monkeypatch) -> Path:
    monkeypatch.setattr(evaluation, "load_predictor", lambda *_, **__: Loaded())
    y, x = np.mgrid[0:12, 0:16]
    write_pair(tmp_path / "data", "scene", 1.0 + (x + y) / 8)
    return tmp_path / "data"


def test_each_is_what_it_is_alone(folder: Path, tmp_path: Path):
    job = SeveralJob(model="m", data={"photos": folder, "kitti": folder})
    job.run(tmp_path / "out")
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert list(summary) == ["photos", "kitti"]
    EvaluateJob(model="m", benchmark="kitti", data=folder).run(tmp_path / "alone")
    alone = json.loads((tmp_path / "alone" / "summary.json").read_text())
    assert summary["kitti"]["means"] == alone["means"]
    assert summary["kitti"]["protocol"].startswith("kitti.garg.disp.v1: ")

    shutil.rmtree(tmp_path / "out" / "kitti")
    (tmp_path / "out" / "summary.json").unlink()
    before = (tmp_path / "out" / "photos" / "summary.json").stat().st_mtime_ns
    with pytest.raises(ValueError, match="holds a run"):
        job.run(tmp_path / "out")
    job.run(tmp_path / "out", resume=True)
    assert json.loads((tmp_path / "out" / "summary.json").read_text()) == summary
    assert (tmp_path / "out" / "photos" / "summary.json").stat().st_mtime_ns == before


def test_the_house_recipe_finds_each_set_in_its_folder():
    folders = house(Path("d")).data
    assert folders["diode-indoor"] == Path("d/diode")
    assert folders["sintel-moge"] == folders["sintel-boundaries"] == Path("d/sintel")
    assert list(house(Path("d"), benchmarks="nyu kitti").data) == ["nyu", "kitti"]


def test_what_is_missing_is_named_before_anything_is_evaluated(folder: Path, tmp_path: Path):
    job = SeveralJob(model="m", data={"photos": folder, "kitti": tmp_path / "nowhere"})
    with pytest.raises(FileNotFoundError, match=r"benchmark kitti: no folder .*nowhere"):
        job.run(tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(ValueError, match="no benchmark named 'kiti'"):
        SeveralJob(model="m", data={"kiti": folder})
