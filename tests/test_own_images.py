"""From a folder of photographs to an exported model, with encoders of several kinds."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_encoders import save_encoder, save_timm
from tiny_models import save_depth_anything
from tiny_teacher import write_photos
from transformers import AutoModelForDepthEstimation, pipeline

from distill import recipe
from distill.datasets.images import read_pil
from distill.report.page import write_report
from recipes import own_images

SMALL = {"workers": "0", "batch_size": "4", "steps": "4", "warmup": "0", "fusion": "8"}


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Photographs and a store of labels, as the first command leaves them."""
    folder = tmp_path_factory.mktemp("own")
    photos = write_photos(folder / "photos", count=10)
    teacher = save_depth_anything(folder / "teacher")
    made, _ = recipe.build(
        recipe.load("recipes.own_images:labels"),
        data=photos,
        settings={"teacher": str(teacher), "min_side": "14", "compiled": "false"},
    )
    made.run(folder / "labels")
    return photos, folder / "labels"


def learn(labelled: tuple[Path, Path], out: Path, **settings: Any) -> list[dict[str, float]]:
    text = {key: str(value) for key, value in settings.items()}
    given = SMALL | {"labels": str(labelled[1]), "held_out": "0.3"} | text
    job, _ = recipe.build(
        recipe.load("recipes.own_images:student"), data=labelled[0], settings=given
    )
    replace(job, log_every=1, threads=1).run(out)  # type: ignore[type-var]  # a TrainJob
    return [json.loads(line) for line in (out / "metrics.jsonl").open()]


@pytest.mark.parametrize("kind", ["test_efficientnet", "dinov3_vit"])
def test_a_student_of_any_encoder(kind: str, labelled: tuple[Path, Path], tmp_path: Path) -> None:
    """Features of a DINOv2 of another width and grid beside it; plain transformers loads it."""
    write = save_timm if kind.startswith("test_") else save_encoder
    encoder, frozen = write(tmp_path / kind, kind), save_encoder(tmp_path / "dinov2", "dinov2")
    rows = learn(labelled, tmp_path / "out", encoder=encoder, size=64, frozen=frozen)
    assert all("feature" in row for row in rows if "loss" in row)
    watched = [row for row in rows if "val/affine" in row]
    assert [row["step"] for row in watched] == [0, 4]
    assert watched[0]["val/affine"] != watched[1]["val/affine"]
    model = tmp_path / "out/model"
    assert AutoModelForDepthEstimation.from_pretrained(model).config.patch_size in (16, 32)
    picture = read_pil(next(labelled[0].rglob("*.png")))
    found: Any = pipeline("depth-estimation", model=str(model))(picture)
    assert found["predicted_depth"].shape == (picture.height, picture.width)
    lineage = (model / "lineage.json").read_text()
    assert all(str(part) in lineage for part in (encoder, frozen, labelled[1]))
    assert "Before and after" in write_report(tmp_path / "out").read_text()


def test_no_weights_beside_the_encoder_without_features(
    labelled: tuple[Path, Path], tmp_path: Path
) -> None:
    encoder = save_encoder(tmp_path / "dinov2", "dinov2")
    rows = learn(labelled, tmp_path / "out", encoder=encoder, feature=0, size=56)
    assert not any("feature" in row for row in rows)
    config = json.loads((tmp_path / "out/model/config.json").read_text())
    assert config["model_type"] == "depth_anything"


def test_tiny(labelled: tuple[Path, Path], tmp_path: Path) -> None:
    own_images.tiny(labelled[0], labels=labelled[1]).run(tmp_path / "out")
    assert (tmp_path / "out/model/config.json").is_file()


def test_held_out_photographs_are_not_learned_from(labelled: tuple[Path, Path]) -> None:
    parts = [own_images._labelled(*labelled, 0.3, apart=apart) for apart in (True, False)]
    apart, learned = ({part.key(i) for i in range(len(part))} for part in parts)
    assert not apart & learned
    assert len(apart) + len(learned) == 10


def test_pictures_are_shown_as_the_model_takes_them(labelled: tuple[Path, Path]) -> None:
    """Whole and squeezed for one size alone; cut out, never squeezed, for the others."""
    samples = own_images._labelled(*labelled, 0.3, apart=False)
    sample = next(
        s for s in map(samples.__getitem__, range(5)) if s.image.shape[1] != s.image.shape[2]
    )
    for square in (True, False):
        form = own_images.Shape(side=32, multiple=8, cell=8, square=square)
        seen = own_images._seen(sample, made_for=lambda form=form: form)
        rows, columns = seen.image.shape[-2:]
        assert min(rows, columns) == 32
        assert (rows == columns) == square
        assert seen.target is not None
        assert torch.equal(seen.target.isnan(), ~(seen.valid))  # type: ignore[operator]  # has one
