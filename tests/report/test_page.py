"""A page for each kind of run, from files as the jobs leave them; nothing in it points outside."""

import base64
import dataclasses
import io
import json
import re
import shutil
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import torch
from label_stores import write_store
from PIL import Image
from scenes import pinhole, plane, sphere

from distill import cli
from distill.evaluation import benchmarks, evaluate
from distill.evaluation.compare import CompareJob
from distill.evaluation.house import boundaries
from distill.evaluation.several import SeveralJob
from distill.report import figures, page
from distill.types import Prediction, Space

MODELS = ("student", "student_synthetic_only", "teacher")
NOISE = {"teacher": 0.02, "student": 0.06, "student_synthetic_only": 0.2}


class Noisy:
    """Reads the disparity off the image's blue and spoils it, each model in its own measure."""

    sha256, licence = "0" * 64, None

    def __init__(self, model, *, space=None, **_) -> None:
        self.name, self.space = str(model), space or Space.AFFINE_DISPARITY
        if not Path(model).is_dir():
            raise FileNotFoundError(f"{model}: no such model")
        self.noise = NOISE[Path(model).parent.name]

    def predict(self, images):
        maps = []
        for image in images:
            blue = np.asarray(image)[..., 2] / 255.0
            y, x = np.mgrid[0 : image.height, 0 : image.width] / image.height
            waves = np.sin(9 * x + 4 * np.sin(7 * y)) * self.noise
            maps.append(torch.from_numpy((blue + waves).astype(np.float32)))
        return [Prediction(values=m, space=self.space) for m in maps]


def write_photos(root: Path, count: int, height: int, width: int) -> None:
    """A ball in front of a wall; blue is disparity."""
    (root / "rgb").mkdir(parents=True)
    (root / "depth").mkdir()
    K = pinhole(height, width)
    for i in range(count):
        wall = plane(height, width, K, normal=(0.3 * i / count, 0, -1), distance=4)
        ball = sphere(height, width, K, centre=(0.8 * i / count - 0.4, 0, 2.5), radius=0.7)
        depth = torch.where(ball.valid, ball.depth, wall.depth).numpy()
        image = torch.where(ball.valid, ball.image, wall.image).numpy()
        image[2] = np.clip(1.7 / depth, 0, 1)
        pixels = np.round(image.transpose(1, 2, 0) * 255).astype(np.uint8)
        Image.fromarray(pixels).save(root / "rgb" / f"{i:03d}.png")
        stored = np.round(depth * 256).astype(np.uint16)
        stored[:3] = 0
        (root / "depth" / f"{i:03d}.png").write_bytes(imagecodecs.png_encode(stored))


def write_training(folder: Path, *, height: int = 16) -> None:
    (folder / "model").mkdir(parents=True)
    (folder / "samples").mkdir()
    rows = [
        {"step": s, "loss": 3 / s**0.5, "affine": 1 / s**0.5, "lr/head": 1e-3, "images_per_s": 90.0}
        for s in range(10, 810, 10)
    ]
    rows += [{"step": s, "val/abs_rel": 0.4 - s / 4000} for s in (400, 800)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for step in (200, 400, 600, 800):
        sheet = np.full((2 * height, 6 * height, 3), step // 4, np.uint8)
        Image.fromarray(sheet).save(folder / "samples" / f"step-{step:09d}.png")
    start = {
        "time": "2026-01-01T00:00:00Z", "recipe": "recipes.demo:x", "commit": "0123456789abcdef",
        "job": {"type": "TrainJob", "seed": 7, "steps": 800, "batch_size": 16},
        "versions": {"torch": "2.0"}, "python": "3.11.7", "machine": "x86_64, 2 threads",
    }  # fmt: skip
    (folder / "run.json").write_text(json.dumps({"starts": [start]}))
    (folder / "summary.json").write_text(json.dumps({"seconds": 120.5, "images_per_s": 106.2}))


def write_labels(folder: Path, photos: Path) -> None:
    write_store(folder)
    for key in ("day.1/IMG_0000.jpg", "day.2/IMG_0003.jpg"):
        (photos / key).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 20), "olive").save(photos / key)
    job = {"images": {"call": "ImageFolder", "args": [str(photos)]}}
    (folder / "run.json").write_text(json.dumps({"starts": [{"job": job}]}))


def write_demo(run: Path, *, photos: int = 7, height: int = 24, width: int = 32) -> Path:
    """What `make demo` leaves, in miniature."""
    for name in MODELS:
        write_training(run / name)
    write_labels(run / "labels", run / "worlds" / "photos" / "unlabelled")
    data = run / "worlds" / "photos" / "evaluation"
    write_photos(data, photos, height, width)
    CompareJob(
        models={name: run / name / "model" for name in MODELS},
        benchmark="photos",
        data=data,
        notes=("feature term off: no DINOv2 weights <in the demo>",),
    ).run(run)
    return run


@pytest.fixture
def demo(tmp_path, monkeypatch):
    monkeypatch.setattr(evaluate, "load_predictor", Noisy)
    monkeypatch.setattr(page, "load_predictor", Noisy)
    return write_demo(tmp_path / "demo")


def pictures_of(html: str) -> list[Image.Image]:
    data = re.findall(r'src="data:image/webp;base64,([^"]+)"', html)
    return [Image.open(io.BytesIO(base64.b64decode(entry))) for entry in data]


def check_self_contained(html: str) -> None:
    """Every picture is in the page, and nothing is fetched from anywhere."""
    assert "http" not in html.replace("https://", "http").split("<pre>")[0]
    assert not re.search(r"<(script|link|iframe|object)\b|@import", html)
    sources = re.findall(r'(?:src|href)="([^"]+)"', html)
    assert sources
    assert all(source.startswith(("data:", "#")) for source in sources)
    assert not re.search(r"url\((?!#)", html)


def test_the_demo_page_says_what_was_found(demo):
    path = page.write_report(demo)
    html = path.read_text()
    assert path == demo / "report.html"
    check_self_contained(html)
    scores = {n: json.loads((demo / "summary.json").read_text())[n]["abs_rel"] for n in MODELS}
    ours, plain = scores["student"], scores["student_synthetic_only"]
    assert ours < plain
    claim = re.sub(r"\s+", " ", html[html.index('class="claim"') :][:400])
    assert f"is {ours:.4f}" in claim
    assert f"has {plain:.4f}" in claim
    assert f"{100 * (1 - ours / plain):.1f} % better" in claim
    assert "photos.disp.v1: held-out photos" in html  # the protocol, beside the numbers
    assert "no DINOv2 weights &lt;in the demo&gt;" in html
    for said in ("recipes.demo:x", "0123456789ab", "120.5", "torch 2.0", "teacher label"):
        assert said in html
    assert html.count("<svg") == 2 + 4  # bars; loss, affine, images/s and validation
    # five images: image and truth, and of each model map and error; 3 runs x 3 samples; labels
    assert len(pictures_of(html)) == 5 * (2 + 3 * 2) + 9 + 4 + 2


def test_the_teacher_comes_first_and_the_best_number_is_marked(demo):
    html = page.write_report(demo).read_text()
    table = html[html.index("<table") : html.index("</table>")]
    assert re.findall(r"<tr><td>([a-z ]+)</td>", table) == [
        *("teacher", "student", "student synthetic only"),
    ]
    best = json.loads((demo / "summary.json").read_text())["teacher"]["abs_rel"]
    assert f'<td class="best">{best:.4f}</td>' in table
    assert table.count('class="best"') >= 9


def test_examples_go_from_the_best_image_to_the_worst(demo):
    html = page.write_report(demo).read_text()
    rows = [json.loads(r) for r in (demo / "evaluation" / "student" / "rows.jsonl").open()]
    ranked = [row["key"] for row in sorted(rows, key=lambda row: row["abs_rel"])]
    shown = re.findall(r"<span>(photos/rgb/[0-9]+\.png)</span>", html)
    assert [shown[0], shown[2], shown[-1]] == [ranked[0], ranked[3], ranked[-1]]


def test_a_picture_for_the_readme(demo):
    page.write_report(demo)
    with Image.open(demo / "picture.png") as picture:
        assert picture.height == 30 + 3 * 158  # under the names: all but the best and the worst
        assert picture.width > 5 * 100  # image, truth, three models


def test_a_worse_student_is_called_worse(demo, monkeypatch):
    for name, noise in (("student", 0.2), ("student_synthetic_only", 0.06)):
        monkeypatch.setitem(NOISE, name, noise)
    job = CompareJob(models={n: demo / n / "model" for n in MODELS}, benchmark="photos",
                     data=demo / "worlds" / "photos" / "evaluation")  # fmt: skip
    shutil.rmtree(demo / "evaluation")
    job.run(demo)
    assert "% worse" in re.sub(r"\s+", " ", page.write_report(demo).read_text())


def test_one_training_run(demo):
    html = page.write_report(demo / "student").read_text()
    check_self_contained(html)
    assert html.count("<svg") == 4
    assert len(pictures_of(html)) == 3
    assert "Scores" not in html
    assert not (demo / "student" / "picture.png").exists()


def test_one_evaluation(demo):
    html = page.write_report(demo / "evaluation" / "student").read_text()
    check_self_contained(html)
    assert len(pictures_of(html)) == 5 * 4
    assert "photos.disp.v1: " in html
    assert 'class="claim"' not in html


def test_several_benchmarks_are_not_compared_with_each_other(demo, tmp_path):
    data = demo / "worlds" / "photos" / "evaluation"
    model = demo / "student" / "model"
    SeveralJob(model=model, data={"photos": data, "kitti": data}).run(tmp_path / "several")
    html = page.write_report(tmp_path / "several").read_text()
    check_self_contained(html)
    assert "photos.disp.v1: " in html
    assert "kitti.garg.disp.v1: " in html
    assert 'class="best"' not in html
    assert "<svg" not in html
    assert len(pictures_of(html)) == 5 * 4  # of the first one


def test_what_is_no_map_has_a_table_and_no_panels(demo, tmp_path, monkeypatch):
    photos = benchmarks.find("photos")
    edges = dataclasses.replace(photos, protocol=boundaries(photos.protocol))
    monkeypatch.setattr(benchmarks, "BENCHMARKS", (edges,))
    assert cli.main(_evaluating(demo, tmp_path / "e")) == 0
    html = page.write_report(tmp_path / "e").read_text()
    assert "<th>bf1 ↑</th><th>bf1 dirfix ↑</th><th>images</th>" in html
    assert "No panels: bf1.photos.disp.v1 measures boundaries, not a map." in html
    assert pictures_of(html) == []


def _evaluating(demo: Path, out: Path) -> list[str]:
    """The student on the photographs, as it is typed."""
    data = demo / "worlds" / "photos" / "evaluation"
    asked = ["evaluate", "--model", str(demo / "student" / "model"), "--benchmark", "photos"]
    return [*asked, "--data", str(data), "--out", str(out)]


def test_an_evaluation_by_its_verb_says_what_ran(demo, tmp_path, capsys):
    asked = _evaluating(demo, tmp_path / "e")
    assert cli.main(asked) == 0
    recorded = (tmp_path / "e" / "run.json").read_bytes()
    assert cli.main(asked) == 2
    assert cli.main([*asked, "--resume"]) == 0
    assert (tmp_path / "e" / "run.json").read_bytes() == recorded
    html = page.write_report(tmp_path / "e").read_text()
    ran = html[html.index("What ran") :]
    assert "EvaluateJob" in ran
    assert "<dt>machine</dt>" in ran
    assert "<dt>recipe</dt>" not in ran


def test_a_model_whose_space_was_said_is_loaded_with_it(demo, tmp_path, monkeypatch):
    asked = _evaluating(demo, tmp_path / "e")
    assert cli.main([*asked, "--space", "SCALE_INVARIANT_DISPARITY"]) == 0
    assert json.loads((tmp_path / "e" / "summary.json").read_text())["space"] == (
        "scale-invariant disparity"
    )
    said = []
    monkeypatch.setattr(
        page, "load_predictor", lambda model, *, space: said.append(space) or Noisy(model)
    )
    page.write_report(tmp_path / "e")
    assert said == [Space.SCALE_INVARIANT_DISPARITY]


def test_one_label_store(demo):
    html = page.write_report(demo / "labels").read_text()
    check_self_contained(html)
    assert re.findall(r"confidence ([\d.]+)", html) == ["0", "0.25", "0.625", "0.875"]
    assert len(pictures_of(html)) == 4 + 2  # two of the photographs are still there


def test_panels_are_left_out_with_a_reason_when_a_model_is_gone(demo):
    (demo / "teacher" / "model").rmdir()
    html = page.write_report(demo).read_text()
    assert "No panels: " in html
    assert "model: no such model" in html
    assert "from the best to the worst" not in html


def test_a_folder_without_a_run_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such folder"):
        page.write_report(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"no metrics\.jsonl, rows\.jsonl or store\.json"):
        page.write_report(tmp_path)


def test_svg_takes_the_colour_of_the_page_and_names_nothing_outside():
    svg = figures.curves("loss", {"a": [(1, 2.0), (2, 1.0)], "b": []})
    assert svg.startswith("<svg")
    assert "currentColor" in svg
    assert "http" not in svg
    assert ">loss<" in svg
