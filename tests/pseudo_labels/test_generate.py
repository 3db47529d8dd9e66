"""The label job in one process: what it stores, refuses, sets aside and stops at."""

import json
import os
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_teacher import TinyTeacher, contents, job, recipe, spoiled_photos, write_photos

from distill.datasets.image_folder import ImageFolder
from distill.job import GuardStop, PartialFailure
from distill.labels.codec import JpegXl
from distill.labels.meta import read_meta
from distill.labels.shards import discard_shard
from distill.labels.store import LabelStore
from distill.recipe import build
from distill.types import Space
from pseudo_labels import generate
from pseudo_labels.strategies.plain import Plain, plain


def test_every_image_has_the_label_of_its_own(photos, finished):
    """Batched over shapes, stored and read again: within the bound of one image by itself."""
    store, teacher, images = LabelStore(finished), TinyTeacher(), ImageFolder(photos)
    assert store.keys() == sorted(images.key(n) for n in range(26))
    assert store.meta.image_limits == {"min_side": 32, "max_aspect": 4.0}
    assert store.verify() == 26
    for n in range(26):
        label = store.read(images.key(n))
        image = images[n].image
        pixels = teacher.prepare(generate_pil(image))[None]
        straight = teacher.predict_network(pixels)[0]
        mirrored = teacher.predict_network(pixels.flip(-1))[0].flip(-1)
        expected = (straight + mirrored) / 2
        span = float(expected.max() - expected.min())
        assert (label.prediction.values - expected).abs().max() <= span * 2.5e-4
        assert label.image_size == tuple(image.shape[1:])
        assert label.prediction.confidence is not None
        assert 0 < label.prediction.confidence < 1


def generate_pil(image):
    return Image.fromarray(np.uint8(np.round(image.permute(1, 2, 0).numpy() * 255)))


def test_store_says_how_it_was_made(photos, finished):
    meta = read_meta(finished)
    (teacher,) = meta.teachers
    assert (teacher.name, teacher.licence, meta.space) == (
        "tiny",
        "apache-2.0",
        Space.AFFINE_DISPARITY,
    )
    assert teacher.preprocessing == TinyTeacher().preprocessing
    assert meta.strategy == "pseudo_labels.strategies.tta:flip"
    assert meta.codec == {"type": "JpegXl", "levels": 2048, "effort": 2}
    assert meta.inference == {
        "batch_size": 3,
        "dtype": "float32",
        "threads": 1,
        "device": "cpu",
        "teachers": [TinyTeacher().inference],
    }
    assert (meta.keys, meta.shard_size, meta.shards) == (26, 4, 7)
    assert meta.versions["torch"] == torch.__version__.split("+")[0]


@pytest.mark.parametrize("said", ["METRIC_DEPTH", "metric depth"])
def test_the_space_of_a_teacher_can_be_said(photos, tmp_path, said):
    said_so, _ = build(recipe, data=photos, settings={"space": said})
    said_so.run(tmp_path / "store")
    assert read_meta(tmp_path / "store").space is Space.METRIC_DEPTH
    with pytest.raises(ValueError, match=r"space: store 'METRIC_DEPTH', this job 'AFFINE_DISP"):
        job(photos).run(tmp_path / "store", resume=True)


def test_an_unknown_space_is_named(photos):
    with pytest.raises(ValueError, match=r"space='metres'; choose one of METRIC_DEPTH, .*ORDINAL"):
        job(photos, space="metres")


def test_workers_change_nothing(photos, finished, tmp_path):
    job(photos, workers=4).run(tmp_path / "store")
    assert contents(tmp_path / "store") == contents(finished)


def test_torch_threads_are_given_back(photos, tmp_path):
    before = torch.get_num_threads()
    job(photos, threads=before + 1).run(tmp_path / "store")
    assert torch.get_num_threads() == before


def test_plain_has_no_confidence(photos, tmp_path):
    job(photos, strategy=plain, dtype="bfloat16").run(tmp_path / "store")
    store = LabelStore(tmp_path / "store")
    assert store.read(store.keys()[0]).prediction.confidence is None
    assert store.stats()["confidence"] == {}


def test_a_lost_shard_is_written_again(photos, tmp_path, finished):
    out = tmp_path / "store"
    job(photos).run(out)
    (out / "labels-00002.tar").write_bytes(b"torn")
    (out / ".labels-00003.tar.tmp-1").write_bytes(b"left behind")
    discard_shard(out, 2)
    before = (out / "labels-00000.tar").stat().st_mtime_ns
    job(photos).run(out, resume=True)
    assert contents(out) == contents(finished)
    assert (out / "labels-00000.tar").stat().st_mtime_ns == before


def test_only_shards_of_changed_images_are_written_again(tmp_path, caplog):
    photos, out = write_photos(tmp_path / "photos"), tmp_path / "store"
    job(photos).run(out)
    path = ImageFolder(photos).path(9)  # of the third shard
    Image.effect_noise((60, 40), 90).convert("RGB").save(path)
    times = {file.name: file.stat().st_mtime_ns for file in out.glob("labels-*")}
    job(photos).run(out, resume=True)  # not asked to look
    assert {file.name: file.stat().st_mtime_ns for file in out.glob("labels-*")} == times
    with caplog.at_level("INFO"):
        job(photos, recheck_images=True).run(out, resume=True)
    assert f"1 images have changed, {ImageFolder(photos).key(9)} for one" in caplog.text
    now = {file.name: file.stat().st_mtime_ns for file in out.glob("labels-*")}
    assert [name for name in now if now[name] != times[name]] == ["labels-00002.tar"]
    anew = tmp_path / "anew"
    job(photos).run(anew)
    assert contents(out) == contents(anew)


def test_a_finished_store_is_not_started_again(photos, finished):
    before = {path: path.stat().st_mtime_ns for path in finished.glob("labels-*")}
    with pytest.raises(ValueError, match="already holds a label store; give --resume"):
        job(photos).run(finished)
    job(photos).run(finished, resume=True)
    assert {path: path.stat().st_mtime_ns for path in finished.glob("labels-*")} == before


def test_torchrun_restarts_resume(photos, finished, monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    job(photos).run(finished)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"teacher": "other"}, r"teacher: store 'tiny', this job 'other'\n  teacher_sha256: "),
        ({"strategy": plain}, r"strategy: .*tta:flip', this job .*plain:plain'"),
        ({"codec": JpegXl(levels=4096)}, "codec: .*2048.* this job .*4096.*\n  error_bound"),
        ({"batch_size": 4}, r"inference: .*'batch_size': 3.*'batch_size': 4"),
        ({"min_side": 3}, r"image_limits: .*'min_side': 32.*'min_side': 3"),
        ({"shard_size": 5}, "shard_size: store 4, this job 5"),
    ],
)
def test_a_store_refuses_labels_made_otherwise(photos, finished, change, named):
    with pytest.raises(ValueError, match=named):
        job(photos, **change).run(finished, resume=True)


def test_a_teacher_may_move(photos, tmp_path, finished):
    out = tmp_path / "store"
    job(photos).run(out)
    discard_shard(out, 1)
    moved = TinyTeacher()
    moved.name = "elsewhere/tiny"
    job(photos, load=lambda *_, **__: moved).run(out, resume=True)
    assert contents(out) == contents(finished)


def test_a_store_without_labels_binds_nobody(photos, tmp_path):
    out = tmp_path / "store"
    with pytest.raises(GuardStop):
        job(photos, teacher="dead", min_side=1000, max_quarantined=0.0).run(out)
    job(photos).run(out)
    assert read_meta(out).teacher_names == "tiny"


def test_other_images_are_refused(tmp_path, finished):
    write_photos(tmp_path, 25)
    with pytest.raises(ValueError, match="keys: store 26, this job 25"):
        job(tmp_path).run(finished, resume=True)


def test_versions_matter_until_a_store_is_finished(photos, tmp_path, monkeypatch):
    out = tmp_path / "store"
    job(photos).run(out)
    monkeypatch.setattr(generate.metadata, "version", lambda name: "0")
    job(photos).run(out, resume=True)
    discard_shard(out, 0)
    with pytest.raises(ValueError, match="versions: store"):
        job(photos).run(out, resume=True)


def test_images_without_a_label_are_named(tmp_path):
    root, out = spoiled_photos(tmp_path / "photos"), tmp_path / "store"
    with pytest.raises(PartialFailure, match=r"4 input\(s\) failed") as caught:
        job(root).run(out)
    lines = [json.loads(line) for line in (out / "quarantine.jsonl").read_text().splitlines()]
    assert [line["key"][-11:-7] for line in lines] == ["_000", "_010", "_020", "_024"]
    assert {line["key"]: line["reason"] for line in lines} == caught.value.failures
    assert "at most 4 times as long" in lines[2]["reason"]
    assert "the shorter side must be at least 32" in lines[3]["reason"]
    store = LabelStore(out)
    assert len(store) == 22
    assert store.quarantined() == caught.value.failures
    with pytest.raises(PartialFailure):  # it stays so until something is done
        job(root).run(out, resume=True)
    write_photos(root)
    job(root, retry_quarantined=True).run(out, resume=True)
    assert not (out / "quarantine.jsonl").exists()
    assert len(LabelStore(out)) == 26


class Broken(TinyTeacher):
    """Good maps, except that the first row of a batch's first image goes wrong in some way."""

    def __init__(self, *args, fault, **kwargs):
        super().__init__(*args, **kwargs)
        self.fault = fault

    def predict_network(self, pixels):
        values = super().predict_network(pixels)
        values[0] = self.fault(values[0])
        return values


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (lambda values: values / 0, "are not finite"),
        (lambda values: values * 0 + 3, "constant, 3"),
        (
            lambda values: values.clamp(min=values.quantile(0.995)) - values.quantile(0.995),
            r"99\.\d% .* zero",
        ),
    ],
)
def test_degenerate_maps_are_set_aside(photos, tmp_path, fault, reason):
    broken = job(photos, strategy=plain, load=partial(Broken, fault=fault), max_quarantined=1.0)
    with pytest.raises(PartialFailure, match=reason):
        broken.run(tmp_path / "store")
    store = LabelStore(tmp_path / "store")
    assert len(store) + len(store.quarantined()) == 26
    assert len(store) > 5
    assert store.verify() == len(store)


def test_an_error_in_a_thread_is_not_swallowed(photos, tmp_path):
    class Exploding(Plain):
        def ask(self, views):
            raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        job(photos, strategy=lambda teachers: Exploding(*teachers)).run(tmp_path / "store")


@pytest.mark.parametrize(
    "field",
    [
        *({name: 0} for name in ("shard_size", "batch_size", "workers", "threads", "min_side")),
        {"max_aspect": 0.5},
        {"max_quarantined": 1.5},
        {"max_zeros": -0.1},
        {"dtype": "float16"},
    ],
)
def test_fields_are_checked(photos, field):
    with pytest.raises(ValueError, match=next(iter(field))):
        job(photos, **field)


def test_a_second_job_is_refused(photos, tmp_path):
    from distill.job import exclusive

    with exclusive(tmp_path), pytest.raises(ValueError, match="another process is already writing"):
        job(photos).run(tmp_path)
    assert os.listdir(tmp_path) == [".lock"]  # noqa: PTH208
