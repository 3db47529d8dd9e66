"""Any image that people have, at its own size; names that never collide; files that mean something.

The model is a random Depth Anything of a few thousand weights.
"""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_models import save_depth_anything

from distill.datasets.depth_maps import read_png16
from distill.job import PartialFailure
from distill.models.foreign import load_predictor
from distill.predict import (
    MAX_ASPECT,
    Input,
    _candidates,
    find_inputs,
    names,
    predict,
    predict_one,
)
from distill.types import Prediction, Space


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_depth_anything(tmp_path_factory.mktemp("model"))


def picture(width: int, height: int, mode: str = "RGB") -> Image.Image:
    """Something with structure, the same in every mode."""
    y, x = np.mgrid[0:height, 0:width]
    waves = 127 + 60 * np.sin(x / 5) + 60 * np.cos(y / 7)
    if mode == "I;16":
        return Image.fromarray((waves * 257).astype(np.uint16))
    return Image.fromarray(waves.astype(np.uint8)).convert(mode)


def run(model, inputs, out, **options) -> list[Path]:
    return list(predict(model, inputs, out, **options))


def test_every_kind_of_image_at_its_own_size(model, tmp_path):
    kinds = {
        "plain.jpg": picture(40, 30),
        "grey.png": picture(40, 30, "L"),
        "bits16.png": picture(40, 30, "I;16"),
        "alpha.png": picture(40, 30, "RGBA"),
        "palette.gif": picture(40, 30, "P"),
        "cmyk.jpg": picture(40, 30, "CMYK"),
        "pixel.png": picture(1, 1),
        "row.png": picture(5, 1),
        "column.png": picture(1, 5),
        "thin.png": picture(200, 3),
        "wide.png": picture(4000, 50),
        "tall.png": picture(50, 2000),
    }
    (tmp_path / "in").mkdir()
    for name, image in kinds.items():
        image.save(tmp_path / "in" / name)
    written = run(model, [tmp_path / "in"], tmp_path / "out", npy=True)
    assert {path.stem for path in written} == {Path(name).stem for name in kinds}
    for name, image in kinds.items():
        stem, size = tmp_path / "out" / Path(name).stem, (image.height, image.width)
        assert read_png16(Path(f"{stem}.png")).shape == size
        assert np.load(f"{stem}.npy").shape == size
        assert np.asarray(Image.open(f"{stem}.colour.png")).shape == (*size, 3)


def test_exif_rotation_is_applied(model, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    picture(40, 30).save(tmp_path / "turned.jpg", exif=exif)
    (written,) = run(model, [tmp_path / "turned.jpg"], tmp_path / "out")
    assert read_png16(written).shape == (40, 30)


def test_values_come_back_from_the_png_and_are_those_of_the_predictor(model, tmp_path):
    image = picture(50, 30)
    image.save(tmp_path / "a.png")
    (written,) = run(model, [tmp_path / "a.png"], tmp_path / "out", npy=True)
    record = json.loads((tmp_path / "out" / "a.json").read_text())
    low, high = record["minimum"], record["maximum"]
    stored = np.load(tmp_path / "out" / "a.npy")
    recovered = low + read_png16(written) / 65535 * (high - low)
    assert high > low
    assert np.abs(recovered - stored).max() <= (high - low) / 65535 * 0.51
    expected = load_predictor(model).predict([image])[0].values.numpy()
    assert np.array_equal(stored, expected)
    assert record["space"] == Space.AFFINE_DISPARITY.value
    assert record["larger_is_closer"] is True
    assert record["input"] == str(tmp_path / "a.png")
    assert len(record["model_sha256"]) == 64


def test_npy_only_on_request(model, tmp_path):
    picture(30, 30).save(tmp_path / "a.png")
    run(model, [tmp_path / "a.png"], tmp_path / "out")
    written = sorted(p.name for p in (tmp_path / "out").iterdir())
    assert written == ["a.colour.png", "a.json", "a.png"]


def test_a_corrupt_file_is_named_and_the_rest_is_written(model, tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    picture(30, 30).save(photos / "a.jpg")
    (photos / "b.jpg").write_bytes((photos / "a.jpg").read_bytes()[:400])
    (photos / "c.png").write_bytes(b"")
    picture(30, 30).save(photos / "d.jpg")
    with pytest.raises(PartialFailure) as caught:
        run(model, [photos], tmp_path / "out")
    assert {p.name.split(".")[0] for p in (tmp_path / "out").iterdir()} == {"a", "d"}
    assert sorted(caught.value.failures) == [str(photos / "b.jpg"), str(photos / "c.png")]


def test_a_folder_keeps_its_structure_and_its_own_output_is_not_input(model, tmp_path):
    (tmp_path / "in" / "deep").mkdir(parents=True)
    picture(30, 30).save(tmp_path / "in" / "a.jpg")
    picture(30, 30).save(tmp_path / "in" / "deep" / "a.jpg")
    out = tmp_path / "in" / "maps"
    first = run(model, [tmp_path / "in"], out)
    assert first == [out / "a.png", out / "deep" / "a.png"]
    assert run(model, [tmp_path / "in"], out) == first


class Constant:
    """Predicts one number everywhere and notes the size it was shown."""

    space = Space.METRIC_DEPTH

    def __init__(self, value: float) -> None:
        self.value = value

    def predict(self, images):
        self.size = images[0].size
        w, h = self.size
        return [Prediction(values=torch.full((h, w), self.value), space=self.space)]


def test_a_strip_is_squeezed_for_the_network_only():
    predictor = Constant(2.0)
    values = predict_one(predictor, picture(4000, 50)).values
    assert predictor.size == (MAX_ASPECT * 50, 50)
    assert values.shape == (50, 4000)
    predict_one(predictor, picture(160, 20))
    assert predictor.size == (160, 20)


def test_numbers_that_are_not_finite_are_an_error():
    with pytest.raises(ValueError, match="100 predicted pixels are not finite"):
        predict_one(Constant(torch.inf), picture(10, 10))


def item(path: str, relative: str | None = None) -> Input:
    return Input(path=Path(path), relative=relative or Path(path).name)


def named(*paths: str) -> dict[str, str]:
    found = [item(path) for path in paths]
    return {str(key.path): name for key, name in names(found, Path("/out")).items()}


def test_a_name_stays_short_where_it_is_alone():
    assert named("/a/x.jpg", "/a/y.jpg") == {"/a/x.jpg": "x", "/a/y.jpg": "y"}


def test_inputs_of_one_name_get_longer_names_in_any_order():
    paths = ("/a/x.jpg", "/a/x.png", "/b/x.png", "/b/X.png", "/a/x_jpg.bmp", "/a/y.jpg")
    paths += ("/c/b/x.png",)
    expected = named(*paths)
    assert len({name.casefold() for name in expected.values()}) == len(paths)
    assert expected["/a/y.jpg"] == "y"
    assert expected["/a/x.png"] == "x_png-a"
    for order in itertools.islice(itertools.permutations(paths), 0, None, 501):
        assert named(*order) == expected


def test_a_preview_does_not_replace_another_map():
    assert named("/a/x.jpg", "/a/x.colour.jpg") == {
        "/a/x.jpg": "x_jpg",
        "/a/x.colour.jpg": "x.colour_jpg",
    }


def test_output_never_replaces_an_input(model, tmp_path):
    picture(30, 20).save(tmp_path / "a.png")
    before = (tmp_path / "a.png").read_bytes()
    (written,) = run(model, [tmp_path / "a.png"], tmp_path)
    assert written == tmp_path / "a_png.png"
    assert (tmp_path / "a.png").read_bytes() == before
    with pytest.raises(ValueError, match="is also a folder to read"):
        run(model, [tmp_path], tmp_path)


def test_names_end_when_every_one_is_an_input(tmp_path):
    first = item(str(tmp_path / "x.png"))
    others = [
        item(str(tmp_path / f"{name}.png"), relative=f"elsewhere/{i}.png")
        for i, name in enumerate(_candidates(first)[1:])
    ]
    with pytest.raises(
        ValueError, match=r"every name for .*x\.png is an input's or .*another --out"
    ):
        names([first, *others], tmp_path)


def test_another_call_never_replaces_what_came_from_another_image(model, tmp_path):
    out, sources = tmp_path / "out", [tmp_path / name / "x.jpg" for name in ("a", "b", "c")]
    for size, source in enumerate(sources, 30):
        source.parent.mkdir()
        picture(size, 30).save(source)
    first = [run(model, [source], out)[0] for source in sources]
    assert [path.name for path in first] == ["x.png", "x_jpg.png", "x_jpg-c.png"]
    assert [read_png16(path).shape for path in first] == [(30, 30), (30, 31), (30, 32)]
    picture(40, 30).save(sources[1])
    again = [run(model, [source], out)[0] for source in reversed(sources)]
    assert again == first[::-1]
    assert [read_png16(path).shape for path in first] == [(30, 30), (30, 40), (30, 32)]
    assert len(list(out.iterdir())) == 3 * 3


@pytest.mark.parametrize(
    "there", [{"x.png": "a picture"}, {"x.json": "no json"}, {"x.json": "[1]"}, {"x.npy": "."}]
)
def test_files_of_unknown_origin_are_left_alone(model, tmp_path, there: dict[str, str]):
    picture(30, 30).save(tmp_path / "x.jpg")
    (tmp_path / "out").mkdir()
    for name, text in there.items():
        (tmp_path / "out" / name).write_text(text)
    (written,) = run(model, [tmp_path / "x.jpg"], tmp_path / "out", npy=True)
    assert written.name == "x_jpg.png"
    assert all((tmp_path / "out" / name).read_text() == text for name, text in there.items())


def test_an_image_given_twice_is_predicted_once(tmp_path):
    (tmp_path / "in" / "deep").mkdir(parents=True)
    picture(30, 30).save(tmp_path / "in" / "deep" / "a.jpg")
    inputs = [tmp_path / "in", tmp_path / "in" / "deep" / "a.jpg", tmp_path / "in" / "deep"]
    for order in itertools.permutations(inputs):
        (only,) = find_inputs(order, tmp_path / "out")
        assert only.relative == "deep/a.jpg"


def test_wrong_inputs_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.jpg: no such image or folder"):
        find_inputs([tmp_path / "nowhere.jpg"], tmp_path / "out")
    with pytest.raises(ValueError, match="no image in"):
        find_inputs([tmp_path], tmp_path / "out")
