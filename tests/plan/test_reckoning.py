"""Plans of training and label jobs: counts, memory, time and words."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from tiny_models import save_depth_anything
from tiny_teacher import write_photos
from training import job as tiny_job

from distill.cli import main
from distill.datasets.image_folder import ImageFolder
from distill.plan import hardware, reckoning
from distill.plan.question import Question
from distill.plan.reckoning import reckon
from distill.plan.training import _events
from distill.worlds.job import RenderJob
from pseudo_labels.generate import LabelJob
from pseudo_labels.strategies.tta import flip
from recipes import demo, labels, student

H200 = Question(hardware="h200")


def test_a_students_image_takes_what_the_measured_point_says():
    made = reckon(student.vits(Path("DATA")), H200)
    point = hardware.H200.points["training"][0]
    assert made.load.flops == pytest.approx(point.flops, rel=1e-3)
    assert made.images_per_s == pytest.approx(point.images_per_s, rel=1e-3)
    assert made.load.updates == 480_000
    assert made.load.held < 0.9 * 141e9


def test_devices_share_the_work_and_gradients_travel():
    job = demo.student(Path("DATA"))
    one, four = reckon(job, H200), reckon(job, replace(H200, gpus=4))
    assert four.seconds == pytest.approx(one.seconds / 4, rel=0.05)
    assert one.load.sent == 0
    weights = four.load.memory["weights"]
    assert four.load.sent == pytest.approx(2 * 3 / 4 * weights)
    assert four.load.memory["exchange buckets"] == weights
    assert four.load.memory["activations"] < 0.5 * one.load.memory["activations"]
    with pytest.raises(ValueError, match="batch_size=16 is not a multiple of accumulate=1 times 3"):
        reckon(job, replace(H200, gpus=3))


def test_memory_names_every_part():
    job = demo.teacher(Path("DATA"))
    full = reckon(job, H200).load
    memory = full.memory
    assert memory["gradients"] == memory["weights"]
    assert 1 < memory["optimizer"] / memory["weights"] < 2  # Muon keeps one, AdamW two
    assert memory["moving average"] == memory["weights"] + memory["frozen weights"]
    lean = reckon(replace(job, ema=None, activation_checkpointing=True), H200).load
    assert "moving average" not in lean.memory
    assert lean.memory["activations"] < 0.8 * memory["activations"]
    assert lean.flops > 1.1 * full.flops


def test_a_batch_is_divided_until_it_fits(monkeypatch: pytest.MonkeyPatch):
    small = replace(hardware.H200, memory=60e6)
    monkeypatch.setattr(hardware, "DEVICES", (small,))
    made = reckon(demo.teacher(Path("DATA")), H200)
    assert made.load.accumulate in (2, 4, 8)
    assert made.load.held <= 0.9 * 60e6
    assert f"with accumulate={made.load.accumulate}" in made.text
    monkeypatch.setattr(hardware, "DEVICES", (replace(small, memory=20e6),))
    with pytest.raises(ValueError, match="activation_checkpointing=true"):
        reckon(demo.teacher(Path("DATA")), H200)


def test_validations_and_checkpoints_of_one_step_are_one_event():
    job = replace(demo.teacher(Path("DATA")), steps=100, validate_every=30, checkpoint_every=20)
    assert _events(job) == 3 + 5 - 1  # 60; 100 is a multiple of 20
    assert _events(replace(job, steps=101)) == 3 + 5 - 1 + 1


def test_labels_are_counted_by_the_forward_passes_of_the_strategy():
    asked = replace(H200, images=1000, size=(56, 56))
    plain = replace(labels.plain(Path("DATA"), teacher="tiny"), dtype="bfloat16")
    once, twice = reckon(plain, asked), reckon(replace(plain, strategy=flip), asked)
    assert twice.load.flops == 2 * once.load.flops
    assert twice.written > once.written > 1000 * 1024  # a plane of confidence more
    assert once.load.total == 1000 * once.load.flops
    assert once.load.updates == 125


def test_label_jobs_read_their_data(tmp_path: Path):
    images = partial(ImageFolder, write_photos(tmp_path / "photos", 6))
    teacher = save_depth_anything(tmp_path / "teacher")
    job = LabelJob(images=images, teacher=teacher, dtype="bfloat16")
    load = reckon(job, replace(H200, reads_data=True)).load
    assert load.images == 6
    assert load.size == "112x112 and 2 other sizes"
    sizes = [path.stat().st_size for path in (tmp_path / "photos").rglob("*") if path.is_file()]
    assert load.image_bytes == pytest.approx(sum(sizes) / len(sizes))


@pytest.mark.parametrize(
    ("job", "says"),
    [
        (labels.plain(Path("DATA"), teacher="tiny"), "how many images.*--images"),
        (RenderJob(), "RenderJob trains and labels nothing"),
        (tiny_job(), "Student does not say for which size.*--data"),
        (replace(demo.student(Path("DATA")), precision="fp32"), "nobody has measured fp32"),
    ],
)
def test_what_cannot_be_planned_says_what_to_give(job: object, says: str):
    with pytest.raises(ValueError, match=says):
        reckon(job, H200)


@pytest.mark.parametrize(
    ("number", "text"),
    [(0.0, "0"), (0.123, "0.12"), (1234.0, "1 200"), (5.96e5, "600 000"), (9.96, "10")],
)
def test_two_digits(number: float, text: str):
    assert reckoning.digits(number) == text


def test_units():
    assert reckoning.scaled(3.8448e20, "FLOP") == "380 EFLOP"
    assert reckoning.scaled(999.9, "B") == "1 kB"
    assert reckoning.duration(3.09 * 24 * 3600) == "3.1 days"
    assert reckoning.duration(60.0) == "60 seconds"


def test_the_command_line(capsys: pytest.CaptureFixture[str]):
    words = ["plan", "recipes.demo:student", "--hardware", "h200", "--gpus", "2", "--price", "3"]
    assert main(words) == 0
    text = capsys.readouterr().out
    assert "9 600 images at 56x56, 600 updates of 16" in text
    assert "USD at 3 USD a device-hour" in text
    assert main([*words, "--json"]) == 0
    assert '"device_hours"' in capsys.readouterr().out
    assert main(words[:2]) == 2
    assert "give --hardware NAME" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([*words, "--size", "640"])
