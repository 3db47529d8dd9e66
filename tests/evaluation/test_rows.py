"""What a model is shown and measured against, from data sets in memory: pre-crops and pairs."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from test_evaluate import Brightness, Loaded
from test_pairs import Points

from distill.evaluation import evaluate as evaluation
from distill.evaluation import published
from distill.evaluation.benchmarks import Benchmark
from distill.evaluation.evaluate import evaluate, summarise
from distill.evaluation.house import boundaries
from distill.evaluation.protocols import PreCrop, Published
from distill.evaluation.rows import digest
from distill.types import Sample, Space

KB = PreCrop(name="kb", height=8, width=10)
SIZE = (12, 17)


class Ramps:
    """Depth rises to the right and downwards; the image is 1/depth."""

    name = "ramps"

    def __init__(self, length: int = 3) -> None:
        self._length = length

    def __len__(self) -> int:
        return self._length

    def key(self, index: int) -> str:
        return f"{self.name}/{index}"

    def __getitem__(self, index: int) -> Sample:
        y, x = torch.meshgrid(*(torch.arange(float(side)) for side in SIZE), indexing="ij")
        depth = 1.5 + (x + (index + 1) * y) / 8
        return Sample(
            key=self.key(index),
            image=(1 / depth).expand(3, *SIZE).contiguous(),
            target=depth,
            valid=torch.ones(SIZE, dtype=torch.bool),
            space=Space.METRIC_DEPTH,
        )


class Photographs(Ramps):
    """The same pictures, each with two pairs of points."""

    name = "photographs"

    def __getitem__(self, index: int) -> Sample:
        return dataclasses.replace(super().__getitem__(index), target=None, valid=None, space=None)

    def pairs(self, index: int) -> tuple[Points, ...]:
        wrong = (Points((5, 9), (5, 2)),) if index == 2 else ()
        return (Points((0, 0), (3, 0)), Points((0, 0), (0, 3)), *wrong)

    def scene(self, index: int) -> str:
        return ("indoor", "aerial", "aerial")[index]


def benchmark(protocol, dataset=Ramps) -> Benchmark:
    return Benchmark(name="test", open=lambda _: dataset(), protocol=protocol)


IN_DISPARITY = dataclasses.replace(
    published.KITTI_DISPARITY, pre_crop=KB, crop=None, expected_images=3
)


def test_a_pre_crop_is_made_before_the_model_sees_the_picture():
    """The model sees the bottom rows and the middle columns, and is measured on those."""
    predictor = Brightness()
    result = evaluate(predictor, benchmark(IN_DISPARITY), Ramps())
    first = round(255 / (1.5 + (3 + 1 * 4) / 8))  # row 12 - 8, column (17 - 10) // 2
    assert predictor.seen[0].size == (10, 8)
    assert predictor.seen[0].getpixel((0, 0)) == (first, first, first)
    assert [row["n_valid"] for row in result.rows] == [80] * 3
    assert result.means["abs_rel"] < 0.02
    whole = evaluate(Brightness(), benchmark(dataclasses.replace(IN_DISPARITY, pre_crop=None)),
                     Ramps())  # fmt: skip
    assert [row["sha256"] for row in whole.rows] == [row["sha256"] for row in result.rows]
    assert whole.rows[0]["sha256"] == digest(Ramps(), 0)


def test_an_image_too_small_to_be_cut_is_named():
    large = dataclasses.replace(IN_DISPARITY, pre_crop=published.KITTI_BENCHMARK)
    with pytest.raises(ValueError, match=r"ramps/0: image of 17 x 12 pixels, .* cuts 1216 x 352"):
        evaluate(Brightness(), benchmark(large), Ramps())


def test_pairs_of_points_through_the_job(tmp_path: Path, monkeypatch):
    pairs = benchmark(published.DA2K_PAIRS, Photographs)
    monkeypatch.setattr(evaluation, "load_predictor", lambda *_, **__: Loaded())
    monkeypatch.setattr(evaluation.benchmarks, "BENCHMARKS", (pairs,))
    job = evaluation.EvaluateJob(model="m", benchmark="test", data=tmp_path)
    job.run(tmp_path / "out")
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    rows = [json.loads(line) for line in (tmp_path / "out" / "rows.jsonl").open()]
    assert [(row["scene"], row["correct"], row["pairs"]) for row in rows] == [
        ("indoor", 2, 2), ("aerial", 2, 2), ("aerial", 2, 3),
    ]  # fmt: skip
    assert summary["means"] == {
        "accuracy": 6 / 7,
        "accuracy_mean_of_scenes": 0.9,
        "accuracy_aerial": 0.8,
        "accuracy_indoor": 1.0,
    }
    assert (summary["n"], summary["images"], summary["pairs"]) == (3, 3, 7)
    small = Published(**summary["published"][0])
    assert (small.model, small.metric, small.value) == ("Depth Anything V2 S", "accuracy", 0.953)
    job.run(tmp_path / "out", resume=True)  # the same data: kept
    monkeypatch.setattr(Photographs, "pairs", lambda *_: (Points((1, 1), (2, 2)),))
    with pytest.raises(ValueError, match=r"another run \(data_sha256"):
        job.run(tmp_path / "out", resume=True)


def test_a_data_set_of_something_else_is_refused(monkeypatch):
    with pytest.raises(ValueError, match=r"measures pairs, and ramps is not a data set of that"):
        evaluate(Brightness(), benchmark(published.DA2K_PAIRS), Ramps())
    with pytest.raises(ValueError, match=r"measures depth, and photographs is not"):
        evaluate(Brightness(), benchmark(IN_DISPARITY), Photographs())
    monkeypatch.setattr(Photographs, "pairs", lambda *_: ())
    with pytest.raises(ValueError, match="none of 3 images has a pair of points"):
        evaluate(Brightness(), benchmark(published.DA2K_PAIRS), Photographs())


def test_boundaries_are_summed_up_under_their_names():
    result = evaluate(Brightness(), benchmark(boundaries(IN_DISPARITY)), Ramps())
    assert set(result.means) == {"bf1", "bf1_dirfix"}
    scores = [row["bf1_dirfix"] for row in result.rows]
    assert result.means["bf1_dirfix"] == pytest.approx(sum(scores) / 3)
    assert 0 < max(scores) < 1
    assert summarise(result)["protocol"]["id"] == "bf1.kitti652.garg.disp.v1"


def test_published_numbers_stand_beside_the_result(tmp_path: Path, caplog):
    result = evaluate(Brightness(), benchmark(IN_DISPARITY), Ramps())
    with caplog.at_level("INFO"):
        evaluation.write(tmp_path, result.rows, summarise(result))
    assert "published: Depth Anything V2 S abs_rel 0.078 (within 5%" in caplog.text
    other = evaluate(Brightness(), benchmark(IN_DISPARITY), Ramps(2))
    assert summarise(other)["published"] == []
