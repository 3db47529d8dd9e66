"""What is said of folders of every kind: each warning appears where it should, and only there."""

import json
import shlex
from pathlib import Path

import numpy as np
import pytest
from depth_pictures import (
    lidar,
    picture,
    room,
    stored,
    street,
    write_npy,
    write_pairs,
    write_png,
)
from label_stores import write_store
from PIL import Image

from distill import cli
from distill.datasets.rgb_depth_folder import RgbDepthFolder
from distill.inspection.findings import as_json
from distill.inspection.inspect import inspect, spread

ROOMS = [room(seed=n) for n in range(3)]
STREETS = [street(seed=n) for n in range(3)]


def opened(line: str) -> RgbDepthFolder:
    return eval(line, {"RgbDepthFolder": RgbDepthFolder, "Path": Path})  # noqa: S307 our own line


def test_kittis_form(tmp_path: Path):
    maps = [stored(lidar(depth), 256) for depth in STREETS]
    write_pairs(tmp_path / "k", maps)
    found = inspect(tmp_path / "k", out=tmp_path / "sheet.png")
    depth = found.depth
    assert depth is not None
    assert (depth.unit.name, depth.pattern, depth.kind) == ("1/256 m", "lidar", "depth")
    assert (depth.dtype, list(depth.markers)) == ("uint16", ["0"])
    assert depth.valid[1] == pytest.approx(np.mean([m > 0 for m in maps]))
    assert found.sizes == {"300 x 96": 3}
    assert (found.warnings, found.unreadable, found.refused) == ([], {}, None)
    assert "--benchmark kitti --data" in found.commands[0]
    sample = opened(found.recipe[0])[1]
    assert sample.target is not None
    np.testing.assert_allclose(sample.target.nan_to_num(), maps[1] / 256, atol=1e-6)
    for word in ("1/256 m (likely)", "sparse", "as of a lidar", "the lower part of the image"):
        assert word in " ".join(found.text.split())


@pytest.mark.parametrize(
    ("write", "suffix", "maps", "units"),
    [
        (write_png, ".png", [stored(depth, 1000) for depth in ROOMS], 1000),
        (write_png, ".png", [stored(depth, 1000) * np.uint16(5) for depth in ROOMS], 5000),
        (write_npy, ".npy", [depth.astype(np.float32) for depth in ROOMS], 1),
        (write_npy, ".npy", [depth.astype(np.float32) * 1000 for depth in ROOMS], 1000),
    ],
)
def test_the_proposed_line_reads_metres(write, suffix: str, maps, units: int, tmp_path: Path):
    write_pairs(
        tmp_path,
        maps,
        rgb="{scene}/im_{n}_rgb.png",
        depth=f"{{scene}}/im_{{n}}_depth{suffix}",
        write=write,
    )
    found = inspect(tmp_path)
    assert found.warnings == []
    assert f"units_per_metre={units}" in found.recipe[0]
    dataset = opened(found.recipe[0])
    read = {dataset.key(n): dataset[n].target for n in range(3)}
    for n, depth in enumerate(ROOMS):
        (target,) = (t for key, t in read.items() if f"im_{n}_" in key)
        assert target is not None
        np.testing.assert_allclose(target, depth, rtol=1e-3)


def test_a_marked_sky_is_left_out_of_the_range_and_of_the_reading(tmp_path: Path):
    write_pairs(tmp_path / "cm", [stored(depth, 100, sky=65535) for depth in STREETS])
    write_pairs(
        tmp_path / "m",
        [np.where(np.isfinite(d), d, 1e10).astype(np.float32) for d in STREETS],
        depth="depth/{n:04d}.npy",
        write=write_npy,
    )
    for name, marker in (("cm", "65535"), ("m", "1e+10")):
        found = inspect(tmp_path / name)
        assert found.depth is not None
        assert found.depth.range is not None
        assert found.depth.range[4] < 85 * 100 + 1
        assert marker in found.depth.markers
        sample = opened(found.recipe[0])[0]
        assert sample.valid is not None
        assert (sample.valid.numpy() == np.isfinite(STREETS[0])).mean() > 0.999
    assert found.warnings == [
        "1e+10 is at the end of the range and frequent: the sky, or no measurement?"
    ]


@pytest.mark.parametrize(
    ("dtype", "sky"), [(np.float32, 65.535), (np.int32, 1_234_567), (np.int32, 2**31 - 1)]
)
def test_the_number_of_the_sky_keeps_all_its_digits(dtype: type, sky: float, tmp_path: Path):
    scale = 1 if dtype is np.float32 else 1000
    maps = [np.where(np.isfinite(d), d / 10 * scale, sky).astype(dtype) for d in STREETS]
    write_pairs(tmp_path, maps, depth="depth/{n:04d}.npy", write=write_npy)
    sample = opened(inspect(tmp_path).recipe[0])[0]
    assert sample.valid is not None
    assert (sample.valid.numpy() == np.isfinite(STREETS[0])).mean() > 0.999


def test_commands_can_be_copied_whatever_the_folder_is_called(tmp_path: Path):
    pairs, photos = tmp_path / "my pairs", tmp_path / "my photos"
    write_pairs(pairs, [stored(lidar(depth), 256) for depth in STREETS])
    photos.mkdir()
    Image.fromarray(picture(20, 30)).save(photos / "a.jpg")
    store = write_store(tmp_path / "my store")
    for place in (pairs, photos, store):
        (command,) = inspect(place).commands
        assert str(place) in shlex.split(command)


@pytest.mark.parametrize("form", ["8 bits", "stretched", "few"])
def test_eight_bits_are_refused_unless_asked_for(form: str, tmp_path: Path, capsys):
    makers = {
        "8 bits": lambda d: stored(d, 40).astype(np.uint8),
        "stretched": lambda d: stored(d, 40) * np.uint16(257),
        "few": lambda d: stored(d, 40),
    }
    write_pairs(tmp_path / "p", [makers[form](depth) for depth in ROOMS])
    arguments = ["data", "inspect", str(tmp_path / "p"), "--out", str(tmp_path / "s.png")]
    assert cli.main(arguments) == 2
    printed = capsys.readouterr()
    assert "RgbDepthFolder" not in printed.out
    assert "insist with --allow-8bit" in printed.err
    assert (tmp_path / "s.png").is_file()
    assert cli.main([*arguments, "--allow-8bit"]) == 0
    (line,) = (x for x in capsys.readouterr().out.splitlines() if x.startswith("recipe"))
    assert len(opened(line.split(maxsplit=1)[1])) == 3
    assert opened(line.split(maxsplit=1)[1])[0].target is not None


def test_inverse_depth_gets_no_line(tmp_path: Path):
    maps = [(7 / depth).astype(np.float32) for depth in ROOMS]
    write_pairs(tmp_path, maps, depth="disp/{n:04d}.npy", write=write_npy)
    found = inspect(tmp_path)
    assert found.depth is not None
    assert found.depth.kind == "inverse"
    assert (found.recipe, found.commands) == ([], [])
    assert found.warnings == ["no reader takes inverse depth from folders: export depth"]


def test_sizes_that_differ_and_turned_images(tmp_path: Path):
    write_pairs(tmp_path, [stored(depth, 1000) for depth in ROOMS])
    write_png(tmp_path / "depth/0001.png", stored(room(48, 64), 1000))
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(picture(96, 128)).save(tmp_path / "rgb/0002.jpg", exif=exif)
    warnings = inspect(tmp_path).warnings
    assert warnings[0].startswith("2 of 3 images differ in size from their depth: rgb/0001.jpg")
    assert "(128 x 96 and 64 x 48)" in warnings[0]
    assert warnings[1].startswith("1 of 3 images are turned by their EXIF tag")
    assert "rgb/0002.jpg" in warnings[1]
    assert len(warnings) == 2


def test_partners_that_are_missing_and_files_that_are_damaged(tmp_path: Path):
    write_pairs(tmp_path, [stored(depth, 1000) for depth in ROOMS])
    (tmp_path / "rgb/0007.jpg").write_bytes((tmp_path / "rgb/0000.jpg").read_bytes())
    (tmp_path / "depth/0001.png").write_bytes(b"\x89PNG")
    found = inspect(tmp_path)
    assert found.without_depth == ["rgb/0007.jpg"]
    assert list(found.unreadable) == ["rgb/0001.jpg + depth/0001.png"]
    assert found.warnings == [
        "1 of 3 cannot be read",
        "RgbDepthFolder refuses a folder in which some have no partner: move those away",
    ]
    text = found.text
    assert "alone      1 images without depth: rgb/0007.jpg" in text
    assert "rgb/0001.jpg + depth/0001.png" in text
    assert "damaged" in found.unreadable["rgb/0001.jpg + depth/0001.png"]


def test_maps_that_are_nearly_empty(tmp_path: Path):
    maps = [stored(depth, 1000) for depth in ROOMS]
    maps[2][1:] = 0
    maps[2][0, 60:] = 0
    write_pairs(tmp_path, maps)
    found = inspect(tmp_path)
    assert found.warnings == ["1 of 3 images have depth in less than 1% of the pixels"]
    assert found.depth is not None
    assert found.depth.markers["0"] == pytest.approx(np.mean([m == 0 for m in maps]))


def test_names_that_do_not_pair_up(tmp_path: Path):
    write_pairs(tmp_path, [stored(ROOMS[0], 1000)], rgb="rgb/left.png", depth="depth/775.png")
    with pytest.raises(ValueError, match=r"1 images and 1 depth maps, and no two of one name"):
        inspect(tmp_path)


def test_nothing_that_can_be_read(tmp_path: Path):
    (tmp_path / "a.jpg").write_bytes(b"")
    with pytest.raises(ValueError, match=r"none of 1 samples can be read\n.*a\.jpg"):
        inspect(tmp_path)
    with pytest.raises(ValueError, match="samples=0"):
        inspect(tmp_path, samples=0)


def test_photographs(tmp_path: Path):
    for n, size in enumerate([(600, 700), (530, 800), (100, 90)]):
        Image.fromarray(picture(*size)).save(tmp_path / f"{n}.jpg")
    Image.fromarray(picture(600, 700)[..., 0]).save(tmp_path / "grey.png")
    found = inspect(tmp_path, out=tmp_path / "sheets/sheet.png")
    assert found.layout == "images without depth, a folder"
    assert (found.parts, found.looked, found.depth) == ({"": 4}, 4, None)
    assert found.sizes == {"700 x 600": 2, "800 x 530": 1, "90 x 100": 1}
    assert found.forms == {"JPEG": 3, "PNG, grey": 1}
    assert found.warnings == ["1 of 4 images have a short side below 518 px"]
    assert found.recipe == [f"open_photographs(Path({str(tmp_path)!r}))"]
    assert "distill run recipes.labels:plain --data" in found.commands[0]
    assert (tmp_path / "sheets/sheet.png").is_file()


def test_a_label_store(tmp_path: Path):
    store = write_store(tmp_path / "store")
    found = inspect(store, out=tmp_path / "sheet.png")
    assert found.layout.startswith("label store of photos by")
    assert found.depth is not None
    assert found.depth.unit.sure == "known"
    assert "disparity" in found.depth.unit.name
    assert found.depth.kind == "inverse"
    assert f"distill labels verify {store}" in found.commands


def test_json_has_all_facts(tmp_path: Path, capsys):
    write_pairs(tmp_path / "k", [stored(lidar(depth), 256) for depth in STREETS])
    out = tmp_path / "s.png"
    assert cli.main(["data", "inspect", str(tmp_path / "k"), "--json", "--out", str(out)]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts == json.loads(json.dumps(as_json(inspect(tmp_path / "k"))))
    assert facts["depth"]["unit"]["per_metre"] == 256
    assert facts["depth"]["valid"][1] < 0.3


@pytest.mark.parametrize("place", ["nowhere", "nowhere/*.tar"])
def test_nothing_there_is_wrong_input(place: str, tmp_path: Path, capsys):
    arguments = ["data", "inspect", str(tmp_path / place), "--out", str(tmp_path / "s.png")]
    assert cli.main(arguments) == 2
    assert "nowhere" in capsys.readouterr().err


def test_samples_are_spread_with_both_ends():
    assert spread(5, 50) == [0, 1, 2, 3, 4]
    assert spread(1000, 5) == [0, 250, 500, 749, 999]
    assert spread(7, 1) == [0]
