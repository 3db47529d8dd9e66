"""Counts by part and scene, beside the published ones."""

import json
from pathlib import Path

import pytest
from depth_pictures import picture, room, stored, write_pairs
from PIL import Image

from distill import cli
from distill.datasets import published
from distill.inspection import count
from distill.inspection.count import Counted


@pytest.fixture
def scenes(tmp_path: Path) -> Path:
    for scene, number in (("Scene01", 3), ("Scene02", 1)):
        folder = tmp_path / f"vk/{scene}/clone/frames/rgb/Camera_0"
        folder.mkdir(parents=True)
        (tmp_path / f"vk/{scene}/clone/frames/depth/Camera_0").mkdir(parents=True)
        for n in range(number):
            (folder / f"rgb_{n:05d}.jpg").touch()  # nothing is read
    return tmp_path / "vk"


def test_a_known_set_by_scene(scenes: Path):
    (found,) = count.of_place(scenes)
    assert (found.part, found.images) == ("Virtual KITTI 2", 4)
    assert found.said.startswith("published: left camera 21260, both cameras 42520")
    assert found.scenes == {"Scene01 (published: 4470)": 3, "Scene02 (published: 2330)": 1}


def test_a_whole_set_is_said_to_be(scenes: Path, monkeypatch: pytest.MonkeyPatch):
    row = published.Published("VirtualKitti2", "all", 4, "a test")
    monkeypatch.setattr(published, "COUNTS", (row,))
    assert count.of_place(scenes)[0].said == "as published: all, 4 (a test)"


def test_photographs_and_pairs_by_folder(tmp_path: Path):
    for name in ("a/1.jpg", "a/2.jpg", "b/1.jpg"):
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture(9, 9)).save(tmp_path / "photos" / name)
    (found,) = count.of_place(tmp_path / "photos")
    assert (found.images, found.scenes) == (3, {"photos/a": 2, "photos/b": 1})
    maps = [stored(room(12, 16, seed=n), 1000) for n in range(3)]
    write_pairs(tmp_path / "p", maps, rgb="{scene}/rgb/{n}.jpg", depth="{scene}/depth/{n}.png")
    (found,) = count.of_place(tmp_path / "p")
    assert (found.images, found.scenes) == (3, {"a": 2, "b": 1})


def test_a_set_that_its_reader_refuses_is_counted_as_what_it_is(tmp_path: Path, caplog):
    (tmp_path / "annotations.json").write_text('{"images": [], "annotations": []}')  # COCO's
    Image.fromarray(picture(9, 9)).save(tmp_path / "1.jpg")
    (found,) = count.of_place(tmp_path)
    assert (found.part, found.images) == ("images without depth, a folder", 1)
    assert "it looks like DA-2K, but its reader says: " in caplog.text


def test_the_folder_above_a_set_will_do(scenes: Path):
    (found,) = count.of_place(scenes.parent)
    assert (found.part, found.images) == ("Virtual KITTI 2", 4)
    assert found.said.startswith("published: ")


def test_long_lists_of_scenes_are_cut_in_the_text_only():
    many = {f"s{n:03d}": 1 for n in range(50)}
    text = count.text([Counted(part="x", images=50, said="", scenes=many)])
    assert len(text.splitlines()) == 42
    assert text.endswith("...  10 more scenes")


def test_of_paths_and_recipes_on_the_command_line(scenes: Path, tmp_path: Path, capsys):
    assert cli.main(["data", "count", str(scenes), "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert (found["images"], found["part"]) == (4, "Virtual KITTI 2")
    Image.fromarray(picture(9, 9)).save(tmp_path / "1.jpg")
    recipe = ["data", "count", "recipes.labels:plain", "--data", str(tmp_path)]
    assert cli.main(recipe) == 0
    assert "labelling: photos" in capsys.readouterr().out
    assert cli.main(["data", "count", str(tmp_path / "nowhere")]) == 2
    assert "nowhere" in capsys.readouterr().err
    for words in (["--data", "x"], ["--set", "a=1"]):
        assert cli.main(["data", "count", str(scenes), *words]) == 2
        assert "is no MODULE:FUNCTION; --data and --set" in capsys.readouterr().err
