"""What the conditions change and nothing else, noise that stays where it is, the statistics."""

import json
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from label_stores import KEYS, ramp, write_store
from PIL import Image

from benchmarks.ablation_conditions import (
    CONDITIONS,
    CROPPED,
    QUESTIONS,
    Condition,
    Noisy,
    speckled,
    swapped,
)
from benchmarks.ablation_jobs import Place, Scale, photographs, student, teacher, worlds
from benchmarks.ablation_tables import finding, markdown, paired, results, spread
from benchmarks.ablations import Task, tasks, train, wanted, work
from distill.datasets.pseudo_labelled import PseudoLabelled
from distill.job import GuardStop, describe, seed_everything
from distill.models.depth_anything import DepthAnything, depth_anything
from distill.objectives.distillation import Distillation
from distill.perturb import cutmix
from distill.train import TrainJob
from recipes import demo

SAID = {"question", "differs", "against", "paper"}  # what tells of a condition and changes nothing


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """Eight labelled photographs and a trained encoder; no worlds."""
    place = Place(tmp_path_factory.mktemp("ablations"), 5)
    write_store(place.labels("teacher"))
    draw = np.random.default_rng(0)
    for key in KEYS:
        path = place.worlds / "photos" / "unlabelled" / key.removeprefix("photos/")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw.integers(0, 256, (20, 40, 3), dtype=np.uint8)).save(path)
    seed_everything(1)
    depth_anything("tiny").save_pretrained(place.teacher("small") / "model")
    return place


def batch(job: TrainJob) -> dict[str, Any]:
    return cast(dict[str, Any], next(job.batches(batch_size=8, seed=5)))


def objective(place: Place, name: str) -> Distillation:
    seed_everything(5)
    return cast(Distillation, student(place, CONDITIONS[name], Scale()).objective())


def images(place: Place, share: float = 1.0) -> PseudoLabelled:
    photos = place.worlds / "photos" / "unlabelled"
    return photographs(photos, place.labels("teacher"), share, None)


def target(data: PseudoLabelled, number: int) -> torch.Tensor:
    found = data[number].target
    assert found is not None
    return found


@pytest.mark.parametrize("name", CONDITIONS)
def test_each_changes_one_thing_of_what_it_is_compared_with(name: str):
    ours, theirs = CONDITIONS[name], CONDITIONS[CONDITIONS[name].against]
    names = {f.name for f in fields(Condition)} - SAID
    changed = [n for n in names if getattr(ours, n) != getattr(theirs, n)]
    assert len(changed) == (0 if name == "pseudo" else 1)
    assert ours.question in QUESTIONS


def test_the_reference_is_the_demos_student(place: Place):
    ours = student(place, CONDITIONS["pseudo"], Scale(student_steps=600))
    theirs = demo.student(place.worlds, labels=place.labels("teacher"))
    for name in ("objective", "batch_size", "steps", "lr", "optimizer", "ema", "max_grad_norm"):
        assert describe(getattr(ours, name)) == describe(getattr(theirs, name)), name
    first, second = batch(ours), batch(theirs)
    assert first["key"] == second["key"]
    assert torch.equal(first["image"], second["image"])
    assert torch.equal(first["target"], second["target"])


def test_what_a_condition_says_is_in_its_job(place: Place):
    parts = {name: objective(place, name) for name in ("no drop", "no gradient", "cutmix")}
    assert parts["no drop"].terms == demo.TERMS
    assert [term.name for term in parts["no gradient"].terms] == ["affine"]
    assert parts["cutmix"].perturb is cutmix
    plain, bare = (student(place, CONDITIONS[n], Scale()) for n in ("pseudo", "no perturbation"))
    ours, theirs = (batch(job) for job in (plain, bare))
    assert torch.equal(ours["target"], theirs["target"])  # the same crops, mirrored alike
    assert not torch.equal(ours["image"], theirs["image"])
    both = cast(partial, student(place, CONDITIONS["both"], Scale()).batches).args[0]
    assert [weight for _, weight in both] == [2, 1, 6]
    assert CROPPED.keywords["size"] == demo.SIZE


def test_students_of_a_seed_start_alike(place: Place):
    reference = cast(DepthAnything, objective(place, "pseudo").student).state_dict()
    for name in ("no drop", "cutmix", "features"):
        other = cast(DepthAnything, objective(place, name).student).state_dict()
        assert all(torch.equal(reference[part], other[part]) for part in other), name


def test_the_started_one_has_the_encoder_that_features_are_compared_with(place: Place):
    made = objective(place, "started, features")
    assert made.frozen is not None
    image = torch.rand(2, 3, 56, 56, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        tokens = cast(DepthAnything, made.student).forward_features(image)[1]
        assert torch.equal(tokens, made.frozen(image))
        apart = objective(place, "features")
        assert not torch.equal(apart.student.forward_features(image)[1], made.frozen(image))


def test_smaller_shares_are_parts_of_larger_ones(place: Place):
    keys = [
        {data.key(n) for n in range(len(data))}
        for data in (images(place, share) for share in (0.25, 0.5, 1.0))
    ]
    assert [len(part) for part in keys] == [2, 4, 8]
    assert keys[0] < keys[1] < keys[2]


def test_swapped_labels_are_anothers_and_stay_so(place: Place):
    clean = images(place)
    noisy = Noisy(clean.images, clean.store.path, swapped)
    wrong = [n for n in range(8) if not torch.equal(target(noisy, n), target(clean, n))]
    assert len(wrong) == 1
    (number,) = wrong
    assert torch.equal(target(noisy, number), target(clean, (number + 4) % 8))
    assert torch.equal(noisy[number].image, clean[number].image)
    assert torch.equal(target(noisy, number), target(noisy, number))


def test_speckled_labels_have_wild_pixels_and_the_rest_is_the_teachers(place: Place):
    clean = images(place)
    noisy = Noisy(clean.images, clean.store.path, speckled)
    changed = [target(noisy, n) != target(clean, n) for n in range(8)]
    assert 0.07 < torch.stack(changed).float().mean() < 0.13
    assert torch.equal(target(noisy, 3), target(noisy, 3))
    wild = target(noisy, 3)[changed[3]]
    assert wild.max() <= 2 * ramp(3).max() + 0.01
    assert wild.min() >= -ramp(3).max() - 0.01
    assert (wild < 0).any()
    assert (wild > ramp(3).max()).any()


def test_teachers_and_worlds(place: Place):
    sizes = {}
    for name in ("small", "teacher", "large"):
        seed_everything(0)
        made = teacher(place, name, Scale()).objective()
        sizes[name] = sum(p.numel() for p in made.parameters())
    assert sizes["small"] < sizes["teacher"] < sizes["large"]
    assert teacher(place, "small", Scale()).seed != student(place, CONDITIONS["both"], Scale()).seed
    job = worlds(place, Scale(indoor_scenes=3))
    assert (job.seed, job.indoor_scenes, job.workers) == (5, 3, 1)


def row(*values: float) -> dict[int, dict[str, float]]:
    return {seed: {"abs_rel": value, "delta1": 1 - value} for seed, value in enumerate(values)}


def test_statistics_of_known_rows():
    found = spread(row(0.1, 0.2, 0.3), "abs_rel")
    assert found == {"mean": pytest.approx(0.2), "std": pytest.approx(0.1)}
    assert spread(row(0.4), "abs_rel") == {"mean": 0.4}
    ours, theirs = row(0.08, 0.09, 0.11), row(0.10, 0.10, 0.10, 0.9)
    found = paired(ours, theirs, "abs_rel", sign=-1)
    assert (found["pairs"], found["better"], found["verdict"]) == (3, 2, "undecided")
    reach = 4.302653 * 0.01527525 / 3**0.5  # t of 2 degrees of freedom
    low, high = found["interval_95"]
    assert found["difference"] == pytest.approx(-0.02 / 3)
    assert (low, high) == pytest.approx((-0.02 / 3 - reach, -0.02 / 3 + reach))


def test_a_verdict_leaves_zero_out_and_knows_which_way_is_better():
    ours, theirs = row(0.080, 0.081, 0.079), row(0.1, 0.1, 0.1)
    assert paired(ours, theirs, "abs_rel", sign=-1)["verdict"] == "better"
    assert paired(ours, theirs, "delta1", sign=1)["verdict"] == "better"
    assert paired(theirs, ours, "abs_rel", sign=-1)["verdict"] == "worse"
    assert paired(ours, {9: theirs[0]}, "abs_rel", sign=-1) == {}
    assert "verdict" not in paired(row(0.1), row(0.2), "abs_rel", sign=-1)
    assert finding("worse", "worse") == "worse: holds"
    assert finding("better", "worse") == "worse: the papers found the opposite"
    assert finding("better", "undecided") == "undecided (papers: better)"
    assert (finding(None, "worse"), finding("better", None)) == ("worse", "")


def test_results_are_what_lies_there(tmp_path: Path):
    places = [Place(tmp_path, seed) for seed in (1, 2)]
    for place, shift in zip(places, (0.0, 0.01), strict=True):
        runs = {place.student("pseudo"): 0.2, place.student("1/2"): 0.25 + shift / 10}
        for run, value in (runs | {place.teacher("large"): 0.3}).items():
            (run / "evaluation").mkdir(parents=True)
            (run / "commit").write_text("0123")
            means = {"abs_rel": value + shift, "delta1": 0.6, "rmse": 4.0}
            text = json.dumps({"means": means, "protocol": {"text": "as the house does"}})
            (run / "evaluation" / "summary.json").write_text(text)
    found = results(places, Scale())
    assert found["rows"]["1/2"] == {
        1: {"abs_rel": 0.25, "delta1": 0.6},
        2: {"abs_rel": 0.261, "delta1": 0.6},
    }
    assert found["conditions"]["1/2"]["abs_rel"]["verdict"] == "worse"
    assert "difference" not in found["conditions"]["pseudo"]["abs_rel"]
    text = markdown(found | {"command": "c", "day": "e", "machine": "f"})
    assert "| 1/2 | half of the photographs | 0.2555 ± 0.0078 | 0.6000 ± 0.0000 |" in text
    assert "| 0 of 2 | worse: holds |" in text
    assert "| teacher, large | 0.3050 ± 0.0071 |" in text
    assert "trained by commit 0123, e, f." in text
    assert "## E." not in text


def test_work_comes_question_by_question_and_after_what_it_needs(tmp_path: Path):
    places = [Place(tmp_path, seed) for seed in (1, 2)]
    order = tasks(list(CONDITIONS), places)
    assert len(order) == len(set(order)) == 2 * (1 + 3 + len(CONDITIONS))
    assert all(order.index(need) < order.index(task) for task in order for need in task.needs)
    last_of_a = order.index(Task("student", "both", places[1]))
    assert last_of_a < order.index(Task("student", "no drop", places[0]))
    assert wanted("D") == ["pseudo", "1/2", "1/4"]
    assert wanted(None) == list(CONDITIONS)
    assert not any(task.name in {"small", "large"} for task in tasks(wanted("D"), places))


def test_another_jobs_run_is_refused(place: Place):
    job = student(place, CONDITIONS["pseudo"], Scale())
    run = place.student("pseudo")
    run.mkdir(parents=True)
    (run / "job.json").write_text("{}\n")
    with pytest.raises(
        ValueError, match=r"pseudo was trained by another job.*choose another --out"
    ):
        train(job, run, place)


def test_a_student_that_dies_stops_nobody_else(place: Place, monkeypatch: pytest.MonkeyPatch):
    def dies(*_: object) -> None:
        raise GuardStop("the final ReLU has died")

    monkeypatch.setattr("benchmarks.ablations.train", dies)
    said = Task("student", "cutmix", place).run(Scale())
    assert said == "5 student cutmix has no score: the final ReLU has died"
    with pytest.raises(GuardStop):  # without a teacher nothing goes on
        Task("teacher", "small", place).run(Scale())


@pytest.mark.slow
def test_a_question_is_answered_and_nothing_done_twice(tmp_path: Path):
    scale = Scale(
        teacher_steps=26,
        student_steps=26,
        indoor_scenes=12,
        street_scenes=2,
        photos=12,
        evaluation=6,
    )
    places, names = [Place(tmp_path, 7)], ["pseudo", "speckled, no drop"]
    log = tmp_path / "log"
    said = list(work(tasks(names, places), scale, at_once=2, log=log))
    assert said[:2] == ["7 worlds ", "7 teacher teacher"]
    assert sorted(said[2:]) == ["7 student pseudo", "7 student speckled, no drop"]
    models = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")}
    assert list(work(tasks(names, places), scale, at_once=1, log=log))
    assert models == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")}
    assert set(results(places, scale)["rows"]) == {"teacher, teacher", *names}
