"""A trained model says what it was made from, and `commercial=True` reads it: whole small runs."""

import hashlib
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import metadata_load
from label_stores import meta, teacher
from tiny_models import save_depth_anything
from tiny_teacher import write_photos
from training import Planes, job
from transformers import AutoModelForDepthEstimation, Dinov2Model

from distill import ancestry, lineage, recipe
from distill.datasets import licences
from distill.datasets.image_folder import ImageFolder
from distill.datasets.in_memory import InMemory
from distill.datasets.licences import LICENCES, of_dataset
from distill.datasets.pseudo_labelled import PseudoLabelled
from distill.labels.meta import read_meta
from distill.labels.store import LabelStore
from distill.licences import stated
from distill.lineage import Lineage
from distill.loading import Batches, Mixture, batches
from distill.losses.affine_invariant import affine_invariant
from distill.losses.feature_alignment import feature_alignment
from distill.models import dinov2
from distill.models.depth_anything import SIZES, depth_anything, load_depth_anything
from distill.models.foreign import weights_sha256
from distill.objectives.distillation import Distillation
from distill.objectives.supervised import Supervised
from distill.objectives.terms import Term
from distill.train import TrainJob
from distill.transforms import resize_and_crop
from distill.worlds import job as worlds
from pseudo_labels.generate import LabelJob
from recipes.student import vits


def card(folder: Path, licence: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "README.md").write_text(f"---\nlicense: {licence}\n---\n")
    return folder


def label(photos: Path, teacher_: Path, out: Path) -> Path:
    LabelJob(images=partial(ImageFolder, photos), teacher=teacher_, threads=1).run(out)
    assert read_meta(out).teachers[0].lineage
    return out


def labelled(photos: Path, store: Path, **where: Any) -> Batches:
    mixture = Mixture([(InMemory(PseudoLabelled(ImageFolder(photos), store)), None)])
    return batches(mixture, transform=partial(resize_and_crop, size=56, multiple=8), **where)


def student(photos: Path, store: Path, **fields: Any) -> TrainJob:
    network = partial(depth_anything, "tiny")
    return TrainJob(
        objective=partial(Supervised, network, (Term("affine", 1.0, affine_invariant),)),
        batches=partial(labelled, photos, store),
        batch_size=2,
        steps=1,
        lr=lambda _step, _steps: {"encoder": 1e-4, "head": 1e-4},
        precision="fp32",
        threads=1,
        workers=0,
        **fields,
    )


def test_a_non_commercial_root_is_refused_three_steps_down(tmp_path: Path):
    photos = card(write_photos(tmp_path / "photos", count=2), "cc-by-4.0")
    root = card(save_depth_anything(tmp_path / "root"), "cc-by-nc-4.0")
    first = label(photos, root, tmp_path / "first")
    student(photos, first).run(tmp_path / "middle")
    middle = tmp_path / "middle" / "model"
    second = label(photos, middle, tmp_path / "second")
    last = student(photos, second, commercial=True)
    with pytest.raises(ValueError, match=r"terms of 1 part\(s\)") as refused:
        last.run(tmp_path / "last")
    assert (
        f"  this model <- labels {second} <- model {middle} <- labels {first} <- model {root} "
        "(cc-by-nc-4.0, non-commercial)\n"
    ) in str(refused.value)
    assert not (tmp_path / "last" / "model").exists()

    # plain transformers loads what has a card beside it, and the card is the hub's
    AutoModelForDepthEstimation.from_pretrained(middle)
    front = metadata_load(middle / "README.md")
    assert front is not None
    assert (front["license"], front["datasets"]) == ("other", ["photos"])
    text = (middle / "README.md").read_text()
    assert f"- labels `{first}`: as of its parts, sha256 `" in text
    assert f"  - model `{root}`: cc-by-nc-4.0, sha256 `" in text
    assert "  - data set `photos`: cc-by-4.0\n" in text

    # accepted by name
    bought = student(photos, second, commercial=True, accept=f" {root} ")
    bought.run(tmp_path / "last")
    made = lineage.of_model(tmp_path / "last" / "model")
    assert str(root) in {chain[-1].name for chain in made.chains()}


def test_accept_alone_says_that_it_says_nothing(tmp_path: Path):
    with pytest.raises(ValueError, match="accept='planes' says nothing without commercial=True"):
        job(accept="planes", steps=1).run(tmp_path)


def test_truth_of_unknown_terms_is_refused_and_can_be_accepted(tmp_path: Path):
    with pytest.raises(ValueError, match=r"this model <- data set planes \(no licence known\)"):
        job(commercial=True, steps=1).run(tmp_path)
    job(commercial=True, accept="planes", steps=1).run(tmp_path)
    made = lineage.of_model(tmp_path / "model")
    assert made.made_from == (Lineage(kind="data set", name="planes"),)


def test_the_encoder_that_a_model_starts_from_is_part_of_it(tmp_path: Path):
    network = depth_anything("tiny")
    network.weights_from = card(tmp_path / "encoder", "apple-amlr")
    objective = Supervised(lambda: network, (Term("affine", 1.0, affine_invariant),))
    made = ancestry.of_training("student", objective, [Planes()])
    assert [(part.kind, part.licence) for part in made.made_from] == [
        ("model", "apple-amlr"),
        ("data set", None),
    ]
    assert made.made_from[0].sha256 is not None


def test_the_card_gives_the_model_s_own_licence_and_the_hub_s_base_model():
    base = Lineage(kind="model", name="facebook/dinov2-small", licence="apache-2.0")
    made = Lineage(kind="model", name="student", licence="cc-by-4.0", made_from=(base,))
    text = ancestry.card(made)
    assert text.startswith("---\nlicense: cc-by-4.0\n")
    assert "base_model:\n- facebook/dinov2-small\n" in text


def test_readers_are_known_by_their_terms_and_a_folder_s_card_goes_before(tmp_path: Path):
    class VirtualKitti2(Planes):
        name, root = "virtual_kitti2", tmp_path

    assert of_dataset(InMemory(VirtualKitti2())).licence == "cc-by-nc-sa-3.0"
    card(tmp_path, "apache-2.0")
    assert of_dataset(VirtualKitti2()).licence == "apache-2.0"


def test_the_table_names_readers_that_exist():
    folder = Path(licences.__file__).parent
    text = "".join(path.read_text() for path in folder.glob("*.py"))
    assert all(f"\nclass {reader}" in text for reader in LICENCES)


def test_labels_whose_teacher_tells_no_lineage_have_its_licence(tmp_path: Path):
    meta(teachers=(teacher("old", licence="cc-by-nc-4.0"),)).write(tmp_path)
    made = licences.of_labels(LabelStore(tmp_path, allow_incomplete=True), Planes())
    old, planes = made.made_from
    assert old == Lineage(kind="model", name="old", sha256="0" * 64, licence="cc-by-nc-4.0")
    assert planes.name == "planes"
    assert made.sha256 == hashlib.sha256((tmp_path / "store.json").read_bytes()).hexdigest()


def test_weights_that_are_looked_at_count_like_those_that_are_trained(tmp_path: Path):
    size = SIZES["tiny"].encoder
    Dinov2Model(dinov2.configuration(size)).save_pretrained(tmp_path / "looked_at")
    Dinov2Model(dinov2.configuration(size)).save_pretrained(tmp_path / "start")
    objective = Distillation(
        partial(depth_anything, "tiny", encoder=tmp_path / "start"),
        (Term("affine", 1.0, affine_invariant),),
        feature=Term("feature", 1.0, feature_alignment),
        frozen=partial(dinov2.FrozenDinov2, tmp_path / "looked_at"),
    )
    start, looked_at = ancestry.of_training("student", objective, []).made_from
    assert (start.name, looked_at.name) == (str(tmp_path / "start"), str(tmp_path / "looked_at"))
    assert start.sha256 == weights_sha256(start.name) != looked_at.sha256
    assert load_depth_anything(save_depth_anything(tmp_path / "whole")).weights_from is not None


def test_a_resumed_run_may_be_asked(tmp_path: Path):
    job(steps=5).run(tmp_path)
    (tmp_path / "summary.json").unlink()  # killed after its last checkpoint
    with pytest.raises(ValueError, match="data set planes"):
        job(steps=5, commercial=True).run(tmp_path, resume=True)
    job(steps=5, commercial=True, accept="planes").run(tmp_path, resume=True)


def test_every_recipe_of_a_training_takes_both(tmp_path: Path):
    settings = {"commercial": "true", "accept": "photos, x/y"}
    made, _ = recipe.build(vits, data=tmp_path, settings=settings)
    assert isinstance(made, TrainJob)
    assert (made.commercial, made.accept) == (True, "photos, x/y")


def test_rendered_worlds_are_under_the_project_s_licence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for name in ("render_all", "finish_indoor"):
        monkeypatch.setattr(worlds, name, lambda *_args, **_fields: None)
    worlds.RenderJob().run(tmp_path)
    for folder in ("indoor", "street", "photos/unlabelled"):
        assert stated(tmp_path / folder / "README.md") == "apache-2.0"
