"""Short real runs, and a finished one beside its plan."""

import json
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from tiny_models import save_depth_anything
from tiny_teacher import write_photos
from training import job as tiny_job

from distill import job as jobs
from distill.datasets.image_folder import ImageFolder
from distill.plan import probe
from distill.plan.audit import audit
from distill.plan.question import Question
from distill.plan.reckoning import reckon
from distill.train import TrainJob
from pseudo_labels.generate import LabelJob

ASKED = Question(probe=1.0, reads_data=True)


def slow_job(**fields) -> TrainJob:
    """Each sample takes 5 ms, so an update 20 ms, and hardly anything else does."""
    made = tiny_job(data={"slow": 0.005}, threads=1, steps=60, validation=None)
    return replace(made, **{"validate_every": 60, "checkpoint_every": 60, **fields})


def test_a_training_probe_measures_the_loop():
    start = time.perf_counter()
    speed = probe.probe(slow_job(), 2.0)
    assert 0.005 <= speed.image <= (time.perf_counter() - start) / speed.measured
    assert speed.measured >= 4 * 12
    assert speed.label_bytes is None
    assert speed.event > 0


def test_a_probe_keeps_the_rates_of_the_whole_run():
    """A warm-up longer than the probe would be refused, or change what is trained."""
    seen: list[tuple[int, int]] = []

    def lr(step: int, steps: int) -> dict[str, float]:
        assert steps == 60
        seen.append((step, steps))
        return {"encoder": 0.0, "head": 0.0}

    probe.probe(slow_job(lr=lr), 0.5)
    assert (0, 60) in seen
    assert max(step for step, _ in seen) < 60


def test_a_finished_training_run(tmp_path: Path):
    job = slow_job()
    job.run(tmp_path / "run")
    found = audit(job, ASKED, tmp_path / "run")
    rows = {row.name: row for row in found.rows}
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert rows["time"].actual == summary["seconds"]
    assert rows["time"].error == pytest.approx(rows["time"].planned / summary["seconds"] - 1)
    assert abs(rows["time"].error or 9) < 3  # a busy machine; a wrong unit is off by more
    assert rows["memory"].actual == summary["peak_bytes"] > 100e6
    # of the same process, which is older; the kernel counts its pages by the dozen
    assert rows["memory"].planned >= 0.99 * summary["peak_bytes"]
    assert "memory" in found.text
    assert found.as_json()["rows"]["time"]["actual"] == summary["seconds"]
    with pytest.raises(
        ValueError, match=r"240 images, this job is training of 80; give the recipe"
    ):
        audit(replace(job, steps=20), ASKED, tmp_path / "run")


def label_job(folder: Path) -> LabelJob:
    images = partial(ImageFolder, write_photos(folder / "photos", 12))
    return LabelJob(images=images, teacher=save_depth_anything(folder / "teacher"), batch_size=2)


def test_labels_of_a_few_images_tell_of_all(tmp_path: Path):
    job = label_job(tmp_path)
    with jobs.recorded(tmp_path / "run", job):
        job.run(tmp_path / "run")
    found = audit(job, replace(ASKED, probe=60.0), tmp_path / "run")
    rows = {row.name: row for row in found.rows}
    assert found.plan.speed is not None
    assert found.plan.speed.measured == 12
    assert abs(rows["disk"].error or 0) < 0.01  # the same labels of the same images
    assert rows["time"].actual is not None
    assert rows["time"].actual > 0
    ahead = reckon(replace(job, dtype="bfloat16"), Question(hardware="h200", reads_data=True))
    assert ahead.written == pytest.approx(rows["disk"].actual, rel=0.5)


def test_runs_that_tell_nothing(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="not a run, or one that is not finished"):
        audit(slow_job(), ASKED, tmp_path)
    job = label_job(tmp_path)
    job.run(tmp_path / "run")  # without a record of its start
    found = audit(job, replace(ASKED, probe=0.5), tmp_path / "run")
    assert found.rows[0].actual is None
    assert "this one has 0" in found.text
    next((tmp_path / "run" / "index").glob("*.parquet")).unlink()
    with pytest.raises(ValueError, match="0 of 1 shards"):
        audit(job, ASKED, tmp_path / "run")
