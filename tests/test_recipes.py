"""Every shipped recipe builds, explains itself, names its sources, and the tiny ones run."""

import importlib
import json
import math
import pkgutil
from pathlib import Path
from typing import Any

import pytest
import test_hypersim
import test_virtual_kitti2
import tiny_teacher
from PIL import Image

import recipes
from distill import recipe
from distill.explaining import explain
from distill.job import Job
from distill.models.depth_anything import depth_anything
from distill.perturb import Perturbation
from distill.plan import counting, networks

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
    text = explain(function, job, {})
    assert text.splitlines()[0].endswith(".")
    assert type(job).__name__ in text


@pytest.mark.parametrize("name", [name for name in ALL if not name.endswith(":tiny")])
def test_docstring_shows_its_command(name: str):
    assert f"distill run {name}" in (recipe.load(name).__doc__ or "")


def built(name: str, **settings: str) -> Any:
    return recipe.build(recipe.load(f"recipes.{name}"), data=Path("d"), settings=settings)[0]


def weights(job: Any) -> dict[str, float]:
    """Of the terms of an objective, by their names."""
    given = job.objective.keywords
    terms = [*job.objective.args[1], *given.get("labelled_terms", ())]
    if given.get("feature") is not None:
        terms.append(given["feature"])
    return {term.name: round(term.weight, 6) for term in terms}


SIZES = ("vits", "vitb", "vitl", "vitg")


def test_v2s_published_numbers():
    """Section 7.1: steps, batch, rates and weights of teacher and students."""
    teachers = [built(f"teacher:{name}") for name in ("vitg", "vitl", "vits", "vitg_five")]
    students = [built(f"student:{name}") for name in SIZES]
    assert {(job.steps, job.batch_size) for job in teachers} == {(160_000, 64)}
    assert {(job.steps, job.batch_size) for job in students} == {(480_000, 192)}
    for job in [*teachers, *students]:
        assert job.lr(0, job.steps) == {"encoder": 5e-6, "head": 5e-5}
        assert job.lr(job.steps // 2, job.steps)["head"] == pytest.approx(5e-5 * 0.5**0.9)
        assert job.optimizer.keywords == {"weight_decay": 0.01, "betas": (0.9, 0.999)}
        assert (job.max_grad_norm, job.ema, job.precision) == (None, None, "bf16")
    for job in teachers:
        assert weights(job) == {"affine": 1, "gradient": 2}
        assert job.objective.args[1][0].loss.keywords["trim"] == 0
    for job in students:
        assert weights(job) == {"affine": 1, "gradient": 2, "feature": 1}
        assert job.objective.args[1][0].loss.keywords["trim"] == 0.1
    perturbed = [job.objective.keywords["perturb"] is not None for job in students]
    assert perturbed == [False, False, True, True]  # issue 207


def test_v1s_published_numbers():
    """Sections 3 and 4.1: linear rates, a third each, one pass, 1 to 2; no gradient matching."""
    teacher, student = built("teacher:v1_vitl"), built("student:v1_vits")
    assert teacher.steps * teacher.batch_size == 20 * 524_000
    assert student.batch_size == 192
    assert student.steps * 128 == pytest.approx(62e6, rel=1e-5)
    for job in (teacher, student):
        assert job.lr(job.steps // 2, job.steps)["encoder"] == pytest.approx(2.5e-6, rel=1e-4)
        assert job.objective.args[0].keywords["version"] == 1
    assert weights(teacher) == {"affine": 1}
    third = round(1 / 3, 6)
    assert weights(student) == {"affine": third, "labelled": third, "feature": third}
    assert "trim" not in student.objective.keywords["labelled_terms"][0].loss.keywords
    assert student.objective.keywords["perturb"].keywords["p"] == 0.5


@pytest.mark.parametrize(
    ("name", "depth", "images"), [("indoor", 20, 59_543), ("outdoor", 80, 19_559)]
)
def test_the_metric_numbers_of_released_code(name: str, depth: int, images: int):
    """dist_train.sh and util/loss.py of V2's metric_depth: 120 epochs, 8 x 4, SILog 0.5, fp32."""
    for network in SIZES[:3]:
        job = built(f"metric:{name}", network=network)
        assert (job.steps, job.batch_size) == (round(120 * images / 32), 32)
        assert job.lr(0, job.steps) == {"encoder": 5e-6, "head": 5e-5}
        assert job.objective.args[0].args == (network,)
        assert job.objective.args[0].keywords["max_depth"] == depth
        assert job.objective.args[0].keywords["encoder"] == f"models/depth_anything_v2_{network}"
        (term,) = job.objective.args[1]
        assert (term.weight, term.loss.keywords) == (1, {"variance_focus": 0.5})
        assert job.precision == "fp32"


@pytest.mark.parametrize("name", ["teacher", "student"])
@pytest.mark.parametrize("size", SIZES)
def test_the_real_sizes_have_the_published_parameters(name: str, size: str):
    """Without their weights, which nobody loads here."""
    if (name, size) == ("teacher", "vitb"):
        pytest.skip("no paper has that teacher")
    published = {"vits": 24_785_089, "vitb": 97_470_785, "vitl": 335_315_649}
    with counting.shadows():
        objective = networks.weightless(built(f"{name}:{size}").objective)()
    assert (
        sum(p.numel() for p in objective.student.parameters())
        == {
            **published,
            "vitg": 1_258_132_225,
        }[size]
    )


@pytest.mark.parametrize("size", SIZES[:3])
def test_real_sizes_of_v1_read_the_last_four_blocks(size: str):
    with counting.shadows():
        objective = networks.weightless(built(f"student:v1_{size}").objective)()
        metric = networks.weightless(built("metric:indoor", network=size).objective)()
    depth = objective.student.network.config.backbone_config.num_hidden_layers
    assert objective.student.network.config.backbone_config.out_indices == [
        *range(depth - 3, depth + 1)
    ]
    assert metric.student.network.config.max_depth == 20


def test_sets_that_nobody_knows_are_named():
    with pytest.raises(ValueError, match="sets='hypersim kitty'; choose some of hypersim"):
        built("teacher:vitg", sets="hypersim kitty").batches(batch_size=1, seed=0)


@pytest.mark.parametrize("name", ["student:vits", "teacher:vits"])
def test_from_scratch_there_is_nothing_to_align_with(name: str):
    with pytest.raises(ValueError, match=r"feature alignment needs dinov2.*feature=0"):
        built(name, dinov2="none", feature="1")
    assert weights(built(name, dinov2="none", feature="0")) == {"affine": 1, "gradient": 2}


@pytest.mark.parametrize("word", ["none", "false"])
@pytest.mark.parametrize("name", ["student:vitl", "student:v1_vits"])
def test_perturbations_can_be_switched_off(name: str, word: str):
    on, off = built(name), built(name, perturb=word)
    assert on.objective.keywords["perturb"] is not None
    assert off.objective.keywords["perturb"] is None
    assert on.batches.args[-1].keywords["colour"] == Perturbation()
    assert off.batches.args[-1].keywords["colour"] is None


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the tiny recipes read."""
    root = tmp_path_factory.mktemp("disk")
    test_hypersim.miniature(root / "hypersim")
    test_virtual_kitti2.miniature(root / "virtual_kitti2")
    tiny_teacher.write_photos(root / "photos", count=4)
    tiny_teacher.job(root / "photos").run(root / "labels")
    depth_anything("tiny_teacher").save_pretrained(root / "teacher")
    return root


@pytest.mark.parametrize(
    ("name", "data", "settings"),
    [
        ("teacher", "", {}),
        ("student", "photos", {"labels": "labels"}),
        ("metric", "hypersim", {}),
        ("distill_any_depth", "photos", {"teacher": "teacher"}),
    ],
)
def test_the_tiny_recipes_run(
    name: str, data: str, settings: dict[str, str], disk: Path, tmp_path: Path
):
    text = {key: str(disk / place) for key, place in settings.items()} | {"log_every": "1"}
    job, _ = recipe.build(recipe.load(f"recipes.{name}:tiny"), data=disk / data, settings=text)
    job.run(tmp_path / "out")
    rows = [json.loads(line) for line in (tmp_path / "out" / "metrics.jsonl").open()]
    assert all(math.isfinite(row.get("loss", 0.0)) for row in rows)
    assert (tmp_path / "out" / "summary.json").is_file()
    assert (tmp_path / "out" / "model" / "config.json").is_file()


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
