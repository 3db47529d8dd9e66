"""DA-2K: annotations as they are published, a photograph that lies on its side, damaged entries."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from contracts import check_dataset
from PIL import Image
from scenes import Scene, pinhole, room

from distill.datasets import images
from distill.datasets.da2k import Da2k, Pair
from distill.evaluation.pairs import PairDataset, score_pairs
from distill.types import Prediction, Space

H, W = 24, 40
SCENE = room(H, W, pinhole(H, W))
INDOOR, AERIAL = "images/indoor/room_01.png", "images/aerial/a/city.png"
BALL, WALL = (16, 13), (2, 35)  # the ball stands in front
PAIRS = {
    INDOOR: [
        {"point1": [*BALL], "point2": [*WALL], "closer_point": "point1"},
        {"point1": [*WALL], "point2": [*BALL], "closer_point": "point2"},
    ],
    AERIAL: [{"point1": [0, 39], "point2": [23, 0], "closer_point": "point1"}],
}


def write_image(path: Path, truth: Scene, orientation: int = 1) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(truth.pixels)
    exif = picture.getexif()
    exif[0x0112] = orientation
    picture.save(path, exif=exif)


def write(root: Path, pairs: object = PAIRS) -> None:
    for image in (INDOOR, AERIAL):
        write_image(root / image, SCENE)
    (root / "annotations.json").write_text(json.dumps(pairs))


@pytest.mark.parametrize("folder", [".", "DA-2K"])
def test_the_contract(folder, tmp_path):
    write(tmp_path / folder)
    keys = {f"da2k/{image}": SCENE for image in PAIRS}
    check_dataset(lambda: Da2k(tmp_path), keys, space=None, image_tolerance=0.003)


def test_pairs_are_row_and_column_and_the_closer_one_is_the_one_it_says(tmp_path):
    write(tmp_path)
    dataset = Da2k(tmp_path, name="points")
    assert isinstance(dataset, PairDataset)
    assert [dataset.key(i) for i in range(2)] == [f"points/{AERIAL}", f"points/{INDOOR}"]
    assert [dataset.scene(i) for i in range(2)] == ["aerial", "indoor"]
    assert dataset.pairs(0) == (Pair(closer=(0, 39), farther=(23, 0)),)
    assert dataset.pairs(1) == (Pair(BALL, WALL), Pair(BALL, WALL))
    assert dataset[1].target is None
    truth = Prediction(values=SCENE.depth.float(), space=Space.METRIC_DEPTH)
    assert score_pairs(truth, dataset.pairs(1), "indoor")["accuracy"] == 1
    turned = Prediction(values=-SCENE.depth.float(), space=Space.METRIC_DEPTH)
    assert score_pairs(turned, dataset.pairs(1), "indoor")["accuracy"] == 0


def test_points_count_in_the_upright_image_as_opencv_opens_it(tmp_path):
    """Stored as 24 x 40 and turned a quarter: a point in row 39 exists only in the upright one."""
    path = "images/outdoor/tower.jpg"
    write_image(tmp_path / path, SCENE, orientation=6)
    upright = [{"point1": [39, 23], "point2": [0, 0], "closer_point": "point2"}]
    (tmp_path / "annotations.json").write_text(json.dumps({path: upright}))
    image = Da2k(tmp_path)[0].image
    theirs = cv2.imread(str(tmp_path / path))
    assert theirs is not None
    assert image.shape == (3, 40, 24)
    ours = (image * 255).round().byte().permute(1, 2, 0).flip(2).numpy()
    assert np.abs(ours.astype(int) - theirs).max() <= 3  # two JPEG decoders
    lying = [{"point1": [23, 39], "point2": [0, 0], "closer_point": "point1"}]
    (tmp_path / "annotations.json").write_text(json.dumps({path: lying}))
    with pytest.raises(ValueError, match="pair 0 has a point at row 23, column 39 of 40 x 24"):
        _ = Da2k(tmp_path)[0]


@pytest.mark.parametrize("point", [[24, 0], [0, 40], [35, 2]])
def test_a_point_outside_the_image_is_named(point, tmp_path):
    entry = {"point1": [0, 0], "point2": point, "closer_point": "point1"}
    write(tmp_path, {INDOOR: [*PAIRS[INDOOR], entry]})
    with pytest.raises(ValueError, match=r"da2k/images/indoor/room_01\.png: pair 2 has a point at"):
        _ = Da2k(tmp_path)[0]


@pytest.mark.parametrize(
    "change",
    [
        {"closer_point": "point3"},
        {"closer_point": None},
        {"point1": [1]},
        {"point2": [1, 2, 3]},
        {"point1": [-1, 2]},
        {"point1": [1.5, 2]},
        {"point1": [True, 2]},
        {"point2": "12"},
        {"point2": None},
    ],
    ids=str,
)
def test_a_malformed_pair_is_named(change, tmp_path):
    first, second = PAIRS[INDOOR]
    write(tmp_path, {INDOOR: [first, {**second, **change}]})
    words = r"annotations\.json: images/indoor/room_01\.png, pair 1: .* has not point1 and point2"
    with pytest.raises(ValueError, match=words):
        Da2k(tmp_path)


@pytest.mark.parametrize(
    ("listing", "words"),
    [
        ([], "no images with pairs in it; get DA-2K.zip"),
        ({}, "no images with pairs in it"),
        ({"room.png": []}, "'room.png' is no images/<scene>/<file>"),
        ({"images/../../b.png": []}, "is no images/<scene>/<file>"),
        ({"photos/indoor/b.png": []}, "is no images/<scene>/<file>"),
        ({INDOOR: {}}, "images/indoor/room_01.png: {} is no list of pairs"),
        ({INDOOR: ["closer"]}, "pair 0: 'closer' has not point1 and point2"),
    ],
)
def test_a_malformed_listing_is_named(listing, words, tmp_path):
    write(tmp_path, listing)
    with pytest.raises(ValueError, match=r"annotations\.json: ") as caught:
        Da2k(tmp_path)
    assert words in str(caught.value)


def test_a_damaged_listing_is_named(tmp_path):
    write(tmp_path)
    (tmp_path / "annotations.json").write_text('{"images/')
    with pytest.raises(ValueError, match=r"annotations\.json: damaged or no JSON"):
        Da2k(tmp_path)


def test_missing_images_are_counted(tmp_path):
    write(tmp_path)
    (tmp_path / INDOOR).unlink()
    with pytest.raises(FileNotFoundError, match=r"1 of 2 images .* first images/indoor/room_01"):
        Da2k(tmp_path)


def test_an_empty_or_missing_folder(tmp_path):
    for root in (tmp_path, tmp_path / "none"):
        with pytest.raises(FileNotFoundError, match=rf"no annotations.json in {root}; get DA-2K"):
            Da2k(root)


def test_an_image_without_pairs_is_read(tmp_path):
    write(tmp_path, {INDOOR: []})
    assert Da2k(tmp_path).pairs(0) == ()


def test_a_mirrored_image_is_seen(tmp_path, monkeypatch):
    write(tmp_path)
    read_image = images.read_image
    monkeypatch.setattr(images, "read_image", lambda path: read_image(path).flip(2))
    with pytest.raises(AssertionError):
        check_dataset(lambda: Da2k(tmp_path), {f"da2k/{i}": SCENE for i in PAIRS}, space=None)
