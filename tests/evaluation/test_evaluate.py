"""A miniature benchmark on disk: every image once, each row right, any number of processes."""

import json
import os
import shutil
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import torch
from PIL import Image
from tiny_models import save_depth_anything

from distill.evaluation import evaluate as evaluation
from distill.evaluation.benchmarks import find
from distill.evaluation.evaluate import EvaluateJob, evaluate
from distill.job import GuardStop
from distill.models.foreign import load_predictor
from distill.types import Prediction, Sample, Space

HEIGHT, WIDTH = 12, 16


def write_pair(root: Path, name: str, depth: np.ndarray) -> None:
    """An image whose brightness is 1/depth, and its truth as KITTI stores it."""
    (root / "rgb").mkdir(parents=True, exist_ok=True)
    (root / "depth").mkdir(exist_ok=True)
    grey = np.round(255 / depth).astype(np.uint8)
    Image.fromarray(grey).convert("RGB").save(root / "rgb" / f"{name}.png")
    stored = np.round(depth * 256).astype(np.uint16)
    (root / "depth" / f"{name}.png").write_bytes(imagecodecs.png_encode(stored))


@pytest.fixture
def folder(tmp_path):
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    for i in range(5):
        write_pair(tmp_path / "data", f"scene{i}", 1.0 + (x + (i + 1) * y) / 8)
    return tmp_path / "data"


class Brightness:
    """Predicts the brightness of the image, which is the disparity; remembers what it saw."""

    space = Space.AFFINE_DISPARITY

    def __init__(self, gain: float = 1.0) -> None:
        self.seen: list[Image.Image] = []
        self.gain = gain

    def predict(self, images):
        self.seen += images
        maps = [torch.from_numpy(np.asarray(i.convert("L")).astype(np.float32)) for i in images]
        return [Prediction(values=m * self.gain + 3, space=self.space) for m in maps]


def on_photos(predictor, folder: Path) -> evaluation.Evaluation:
    benchmark = find("photos")
    return evaluate(predictor, benchmark, benchmark.open(folder))


def test_rows_and_means(folder):
    result = on_photos(Brightness(), folder)
    assert [row["key"] for row in result.rows] == [f"photos/rgb/scene{i}.png" for i in range(5)]
    assert all(row["n_valid"] == HEIGHT * WIDTH and row["flags"] == [] for row in result.rows)
    assert result.means["abs_rel"] == pytest.approx(
        np.mean([row["abs_rel"] for row in result.rows])
    )
    assert 0 < result.means["abs_rel"] < 0.02  # the image holds disparity in 8 bits
    assert result.means["delta1"] == 1
    assert result.counts == {"measured": 5}


def test_the_predictor_sees_the_pixels_of_the_file(folder):
    predictor = Brightness()
    on_photos(predictor, folder)
    stored = np.asarray(Image.open(folder / "rgb" / "scene0.png"))
    assert np.array_equal(np.asarray(predictor.seen[0]), stored)


def test_flags_are_counted_and_skipped_images_stay_out_of_the_mean(folder):
    empty = np.full((HEIGHT, WIDTH), 2.0)
    write_pair(folder, "scene5", empty)
    (folder / "depth" / "scene5.png").write_bytes(
        imagecodecs.png_encode(np.zeros((HEIGHT, WIDTH), np.uint16))
    )
    write_pair(folder, "scene6", 1.0 + np.mgrid[0:HEIGHT, 0:WIDTH][0] / 4)
    Image.new("RGB", (WIDTH, HEIGHT)).save(folder / "rgb" / "scene6.png")  # constant prediction
    result = on_photos(Brightness(), folder)
    skipped = {"key": "photos/rgb/scene5.png", "n_valid": 0, "flags": ["skipped"]}
    assert result.rows[5] == {**skipped, "sha256": result.rows[5]["sha256"]}
    assert result.counts == {"measured": 6, "degenerate": 1, "skipped": 1}
    summary = evaluation.summarise(result)
    assert (summary["n"], summary["images"]) == (6, 7)
    upside_down = on_photos(Brightness(gain=-1), folder)
    assert upside_down.counts["negative scale"] == 5


def test_nothing_to_measure_is_an_error(folder):
    for path in (folder / "depth").iterdir():
        path.write_bytes(imagecodecs.png_encode(np.zeros((HEIGHT, WIDTH), np.uint16)))
    with pytest.raises(ValueError, match=r"none of 5 images has 10 pixels.*in metres\?"):
        on_photos(Brightness(), folder)


def test_truth_that_is_not_metric_depth_is_an_error(folder):
    class Labels:
        name = "labels"

        def __len__(self):
            return 1

        def key(self, index):
            return "labels/a"

        def __getitem__(self, index):
            valid = torch.ones(4, 4, dtype=torch.bool)
            return Sample(
                key="labels/a", image=torch.zeros(3, 4, 4), target=torch.ones(4, 4), valid=valid,
                space=Space.AFFINE_DISPARITY,
            )  # fmt: skip

    with pytest.raises(ValueError, match=r"labels/a: truth is .*metric depth is needed"):
        evaluate(Brightness(), find("photos"), Labels())


def test_errors_name_the_image(folder):
    class Wrong(Brightness):
        def predict(self, images):
            return [Prediction(values=torch.ones(2, 2), space=self.space)]

    with pytest.raises(ValueError, match=r"photos/rgb/scene0.png: prediction \(2, 2\)"):
        on_photos(Wrong(), folder)


class Dying(Brightness):
    """Zero everywhere after the first `alive` images."""

    name, sha256, licence = "dying", "0" * 64, None

    def __init__(self, alive: int) -> None:
        super().__init__()
        self.alive = alive

    def predict(self, images):
        (prediction,) = super().predict(images)
        if len(self.seen) > self.alive:
            prediction.values.zero_()
        return [prediction]


def test_a_dead_model_is_stopped_and_the_share_named(folder, tmp_path, monkeypatch):
    assert on_photos(Dying(alive=3), folder).counts["mostly zero"] == 2
    with pytest.raises(GuardStop, match=r"3 of 5 measured images \(60%\)"):
        on_photos(Dying(alive=2), folder)
    monkeypatch.setattr(evaluation, "load_predictor", lambda *_, **__: Dying(alive=0))
    with pytest.raises(GuardStop, match="100%"):
        EvaluateJob(model="m", benchmark="photos", data=folder).run(tmp_path / "out")
    assert not (tmp_path / "out" / "summary.json").exists()


def test_half_of_the_measured_images_may_be_dead_whatever_the_skipped_ones_are(folder):
    (folder / "depth" / "scene4.png").write_bytes(
        imagecodecs.png_encode(np.zeros((HEIGHT, WIDTH), np.uint16))
    )
    result = on_photos(Dying(alive=2), folder)
    assert result.counts == {"measured": 4, "degenerate": 2, "mostly zero": 3, "skipped": 1}
    shutil.copy(folder / "depth" / "scene4.png", folder / "depth" / "scene3.png")
    with pytest.raises(GuardStop, match=r"2 of 3 measured images \(67%\)"):
        on_photos(Dying(alive=1), folder)


class Loaded(Brightness):
    name, sha256, licence = "brightness", "0" * 64, "apache-2.0"


def test_job_writes_rows_and_summary_and_keeps_them(folder, tmp_path, monkeypatch):
    loads = []

    def load(model, *, device, space):
        loads.append(model)
        return Loaded()

    monkeypatch.setattr(evaluation, "load_predictor", load)
    job = EvaluateJob(model="a/model", benchmark="kitti", data=folder)
    job.run(tmp_path / "out")
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    rows = [json.loads(line) for line in (tmp_path / "out" / "rows.jsonl").open()]
    assert summary["n"] == summary["images"] == len(rows) == 5
    assert summary["model"] == "a/model"
    assert summary["protocol"]["id"] == "kitti.garg.disp.v1"
    assert summary["protocol"]["text"].startswith("kitti.garg.disp.v1: ")
    assert summary["means"]["abs_rel"] == pytest.approx(np.mean([r["abs_rel"] for r in rows]))
    assert rows[0]["n_valid"] < HEIGHT * WIDTH  # the crop
    assert summary["floored"] == pytest.approx(np.mean([r["floored"] for r in rows]))

    before = (tmp_path / "out" / "summary.json").stat().st_mtime_ns
    job.run(tmp_path / "out", resume=True)
    assert loads == ["a/model", "a/model"]
    with pytest.raises(ValueError, match="holds a run: add --resume or choose another --out"):
        job.run(tmp_path / "out")
    monkeypatch.setattr(Loaded, "sha256", "1" * 64)
    with pytest.raises(ValueError, match=r"another run \(model_sha256: 0{64} -> 1{64}\); choose"):
        job.run(tmp_path / "out", resume=True)
    with pytest.raises(ValueError, match=r"benchmark: kitti -> photos; model_sha256: .*; protocol"):
        replace(job, benchmark="photos").run(tmp_path / "out", resume=True)
    assert (tmp_path / "out" / "summary.json").stat().st_mtime_ns == before


@pytest.mark.parametrize("changed", ["image", "truth", "name"])
def test_other_data_in_the_same_folder_is_another_evaluation(
    folder, tmp_path, monkeypatch, changed: str
):
    monkeypatch.setattr(evaluation, "load_predictor", lambda *_, **__: Loaded())
    job, summary = (
        EvaluateJob(model="m", benchmark="photos", data=folder),
        tmp_path / "summary.json",
    )
    job.run(tmp_path)
    before = summary.stat().st_mtime_ns
    moved = shutil.copytree(folder, tmp_path / "moved")
    replace(job, model="n", data=moved).run(tmp_path, resume=True)
    assert summary.stat().st_mtime_ns == before
    depth = imagecodecs.png_decode((folder / "depth" / "scene2.png").read_bytes())
    if changed == "image":
        Image.new("RGB", (WIDTH, HEIGHT), "red").save(folder / "rgb" / "scene2.png")
    elif changed == "truth":
        depth[3, 4] += 1
        (folder / "depth" / "scene2.png").write_bytes(imagecodecs.png_encode(depth))
    else:
        (folder / "depth" / "scene2.png").rename(folder / "depth" / "scene22.png")
        (folder / "rgb" / "scene2.png").rename(folder / "rgb" / "scene22.png")
    with pytest.raises(ValueError, match="keys" if changed == "name" else r"run \(data_sha256: "):
        job.run(tmp_path, resume=True)
    assert summary.stat().st_mtime_ns == before


def test_a_model_of_transformers_is_scored_as_its_predictor_predicts(folder, tmp_path):
    model = save_depth_anything(tmp_path / "model")
    EvaluateJob(model=model, benchmark="photos", data=folder).run(tmp_path / "out")
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["space"] == Space.AFFINE_DISPARITY.value
    assert len(summary["model_sha256"]) == 64
    again = on_photos(load_predictor(model), folder)
    assert again.means == summary["means"]


def test_job_names_an_unknown_benchmark():
    with pytest.raises(ValueError, match="no benchmark named 'nyuu'; there are photos, kitti"):
        EvaluateJob(model="m", benchmark="nyuu")


_SCRIPT = """
import json, sys
from pathlib import Path
from distill import job as jobs
from distill.evaluation.evaluate import summarise
from test_evaluate import Brightness, on_photos

whole, spoilt, out = map(Path, sys.argv[1:])
result = on_photos(Brightness(), whole)
try:
    on_photos(Brightness(), spoilt)
except ValueError as caught:
    error = str(caught)
state = jobs.processes()
assert state.num_processes == 2
kept = {"rows": result.rows, **summarise(result), "error": error}
(out / f"{state.process_index}.json").write_text(json.dumps(kept))
"""


def launch_two(script: str, *arguments: Path) -> list[str]:
    """Run the script in two processes that meet; what each wrote to stdout."""
    here = Path(__file__).parent
    path = os.pathsep.join(map(str, (here, here.parent, here.parent.parent)))
    with socket.socket() as free:
        free.bind(("localhost", 0))
        meeting = {"MASTER_ADDR": "localhost", "MASTER_PORT": str(free.getsockname()[1])}
    started = [
        subprocess.Popen(
            [sys.executable, "-c", script, *arguments], stdout=subprocess.PIPE, text=True,
            env=os.environ | meeting | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
            | {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"},
        )
        for rank in ("0", "1")
    ]  # fmt: skip
    try:
        said = [process.communicate(timeout=300)[0] for process in started]
        assert [process.returncode for process in started] == [0, 0]
    finally:
        for process in started:
            process.kill()
    return said


def test_two_processes_give_what_one_gives_and_fail_together(folder, tmp_path):
    """Five images on two processes: none is lost, none is counted twice; an error reaches both."""
    shutil.copytree(folder, tmp_path / "spoilt")
    (tmp_path / "spoilt" / "rgb" / "scene3.png").write_bytes(b"no image")
    launch_two(_SCRIPT, folder, tmp_path / "spoilt", tmp_path)
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2))
    assert first == second
    assert "scene3.png" in first.pop("error")
    alone = on_photos(Brightness(), folder)
    assert first == json.loads(json.dumps({"rows": alone.rows, **evaluation.summarise(alone)}))


_JOBS = """
import sys, time
from pathlib import Path
from distill import atomic, cli
from distill.evaluation import evaluate as evaluation
from distill.evaluation.compare import CompareJob
from test_evaluate import Loaded

data, out = map(Path, sys.argv[1:])
write_text = atomic.write_text
atomic.write_text = lambda path, text: (time.sleep(1), write_text(path, text))
evaluation.load_predictor = lambda *_, **__: Loaded()
asked = ["evaluate", "--model", "m", "--benchmark", "photos", "--data", str(data)]
assert cli.main([*asked, "--out", str(out)]) == 0
assert (out / "summary.json").is_file()
assert cli.main([*asked, "--out", str(out)]) == 2
assert cli.main([*asked, "--out", str(out), "--resume"]) == 0
CompareJob(models={"m": "m"}, benchmark="photos", data=data).run(out / "compared")
assert (out / "compared" / "summary.json").is_file()
"""


def test_every_process_finds_the_files_and_one_prints(folder, tmp_path):
    first, second = launch_two(_JOBS, folder, tmp_path / "out")
    printed = json.dumps(json.loads((tmp_path / "out" / "summary.json").read_text()), indent=2)
    assert first == f"{printed}\n" * 2  # of the first call and of the one with --resume
    assert second == ""
