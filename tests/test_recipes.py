"""Every shipped recipe builds, explains itself, names its sources, and the tiny ones run."""

import importlib
import json
import pkgutil
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import recipes
from distill import recipe
from distill.job import Job
from distill.train import TrainJob

ALL = sorted(
    f"recipes.{module.name}:{function.__name__}"
    for module in pkgutil.iter_modules(recipes.__path__)
    for function in recipe.recipes_of(importlib.import_module(f"recipes.{module.name}"))
)


@pytest.mark.parametrize("name", ALL)
def test_recipe_builds_and_explains_itself(name: str):
    function = recipe.load(name)
    job, _ = recipe.build(function, data=Path("DATA"), settings={})
    assert isinstance(job, Job)
    text = recipe.explain(function, job, {})
    assert text.splitlines()[0].endswith(".")
    assert type(job).__name__ in text


@pytest.mark.parametrize("name", [name for name in ALL if not name.endswith(":tiny")])
def test_docstring_shows_its_command(name: str):
    assert f"distill run {name}" in (recipe.load(name).__doc__ or "")


def test_published_numbers():
    """Depth Anything V2, section 7.1: steps, batch and rates of teacher and students."""
    teacher, _ = recipe.build(recipe.load("recipes.teacher:vitg"), data=Path("d"), settings={})
    student, _ = recipe.build(recipe.load("recipes.student:vits"), data=Path("d"), settings={})
    assert isinstance(teacher, TrainJob)
    assert isinstance(student, TrainJob)
    assert (teacher.steps, teacher.batch_size) == (160_000, 64)
    assert (student.steps, student.batch_size) == (480_000, 192)
    for job in (teacher, student):
        assert job.lr(0, job.steps) == {"encoder": 5e-6, "head": 5e-5}


@pytest.mark.parametrize("name", ["vits", "vitb", "vitl", "v1_vits"])
def test_labels_may_be_of_other_images_too(name: str, monkeypatch: pytest.MonkeyPatch):
    opened: list[Any] = []

    def stop(*_: Any, partial: bool, where: str | None = None) -> None:
        opened.append(partial)
        raise FileNotFoundError

    for reader in ("Hypersim", "VirtualKitti2", "open_photographs"):
        monkeypatch.setattr(f"recipes.student.{reader}", lambda *_: None)
    monkeypatch.setattr("recipes.student.PseudoLabelled", stop)
    for word in ("true", "false"):
        function = recipe.load(f"recipes.student:{name}")
        job, _ = recipe.build(function, data=Path("d"), settings={"matching": word})
        assert isinstance(job, TrainJob)
        with pytest.raises(FileNotFoundError):
            job.batches(batch_size=1, seed=0)
    assert opened == [True, False]


@pytest.mark.parametrize("name", ["vits", "v1_vits"])
@pytest.mark.parametrize("word", ["none", "false"])
def test_perturbations_can_be_switched_off(name: str, word: str):
    function = recipe.load(f"recipes.student:{name}")
    on, _ = recipe.build(function, data=Path("d"), settings={})
    off, _ = recipe.build(function, data=Path("d"), settings={"perturb": word})
    assert isinstance(on, TrainJob)
    assert isinstance(off, TrainJob)
    assert isinstance(on.objective, partial)
    assert isinstance(off.objective, partial)
    assert on.objective.keywords["perturb"] is not None
    assert off.objective.keywords["perturb"] is None
    assert isinstance(on.batches, partial)
    assert isinstance(off.batches, partial)
    assert on.batches.args[-1]
    assert not off.batches.args[-1]


@pytest.mark.parametrize(
    ("name", "asks"),
    [
        ("recipes.teacher:vitg", r"data/hypersim.*--data"),
        ("recipes.teacher:vitg_five", r"data/hypersim.*--data"),
        ("recipes.labels:plain", r"photos.*--data"),
        ("recipes.student:vits", r"photos.*--data"),
        ("recipes.evaluation:student", r"give --data DIR holding rgb/"),
    ],
)
def test_bare_commands_name_what_is_missing(
    name: str, asks: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """`make teacher`, `make pseudolabel`, `make student`, `make evaluate` with nothing there."""
    monkeypatch.chdir(tmp_path)
    job, _ = recipe.build(recipe.load(name), data=None, settings={})
    with pytest.raises((FileNotFoundError, ValueError), match=asks):
        job.run(tmp_path / "out")


@pytest.mark.parametrize(
    ("name", "asks"),
    [
        ("recipes.labels:plain", r"runs/teacher/model.*make teacher"),
        ("recipes.student:vits", r"runs/labels.*make pseudolabel"),
    ],
)
def test_a_missing_predecessor_is_named_with_the_command_that_makes_it(
    name: str, asks: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (32, 32)).save(tmp_path / "photos" / "a.png")
    job, _ = recipe.build(recipe.load(name), data=None, settings={})
    with pytest.raises((FileNotFoundError, ValueError), match=asks):
        job.run(tmp_path / "out")


def test_the_whole_chain_at_its_smallest(tmp_path: Path):
    """Worlds, teacher, labels, student, comparison, report: the demo with everything at 1 or 2."""
    pytest.importorskip("mitsuba")
    from distill.report.page import write_report

    out, worlds = tmp_path / "demo", tmp_path / "demo" / "worlds"

    def run(name: str, where: str, **settings: object) -> None:
        text = {key: str(value) for key, value in settings.items()}
        data = tmp_path / "demo" if name == "evaluation" else worlds
        job, _ = recipe.build(recipe.load(f"recipes.demo:{name}"), data=data, settings=text)
        job.run(out / where if where else out, resume=True)

    small = {"steps": 2, "workers": 0, "batch_size": 2, "warmup": 0}
    for name in ("synthetic", "worlds"):
        run(name, "worlds", indoor_scenes=19, indoor_frames=1, street_scenes=1, street_frames=1,
            street_variations=1, photos=3, evaluation=2, samples=1, workers=1)  # fmt: skip
    run("teacher", "teacher", **small)
    run("labels", "labels", teacher=out / "teacher" / "model")
    run("student", "student", labels=out / "labels", **small)
    run("student_synthetic_only", "student_synthetic_only", **small)
    run("evaluation", "")
    summary = json.loads((out / "summary.json").read_text())
    for name in ("teacher", "student", "student_synthetic_only"):
        assert 0 < summary[name]["abs_rel"] < 10
        assert 0 <= summary[name]["delta1"] <= 1
    assert "photos.disp.v1" in summary["protocol"]
    page = write_report(out).read_text()
    assert "http" not in page.replace("http://www.w3.org", "")
