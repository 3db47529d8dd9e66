"""Before step 1: each thing that may be wrong with a recipe's data is found, and all at once."""

import json
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from depth_pictures import lidar, picture, stored, street, write_pairs
from PIL import Image
from tiny_teacher import TinyTeacher
from training import Planes

from distill import cli
from distill.datasets.image_folder import ImageFolder
from distill.datasets.opening import open_all
from distill.datasets.rgb_depth_folder import RgbDepthFolder
from distill.evaluation.compare import CompareJob
from distill.evaluation.evaluate import EvaluateJob
from distill.evaluation.several import SeveralJob
from distill.evaluation.validation import HeldOut
from distill.inspection.check import Checked, check
from distill.loading import Batches, Mixture, batches
from distill.losses.affine_invariant import affine_invariant
from distill.models.depth_anything import depth_anything
from distill.objectives.supervised import Supervised
from distill.objectives.terms import Term
from distill.optim import polynomial
from distill.train import TrainJob
from distill.transforms import resize_and_crop
from distill.types import Dataset, Sample, Space
from pseudo_labels.generate import LabelJob


def draw(*datasets: Any, cropped: bool = True, **where: Any) -> Batches:
    """`datasets` are openers."""
    mixture = Mixture([(dataset, None) for dataset in open_all(datasets)])
    transform = partial(resize_and_crop, size=28) if cropped else None
    return batches(mixture, transform=transform, **where)


def training(*datasets: Any, max_depth: float | None = None, **fields: Any) -> TrainJob:
    student = partial(depth_anything, "tiny", max_depth=max_depth)
    made = TrainJob(
        objective=partial(Supervised, student, [Term("affine", 1.0, affine_invariant)]),
        batches=partial(draw, *datasets),
        batch_size=4,
        steps=10,
        lr=partial(polynomial, rates={"encoder": 1e-4, "head": 1e-4}),
    )
    return replace(made, **fields)


@dataclass(frozen=True)
class Changed:
    """Another data set whose samples are changed."""

    dataset: Dataset
    changes: dict[str, Any]

    @property
    def name(self) -> str:
        return self.dataset.name

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Sample:
        return replace(self.dataset[index], **self.changes)

    def key(self, index: int) -> str:
        return self.dataset.key(index)


def changed(**changes: Any) -> Any:
    return partial(Changed, Planes(size=32), changes)


def lines(checked: Checked) -> tuple[str, str]:
    return "\n".join(checked.warnings), "\n".join(checked.errors)


def test_images_that_a_crop_enlarges_are_told():
    checked = check(training(partial(Planes, size=16)), samples=5)
    warnings, errors = lines(checked)
    assert errors == ""
    assert "of 5 samples read, enlarged: 5 (take a smaller crop, or larger labels)" in warnings
    assert "planes/000.png: 16 x 16 for 28 x 28" in warnings
    assert lines(check(training(partial(Planes, size=19)), samples=5)) == ("", "")


def test_good_data_is_called_good():
    checked = check(training(partial(Planes, size=32)), samples=5)
    assert lines(checked) == ("", "")
    assert checked.facts == [
        "training: planes, 24 samples by Planes",
        "training: planes, of 5 samples read: all good, 28 x 28",
    ]
    assert checked.text.endswith("nothing stops a run")


def test_all_that_is_missing_is_told_at_once(tmp_path: Path):
    folders = [partial(RgbDepthFolder, tmp_path / name, name=name) for name in ("a", "b")]
    held_out = HeldOut(open=partial(RgbDepthFolder, tmp_path / "c", name="c"))
    _, errors = lines(check(training(*folders, validation=held_out)))
    assert [f"{name}/rgb: no such folder" in errors for name in "abc"] == [True] * 3


def test_an_empty_set_is_an_error():
    _, errors = lines(check(training(partial(Planes, length=0))))
    assert "training: mixture: planes has no samples" in errors


def test_unreadable_samples_count_against_the_budget():
    data = partial(Planes, size=32, unreadable=(3, 23))
    _, errors = lines(check(training(data)))
    assert "of 24 samples read, unreadable: 2 (allowed: 0.10%)" in errors
    assert "planes/003.png: damaged" in errors
    assert "planes/023.png: damaged" in errors
    warnings, errors = lines(check(training(data, max_quarantined=0.1)))
    assert errors == ""
    assert "planes/023.png: damaged" in warnings
    assert lines(check(training(data), samples=2))[1].count("damaged") == 1  # the last one is read


def test_targets_that_the_student_cannot_use():
    affine = changed(space=Space.AFFINE_DISPARITY)
    assert lines(check(training(affine))) == ("", "")
    _, errors = lines(check(training(affine, max_depth=20.0)))
    assert "no conversion from affine-invariant disparity to metric depth" in errors
    assert "of 24 samples read, of no use: 24" in errors
    assert "... and 4 more" in errors
    _, errors = lines(check(training(changed(target=None, valid=None, space=None))))
    assert "planes/000.png: no depth to learn from" in errors


def test_samples_without_enough_truth():
    nothing = {"target": torch.full((32, 32), torch.nan), "valid": torch.zeros(32, 32) > 0}
    _, errors = lines(check(training(changed(**nothing))))
    assert "without enough valid pixels: 24" in errors
    one_in_five = check(training(partial(Planes, size=32)))
    assert lines(one_in_five) == ("", "")


def test_images_that_are_not_finite():
    _, errors = lines(check(training(partial(Planes, size=32, broken=0))))
    assert "planes/000.png: its image has numbers that are not finite" in errors


def test_samples_of_several_sizes():
    sizes = [partial(Planes, size=32), partial(Planes, size=28)]
    job = training(*sizes)
    assert lines(check(job)) == ("", "")
    raw = replace(job, batches=partial(draw, *sizes, cropped=False))
    assert "training: samples of several sizes, 32 x 32, 28 x 28" in lines(check(raw))[1]


def test_held_out_images_that_are_trained_on():
    held_out = HeldOut(open=partial(Planes, size=32, length=7))
    warnings, errors = lines(check(training(partial(Planes, size=32), validation=held_out)))
    assert warnings == "validation: 7 of 7 images of planes are trained on, too"
    assert errors == ""


def test_counts_are_held_against_published_ones(monkeypatch: pytest.MonkeyPatch):
    from distill.datasets import published

    row = published.Published("Planes", "all", 25, "a test")
    monkeypatch.setattr(published, "COUNTS", (row,))
    job = training(partial(Planes, size=32))
    assert lines(check(job)) == ("training: planes has 24 samples; published: all 25", "")
    assert lines(check(job, complete=True)) == (
        "",
        "training: planes has 24 samples; published: all 25",
    )
    monkeypatch.setattr(published, "COUNTS", (replace(row, images=24),))
    checked = check(job, complete=True)
    assert lines(checked) == ("", "")
    assert "as published: all, 24 (a test)" in checked.facts[0]


def test_images_that_a_label_job_would_put_aside(tmp_path: Path):
    for name, size in (("good", (60, 80)), ("small", (20, 50)), ("long", (40, 400))):
        Image.fromarray(picture(*size)).save(tmp_path / f"{name}.png")
    job = LabelJob(images=partial(ImageFolder, tmp_path), teacher="t", load=TinyTeacher)
    warnings, errors = lines(check(job))
    assert "photos/small.png: 20 x 50 pixels, less than 32" in errors
    assert "photos/long.png: 40 x 400 pixels, longer than 4 to 1" in errors
    assert "good.png" not in warnings + errors
    (tmp_path / "small.png").unlink()
    (tmp_path / "long.png").unlink()
    assert lines(check(job)) == ("", "")


def test_benchmarks(tmp_path: Path):
    write_pairs(tmp_path / "kitti", [stored(lidar(street()), 256)])
    alone = EvaluateJob(model="m", benchmark="kitti", data=tmp_path / "kitti")
    warnings, errors = lines(check(alone))
    assert warnings == (
        "kitti: 1 images, the protocol's list has 652; scores are reported as of other images"
    )
    assert errors == ""
    compared = CompareJob(models={}, benchmark="rgb-depth", data=tmp_path / "kitti")
    assert lines(check(compared)) == ("", "")
    several = SeveralJob(model="m", data={"kitti": tmp_path / "kitti", "nyu": tmp_path / "nyu"})
    assert "nyu: benchmark nyu: no folder" in lines(check(several))[1]


def test_a_job_without_data_and_no_samples():
    with pytest.raises(ValueError, match="object reads no data sets"):
        check(object())
    with pytest.raises(ValueError, match="samples=0"):
        check(training(Planes), samples=0)


RECIPE = '''
from functools import partial
from pathlib import Path
from distill.datasets.rgb_depth_folder import RgbDepthFolder
from test_check import training

def pairs(data: Path):
    """Pairs."""
    return training(partial(RgbDepthFolder, data, name="pairs"))
'''


def test_exit_codes_and_json(tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(Path(__file__).parent)
    (tmp_path / "own.py").write_text(RECIPE)
    write_pairs(tmp_path / "good", [stored(street(seed=n), 256) for n in range(3)])
    arguments = ["data", "check", f"{tmp_path / 'own.py'}:pairs", "--data"]
    assert cli.main([*arguments, str(tmp_path / "good")]) == 0
    assert "nothing stops a run" in capsys.readouterr().out
    assert cli.main([*arguments, str(tmp_path / "good"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["warnings"], found["errors"]) == ([], [])
    (tmp_path / "good/depth/0001.png").write_bytes(b"")
    assert cli.main([*arguments, str(tmp_path / "good")]) == 2
    printed = capsys.readouterr()
    assert "depth/0001.png: damaged" in printed.out
    assert "1 errors, as listed above" in printed.err
    assert cli.main([*arguments, str(tmp_path / "bad")]) == 2
    assert "bad/rgb: no such folder" in capsys.readouterr().out
