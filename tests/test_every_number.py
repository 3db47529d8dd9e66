"""No number of a recipe is dead: with another value the job draws, computes or trains otherwise.

The recipes themselves are built, their networks of the published names only smaller (`SIZES`), on
miniatures of the real sets, photographs and labels. Of the job that another value makes, what the
loop reads of it, the rates, the bytes of a batch, the losses of some updates with the weights they
leave, and the scores are compared with those of the job without it, until something differs.
"""

import contextlib
import dataclasses
import hashlib
import importlib
import pkgutil
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from recipe_data import ENCODER, write

import recipes
from distill import recipe
from distill.job import describe, seed_everything
from distill.models.depth_anything import SIZES, Architecture
from distill.optim import set_rates
from distill.train import TrainJob

SMALL = {"size": "56", "batch_size": "4", "encoder_rate": "0.01", "head_rate": "0.01"}
WATCHED = {**SMALL, "held_out_size": "56"}
# ROOT stands for the folder with everything
STUDENT = {**SMALL, "labels": "ROOT/labels", "dinov2": "ROOT/dinov2"}
DEPTH = "ROOT/dinov2_depth"
OWN = {**SMALL, "held_out": "0.4", "batch_size": "2", "steps": "9", "warmup": "0"}

# one recipe of each kind, what it reads, and the settings that make it small
KINDS: dict[str, tuple[str, dict[str, str]]] = {
    "recipes.teacher:vitg": ("ROOT", {**WATCHED, "dinov2": "ROOT/dinov2", "steps": "9"}),
    "recipes.student:vits": ("ROOT/photos", {**STUDENT, "steps": "9"}),
    "recipes.student:v1_vits": (
        "ROOT/photos",
        {**STUDENT, "truth": "ROOT", "sets": "hypersim virtual_kitti2", "images": "24"},
    ),
    "recipes.distill_any_depth:vits": (
        "ROOT/photos",
        {**SMALL, "size": "28", "smallest": "30", "steps": "9", "dinov2": "ROOT/dinov2"}
        | {"teacher": "ROOT/other_dinov2_depth", "start": DEPTH},
    ),
    "recipes.metric:indoor": (
        "ROOT/hypersim",
        {**WATCHED, "start": DEPTH, "images": "10", "passes": "4"},
    ),
    "recipes.finetune:metric": ("ROOT/held_out", {**OWN, "start": DEPTH}),
    "recipes.finetune:relative": ("ROOT/held_out", {**OWN, "start": DEPTH}),
    "recipes.own_images:student": (
        "ROOT/photos",
        {**OWN, "encoder": "ROOT/dinov2", "labels": "ROOT/labels"},
    ),
}
ON, TRIM = {"perturb": "true"}, {"trim": "0.2"}
FEATURE = {"feature": "1", "tolerance": "0.8"}  # after an update some tokens are far, some near
HELD_OUT = {"held_out": "ROOT/held_out", "held_out_size": "56"}
HELPED = {"assistant": "ROOT/dinov2_depth"}
# another value, and what must be set for it to matter
OTHER: dict[str, tuple[str, dict[str, str]]] = {
    "data": ("ROOT/elsewhere", {}),
    "network": ("vits", {}),
    "units_per_metre": ("7", {}),
    "meaning": ("depth", {}),
    "benchmark": ("nyu", {}),
    "benchmarks": ("nyu", {}),
    "size": ("70", {}),
    "labels": ("ROOT/other_labels", {}),
    "truth": ("ROOT/elsewhere", {}),
    "dinov2": ("ROOT/other_dinov2", FEATURE),
    "teacher": ("ROOT/dinov2_depth", {}),
    "assistant": ("ROOT/dinov2_depth", {}),
    "primary": ("0.001", HELPED),
    "start": ("ROOT/other_dinov2_depth", {}),
    "new_head": ("true", {}),
    "matching": ("true", {"data": "ROOT/more_photos"}),
    "where": ("key < 'photos/trip.1'", {}),
    "min_confidence": ("0.5", {}),
    "weighted": ("true", {}),
    "sets": ("virtual_kitti2", {}),
    "sky": ("ignored", {"sets": "virtual_kitti2"}),
    "jitter_p": ("0", ON),
    "brightness": ("0.1", ON),
    "contrast": ("0.1", ON),
    "saturation": ("0.1", ON),
    "hue": ("0.1", ON),
    "grayscale_p": ("1", ON),
    "blur_p": ("0", ON),
    "blur_sigma": ("4,5", ON),
    "cutmix_p": ("0", ON),
    "cutmix_area": ("0.3,0.4", ON),
    "cutmix_ratio": ("0.9", ON),
    "flip": ("0", {}),
    "trim": ("0.3", {}),
    "trim_region": ("7", TRIM),
    "trim_mean": ("valid", TRIM),
    "trim_gradient": ("true", TRIM | {"gradient": "1"}),
    "gradient": ("0.7", {}),
    "scales": ("2", {"gradient": "1"}),
    "ssi": ("ls_mse", {}),
    "reduction": ("pixels", {"min_confidence": "0.5"}),  # dense labels have equally many
    "feature": ("0.5", FEATURE),
    "tolerance": ("0", FEATURE),
    "feature_mean": ("all", FEATURE),
    "normalisation": ("local", {}),
    "local_normalisation": ("none", {}),
    "part_side": ("0.9,0.95", {}),
    "held_out": ("ROOT/held_out", {"held_out_size": "56"}),
    "held_out_images": ("1", HELD_OUT),
    "held_out_size": ("28", HELD_OUT),
    "max_grad_norm": ("0.1", {}),
    "ema": ("0.9", {}),
    "precision": ("bf16", {"precision": "fp32"}),
    "betas": ("0.5,0.9", {}),
    "min_depth": ("3", {}),
    "max_depth": ("2", {}),
    "recipes.finetune:metric:held_out": ("0.7", {}),
    "recipes.finetune:relative:held_out": ("0.7", {}),
    "recipes.own_images:student:held_out": ("0.2", {}),
    "recipes.own_images:student:encoder": ("ROOT/other_dinov2", {}),
    "recipes.own_images:student:fusion": (
        "12",
        {"encoder": "ROOT/test_efficientnet", "size": "64"},
    ),
    "recipes.own_images:student:frozen": ("ROOT/other_dinov2", {}),
}


@pytest.fixture(scope="module", autouse=True)
def small_sizes() -> Iterator[None]:
    """The published sizes, of a few thousand weights each."""
    before, threads = dict(SIZES), torch.get_num_threads()
    torch.set_num_threads(1)
    for name, fusion in {"vits": 8, "vitb": 10, "vitl": 12, "vitg": 14}.items():
        SIZES[name] = Architecture(
            encoder=ENCODER, taps=(1, 2, 3, 4), necks=(8, 8, 8, 8), fusion=fusion, head=4
        )
    yield
    SIZES.update(before)
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def disk(small_sizes: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("disk"))


def _loop_fields(job: TrainJob) -> Any:
    """What the loop itself reads; tests of the loop hold that against what it does."""
    parts = ("objective", "batches", "lr", "optimizer", "validation", "pictures")
    return {f.name: getattr(job, f.name) for f in dataclasses.fields(job) if f.name not in parts}


def _rates(job: TrainJob) -> Any:
    return [job.lr(step, job.steps) for step in range(job.steps)]


_DRAWN: dict[int, list[Any]] = {}  # of jobs, which stay, and of which some have no hash


def _batches(job: TrainJob) -> list[Any]:
    if id(job) not in _DRAWN:
        draw = {"batch_size": job.batch_size, "seed": job.seed}
        with contextlib.closing(job.batches(**draw)) as drawn:
            _DRAWN[id(job)] = [next(drawn) for _ in range(2)]
    return _DRAWN[id(job)]


def _data(job: TrainJob) -> Any:
    digest = hashlib.sha256()
    for batch in _batches(job):
        for name, value in sorted(batch.items()):
            digest.update(name.encode())
            plain = value.numpy().tobytes() if torch.is_tensor(value) else str(value).encode()
            digest.update(plain)
    return digest.hexdigest()


def _training(job: TrainJob) -> Any:
    """Losses of two updates, and what they make of the weights."""
    seed_everything(job.seed)
    objective: Any = job.objective()
    optimizer = job.optimizer(objective.parameter_groups())
    losses = []
    for step, batch in enumerate(_batches(job)):
        set_rates(optimizer, job.lr(step, job.steps))
        terms = objective(batch)
        terms["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(terms["loss"].item())
    weights = [p.detach().double().sum().item() for p in objective.parameters()]
    return [losses, weights]


def _scores(job: TrainJob) -> Any:
    seed_everything(job.seed)
    student = job.objective().student.eval()  # type: ignore[union-attr]  # of every objective
    if job.validation is None or job.pictures is None:
        return None
    with torch.no_grad():
        return dict(job.validation(student)), job.pictures()["image"].sum().item()


STAGES = (_loop_fields, _rates, _data, _training, _scores)


@cache
def _job(name: str, root: Path, given: tuple[tuple[str, str], ...]) -> TrainJob:
    settings = {key: value.replace("ROOT", str(root)) for key, value in given}
    data = Path(settings.pop("data"))
    made, _ = recipe.build(recipe.load(name), data=data, settings=settings)
    assert isinstance(made, TrainJob)
    return made


@cache
def _result(stage: Callable, name: str, root: Path, given: tuple[tuple[str, str], ...]) -> Any:
    """What comes of a stage; where nothing can be read, what the run would say."""
    try:
        return stage(_job(name, root, given))
    except (ValueError, OSError) as error:
        return f"{type(error).__name__}: {error}"


def _another(setting: recipe.Setting) -> str:
    """A value that is not the default's."""
    value = setting.value
    if isinstance(value, bool):
        return str(not value).lower()
    return str(2 * value + 1 if isinstance(value, int) else value * 1.5 + 0.1)


def _numbers() -> list[tuple[str, recipe.Setting]]:
    """Each number once: those that recipes share in the first that has them."""
    found: dict[tuple[str, ...], tuple[str, recipe.Setting]] = {}
    for name in KINDS:
        for setting in recipe.settings_of(recipe.load(name)):
            group = setting.place[-2:] if len(setting.place) > 2 else (name, setting.name)
            found.setdefault(group, (name, setting))
    return list(found.values())


@pytest.mark.parametrize(
    ("name", "setting"), [pytest.param(n, s, id=f"{n[8:]}-{s.name}") for n, s in _numbers()]
)
def test_another_value_changes_what_the_job_does(name: str, setting: recipe.Setting, disk: Path):
    data, base = KINDS[name]
    other, needs = OTHER.get(f"{name}:{setting.name}", OTHER.get(setting.name, (None, {})))
    known = {s.name for s in recipe.settings_of(recipe.load(name))}
    before = {"data": data, **base, **{k: v for k, v in needs.items() if k in known}}
    after = before | {setting.name: other or _another(setting)}
    assert before != after
    results = {}
    for stage in STAGES:
        one, two = (_result(stage, name, disk, tuple(s.items())) for s in (before, after))
        results[stage.__name__] = one, two
        if one != two:
            return
    pytest.fail(f"{setting.name} changes nothing: {results}")


def test_the_jobs_that_are_compared_run(disk: Path):
    """What is compared above is no list of failures."""
    for name, (data, base) in KINDS.items():
        given = tuple({"data": data, **base}.items())
        for stage in STAGES:
            text = _result(stage, name, disk, given)
            assert "Error" not in str(text), (name, text)
        losses, weights = _result(_training, name, disk, given)
        assert np.isfinite(losses).all()
        assert np.isfinite(weights).all()
        assert len(set(losses)) == 2


ALL = sorted(
    f"recipes.{module.name}:{function.__name__}"
    for module in pkgutil.iter_modules(recipes.__path__)
    for function in recipe.recipes_of(importlib.import_module(f"recipes.{module.name}"))
)


@pytest.mark.parametrize("name", ALL)
def test_every_setting_of_every_recipe_reaches_its_job(name: str):
    """What recipes share is tested above in one of them; in all the job says that it is there."""
    function = recipe.load(name)
    settings = recipe.settings_of(function)
    for setting in settings:
        if setting.name == "data":
            continue
        other, needs = OTHER.get(setting.name, ("ROOT", {}))
        if other.startswith("ROOT"):
            open_ = isinstance(setting.value, str | Path | None)
            other = "elsewhere" if open_ else _another(setting)
        given = {s.name: needs[s.name] for s in settings if s.name in needs}
        jobs = [
            describe(recipe.build(function, data=Path("d"), settings=texts)[0])
            for texts in (given, given | {setting.name: other})
        ]
        assert jobs[0] != jobs[1], f"{name}: {setting.name}={other} changes nothing"
