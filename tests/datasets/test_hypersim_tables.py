"""Lists of Hypersim's frames, and cameras to leave out; more of the tables in test_hypersim."""

import logging
from pathlib import Path

import pytest

from distill.datasets import hypersim_tables as tables

FIRST, SECOND, ELSEWHERE = (
    f"{scene}/rgb_{frame}.png {scene}/depth_plane_{frame}.png"  # as Marigold writes it
    for scene, frame in (
        *(("ai_003_004", "cam_00_fr0005"), ("ai_001_002", "cam_01_fr0037")),
        ("ai_055_010", "cam_01_fr0000"),
    )
)


def write(root: Path, *lines: str) -> Path:
    for scene in ("ai_001_002", "ai_003_004"):
        (root / scene).mkdir(exist_ok=True)
    listing = root / "filename_list_train_filtered.txt"
    listing.write_text("\n".join([*lines, ""]))
    return listing


def test_a_list_names_the_frames_and_their_order(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        found = tables.listed(tmp_path, write(tmp_path, FIRST, "", SECOND, ELSEWHERE))
    assert found == [("ai_003_004", "cam_00", 5), ("ai_001_002", "cam_01", 37)]
    assert "2 of 3 scenes of filename_list_train_filtered.txt" in caplog.text
    assert tables.listed(tmp_path, write(tmp_path, SECOND.split()[0])) == found[1:]


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([FIRST, FIRST], r"filtered\.txt: named twice, remove one: 'ai_003_004/rgb_cam_00_fr0005"),
        (["ai_003_004/depth_cam_00_fr0005.png"], r"no ai_VVV_NNN/.* begins 'ai_003_004/depth_ca"),
        ([FIRST.replace(".png", ".png2")], "no ai_VVV_NNN/rgb_cam_XX_frIIII.png begins 'ai_003"),
    ],
)
def test_bad_lists_are_named(lines, words, tmp_path):
    with pytest.raises(ValueError, match=words):
        tables.listed(tmp_path, write(tmp_path, *lines))


def test_a_missing_list_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"filtered\.txt"):
        tables.listed(tmp_path, tmp_path / "filtered.txt")


def test_cameras_are_left_out():
    scenes, cameras = ("ai_001_002", "ai_004_009", "ai_038_007"), ("cam_00", "cam_01")
    frames = [(scene, camera, n) for scene in scenes for camera in cameras for n in (0, 99)]
    kept = tables.without(frames, tables.BROKEN)
    assert [
        f"{scene}/{camera}" for scene, camera, n in frames if (scene, camera, n) not in kept
    ] == [
        *("ai_004_009/cam_01", "ai_004_009/cam_01"),
        *("ai_038_007/cam_00", "ai_038_007/cam_00"),
    ]
    assert tables.without(frames, ()) == frames
    with pytest.raises(ValueError, match="skip takes cameras like 'ai_004_009/cam_01', got"):
        tables.without(frames, ["ai_004_009"])
