"""Fine-tuning on a folder of one's own: what is held out, where metres begin, before and after."""

import base64
import io
import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import torch
from PIL import Image
from scenes import pinhole, room
from tiny_encoders import save_timm

from distill import recipe
from distill.evaluation.validation import HeldOut
from distill.models.depth_anything import depth_anything
from distill.models.dpt import load_student, student
from distill.models.metres import in_metres
from distill.report.page import write_report
from distill.train import TrainJob
from distill.types import Sample, Space
from recipes import finetune

H, W = 60, 84


def depth_of(number: int) -> np.ndarray:
    """Of a ball before a wall; the wall is farther in each picture."""
    return room(H, W, pinhole(H, W)).depth.nan_to_num(nan=6.0).numpy() + 0.2 * number


def write_folder(root: Path, store: Callable[[np.ndarray], np.ndarray], count: int = 8) -> Path:
    """Pictures whose brightness is nearness, so that there is something to learn."""
    for number in range(count):
        depth = depth_of(number)
        near = np.clip(600 / depth, 0, 255).astype(np.uint8)
        for part in ("rgb", "depth"):
            (root / part / f"film.{number // 2}").mkdir(parents=True, exist_ok=True)
        name = f"film.{number // 2}/{number}.png"
        Image.fromarray(np.stack([near, 255 - near, near], -1)).save(root / "rgb" / name)
        (root / "depth" / name).write_bytes(imagecodecs.png_encode(store(depth)))
    return root


def millimetres(depth: np.ndarray) -> np.ndarray:
    return np.round(depth * 1000).astype(np.uint16)


def grey(depth: np.ndarray) -> np.ndarray:
    near = 1 / depth
    return np.round(1 + 254 * (near - near.min()) / np.ptp(near)).astype(np.uint8)


def run(name: str, data: Path, out: Path, **settings: Any) -> list[dict[str, float]]:
    """As the command line does; the rows of the validations."""
    text = {key: str(value) for key, value in settings.items()}
    small = {"workers": "0", "batch_size": "4", "steps": "10", "warmup": "2", "threads": "1"}
    job, _ = recipe.build(recipe.load(f"recipes.finetune:{name}"), data=data, settings=small | text)
    job.run(out)
    rows = [json.loads(line) for line in (out / "metrics.jsonl").open()]
    return [row for row in rows if any(key.startswith("val/") for key in row)]


@pytest.fixture
def start(tmp_path: Path) -> Path:
    """Of random weights, but what is near is more, as it is of a released network.

    The reverse is a saddle of the affine-invariant loss, which few steps do not leave.
    """
    model = depth_anything("tiny").eval()
    near = torch.from_numpy(600 / depth_of(0) / 255).float()[:56, :80].clip(0, 1)
    found = model(torch.stack([near, 1 - near, near])[None])[0]
    weight = model.network.head.conv3.weight
    (along,) = torch.autograd.grad((found * (near - near.mean())).mean(), weight)
    weight.data = along * (weight.norm() / along.norm())
    model.save_pretrained(tmp_path / "start")
    return tmp_path / "start"


def test_metres_from_a_relative_start(tmp_path: Path, start: Path) -> None:
    """Two fitted numbers first; then it learns, and the report shows both."""
    data = write_folder(tmp_path / "mine", millimetres)
    rates = {"encoder_rate": 3e-4, "head_rate": 3e-4, "steps": 30}
    given = {"start": start, "max_depth": 20, "units_per_metre": 1000, "held_out": 0.4}
    rows = run("metric", data, tmp_path / "out", **given, **rates)
    assert rows[0]["step"] == 0
    assert rows[0]["val/abs_rel"] < 0.5  # no network of random metres
    assert rows[-1]["val/abs_rel"] < rows[0]["val/abs_rel"]
    model = load_student(tmp_path / "out/model")
    assert model.space is Space.METRIC_DEPTH
    page = write_report(tmp_path / "out").read_text()
    assert "Before and after: out" in page
    for row in (rows[0], rows[-1]):
        assert f"{row['val/abs_rel']:.4f}" in page
    shown = re.findall(r'<img src="data:image/webp;base64,([^"]+)" alt="(\w+ ?\w*)"', page)
    names = [name for _, name in shown[:6]]
    assert names == ["image", "truth", "before", "after", "error before", "error after"]
    before, after = (np.asarray(Image.open(io.BytesIO(base64.b64decode(d)))) for d, _ in shown[2:4])
    assert before.shape == after.shape
    assert not np.array_equal(before, after)


@pytest.mark.parametrize("meaning", ["disparity", "depth"])
def test_relative_maps_of_eight_bits(meaning: str, tmp_path: Path, start: Path) -> None:
    store = grey if meaning == "disparity" else lambda depth: np.round(depth * 25).astype(np.uint8)
    data = write_folder(tmp_path / "mine", store)
    given = {"start": start, "meaning": meaning, "held_out": 0.4, "steps": 30}
    rows = run("relative", data, tmp_path / "out", encoder_rate=1e-3, head_rate=1e-3, **given)
    assert rows[-1]["val/affine"] < rows[0]["val/affine"]
    assert "val/gradient" in rows[0]
    assert load_student(tmp_path / "out/model").space is Space.AFFINE_DISPARITY


def test_what_is_held_out_is_not_learned_from_and_stays_so(tmp_path: Path) -> None:
    data = write_folder(tmp_path / "mine", millimetres)
    job = finetune.metric(data, start="unread", held_out=0.4)
    parts = job.validation.keywords["held_out"].__self__  # type: ignore[union-attr]  # a partial
    learned, apart = (
        {d.key(i) for i in range(len(d))} for d in (parts.learned(), parts.held_out())
    )
    assert len(learned) + len(apart) == 8
    assert not learned & apart
    write_folder(data, millimetres, count=12)
    more = {parts.held_out().key(i) for i in range(len(parts.held_out()))}
    assert apart <= more
    films = finetune.metric(data, start="unread", held_out=0.4, by_folder=True)
    parts = films.validation.keywords["held_out"].__self__  # type: ignore[union-attr]  # a partial
    folders = [{parts_.key(i).rpartition("/")[0] for i in range(len(parts_))}
               for parts_ in (parts.learned(), parts.held_out())]  # fmt: skip
    assert not folders[0] & folders[1]


@pytest.mark.parametrize("kind", ["depth_anything", "test_efficientnet"])
def test_a_fit_brings_metres_and_keeps_the_edges(kind: str, tmp_path: Path) -> None:
    if kind == "depth_anything":
        model: Any = depth_anything("tiny")
    else:
        model = student(save_timm(tmp_path / kind, kind), size=64, fusion=8)
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    relative = model(image)[0].detach()
    place = (relative - relative.mean()) / relative.std()
    bounded = kind == "depth_anything"  # whose logit is a line in disparity
    depth = 20 * torch.sigmoid(-0.5 * place - 1) if bounded else 8 - place
    sample = Sample(
        key="a/b", image=image[0], target=depth, valid=depth > 0, space=Space.METRIC_DEPTH
    )
    fitted = in_metres(model, [sample], max_depth=20)
    assert fitted.space is Space.METRIC_DEPTH
    torch.testing.assert_close(fitted(image)[0], depth, rtol=1e-3, atol=1e-3)
    fitted.save_pretrained(tmp_path / "model")
    again = load_student(tmp_path / "model")
    assert again.space is Space.METRIC_DEPTH
    torch.testing.assert_close(again(image), fitted(image))
    assert in_metres(again, [], max_depth=80) is again
    with pytest.raises(ValueError, match="in_metres: 0 measured pixels within 20 m"):
        in_metres(depth_anything("tiny"), [], max_depth=20)


def test_wrong_inputs_are_named(tmp_path: Path, start: Path) -> None:
    data = write_folder(tmp_path / "mine", millimetres)
    with pytest.raises(ValueError, match=r"held-out share is 1\.0; it must lie in"):
        run("metric", data, tmp_path / "a", start=start, held_out=1.0)
    with pytest.raises(ValueError, match=r"size=60, but .* takes multiples of 8"):
        run("metric", data, tmp_path / "b", start=start, size=60, held_out=0.4)
    with pytest.raises(ValueError, match="meaning='metres'; choose one of disparity, depth"):
        finetune.relative(data, meaning="metres")  # type: ignore[arg-type]  # on purpose
    depth_anything("tiny", max_depth=20.0).save_pretrained(tmp_path / "metric")
    with pytest.raises(ValueError, match="predicts metres; start from a relative model"):
        run("relative", data, tmp_path / "c", start=tmp_path / "metric", held_out=0.4)
    with pytest.raises(ValueError, match=r"max_depth=80, but .*metric predicts metres up to 20"):
        run("metric", data, tmp_path / "e", start=tmp_path / "metric", held_out=0.4, max_depth=80)
    with pytest.raises(FileNotFoundError, match="nowhere: no model with its processor"):
        run("metric", data, tmp_path / "d", start=tmp_path / "nowhere", held_out=0.4)


def test_sparse_truth_has_no_edges() -> None:
    names = [
        [term.name for term in finetune.metric(sparse=sparse).objective.args[1]]  # type: ignore[attr-defined]  # a partial
        for sparse in (True, False)
    ]
    assert names == [["silog"], ["silog", "gradient"]]


def test_tiny(tmp_path: Path) -> None:
    job = finetune.tiny(write_folder(tmp_path / "mine", grey))
    assert isinstance(job, TrainJob)
    job.run(tmp_path / "out")
    assert (tmp_path / "out/model/config.json").is_file()


def test_the_sparsest_truth_is_scored(tmp_path: Path) -> None:
    """A lidar's few pixels are learned from and measured."""

    def dots(depth: np.ndarray) -> np.ndarray:
        stored = millimetres(depth)
        keep = np.zeros_like(stored)
        keep[::6, ::5] = stored[::6, ::5]
        return keep

    data = write_folder(tmp_path / "mine", dots)
    parts = finetune._Parts(
        partial(finetune.RgbDepthFolder, data, name="mine", units_per_metre=1000), 0.4, False
    )
    model = depth_anything("tiny", max_depth=20.0).eval()
    scores = HeldOut(open=parts.held_out, size=56, protocol=finetune.METRIC)(model)
    assert 0 < scores["abs_rel"] < 5
