"""Middlebury: both layouts, disparity with an offset between principal points, unknown pixels."""

from pathlib import Path

import numpy as np
import pytest
import torch
from contracts import check_dataset
from PIL import Image
from scenes import Scene, ball, room

from distill.datasets import depth_maps, middlebury
from distill.datasets.middlebury import Middlebury
from distill.types import Space

H, W = 24, 40
K = torch.tensor([[40.0, 0, 17.25], [0, 40, 12.5], [0, 0, 1]], dtype=torch.float64)
OFFSET, BASELINE = 3.5, 193.001  # pixels, millimetres
SCENES = {"Adirondack-perfect": room(H, W, K), "Piano-imperfect": ball(H, W, K)}
KEYS = {f"middlebury/{folder}/im0.png": truth for folder, truth in SCENES.items()}
CALIBRATION = f"""cam0=[40.0 0 17.25; 0 40.0 12.5; 0 0 1]
cam1=[40.0 0 20.75; 0 40.0 12.5; 0 0 1]
doffs={OFFSET}
baseline={BASELINE}
width={W}
height={H}
ndisp=280
isint=0
vmin=31
vmax=257
dyavg=0.918
dymax=1.516
"""


def write_scene(folder: Path, truth: Scene, disparities: str = "disp0.pfm") -> None:
    folder.mkdir(parents=True)
    Image.fromarray(truth.pixels).save(folder / "im0.png")
    disparity = BASELINE * 40.0 / (truth.depth * 1000) - OFFSET
    values = disparity.nan_to_num(nan=torch.inf).numpy().astype("<f4")
    header = f"Pf\n{W} {H}\n-0.003922\n".encode()
    (folder / disparities).write_bytes(header + values[::-1].tobytes())
    (folder / "calib.txt").write_text(CALIBRATION)


def write(root: Path) -> None:
    for folder, truth in SCENES.items():
        write_scene(root / folder, truth)


def check(root: Path) -> None:
    check_dataset(
        lambda: Middlebury(root),
        KEYS,
        space=Space.METRIC_DEPTH,
        depth_tolerance=1e-5,
        image_tolerance=0.003,
    )


def test_the_contract(tmp_path):
    write(tmp_path)
    check(tmp_path)


def test_the_layout_of_middeval3(tmp_path):
    """What only the left camera sees has depth as well, whatever the mask says."""
    write_scene(tmp_path / "Adirondack", SCENES["Adirondack-perfect"], "disp0GT.pfm")
    mask = np.full((H, W), 128, np.uint8)
    Image.fromarray(mask).save(tmp_path / "Adirondack/mask0nocc.png")
    truth = {"m/Adirondack/im0.png": SCENES["Adirondack-perfect"]}
    check_dataset(lambda: Middlebury(tmp_path, name="m"), truth, space=Space.METRIC_DEPTH)


def in_centimetres(monkeypatch):
    monkeypatch.setattr(middlebury, "_MILLIMETRES", 100.0)


def bottom_up(monkeypatch):
    upright = depth_maps.read_pfm
    monkeypatch.setattr(depth_maps, "read_pfm", lambda path: upright(path)[::-1].copy())


def unknown_as_zero(monkeypatch):
    """Infinite disparity taken for a number: very far, and valid."""
    read = depth_maps.read_pfm
    monkeypatch.setattr(
        depth_maps, "read_pfm", lambda path: np.nan_to_num(read(path), posinf=0.0).astype("f4")
    )


def changed(**changes):
    def mistake(monkeypatch):
        read = middlebury._read_calibration
        monkeypatch.setattr(
            middlebury,
            "_read_calibration",
            lambda path: read(path)._replace(**changes),
        )

    return mistake


NO_OFFSET = changed(offset=0.0)
TRANSPOSED = changed(K=K.numpy().T.copy())
FROM_THE_CORNER = changed(K=K.numpy() - np.array([[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]]))
RIGHT_CAMERA = changed(K=K.numpy() + np.array([[0, 0, OFFSET], [0, 0, 0], [0, 0, 0]]))


@pytest.mark.parametrize(
    "mistake",
    [
        in_centimetres,
        bottom_up,
        unknown_as_zero,
        NO_OFFSET,
        TRANSPOSED,
        FROM_THE_CORNER,
        RIGHT_CAMERA,
    ],
)
def test_a_mistake_is_seen(mistake, tmp_path, monkeypatch):
    write(tmp_path)
    mistake(monkeypatch)
    with pytest.raises(AssertionError):
        check(tmp_path)


def test_the_better_rectified_of_two_is_read(tmp_path):
    write(tmp_path)
    write_scene(tmp_path / "Adirondack-imperfect", SCENES["Piano-imperfect"])
    check(tmp_path)


def test_an_empty_or_missing_folder(tmp_path):
    for root in (tmp_path, tmp_path / "none"):
        with pytest.raises(FileNotFoundError, match=rf"no <scene>/im0\.png in {root}; get <scene>"):
            Middlebury(root)


def test_missing_files_are_named(tmp_path):
    write(tmp_path)
    dataset = Middlebury(tmp_path)
    (tmp_path / "Adirondack-perfect/disp0.pfm").unlink()
    with pytest.raises(FileNotFoundError, match=r"-perfect: neither disp0GT\.pfm nor disp0\.pfm"):
        Middlebury(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"disp0\.pfm"):
        _ = dataset[0]
    (tmp_path / "Piano-imperfect/calib.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"calib\.txt"):
        _ = dataset[1]


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("cam0=", "camera=", "'cam0'"),
        ("[40.0 0 17.25; 0", "[40.0 0; 0", "inhomogeneous"),
        ("[40.0 0 17.25; 0 40.0 12.5; 0 0 1]", "[40 0; 0 1]", r"cam0 \[\[40"),
        ("cam0=[40.0", "cam0=[-40.0", r"cam0 \[\[-40"),
        ("0 0 1]\ncam1", "0 1 0]\ncam1", "cam0"),
        ("doffs=3.5", "doffs=nan", "doffs nan"),
        ("doffs=3.5", "doffs", "'doffs'"),
        ("baseline=193.001", "baseline=0", r"baseline 0\.0"),
        ("width=40", "width=wide", "'wide'"),
    ],
)
def test_a_damaged_calibration_is_named(old, new, words, tmp_path):
    write(tmp_path)
    path = tmp_path / "Adirondack-perfect/calib.txt"
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(ValueError, match=rf"calib\.txt: no calibration of Middlebury's: .*{words}"):
        _ = Middlebury(tmp_path)[0]


def test_a_resized_image_is_refused(tmp_path):
    write(tmp_path)
    path = tmp_path / "Adirondack-perfect/im0.png"
    Image.open(path).resize((20, 12)).save(path)
    with pytest.raises(ValueError, match=r"im0\.png: 20 x 12 pixels, but calib\.txt is of 40 x 24"):
        _ = Middlebury(tmp_path)[0]


def test_a_picture_is_no_disparity(tmp_path):
    write(tmp_path)
    path = tmp_path / "Adirondack-perfect/disp0.pfm"
    path.write_bytes(f"PF\n{W} {H}\n-1\n".encode() + bytes(12 * W * H))
    with pytest.raises(ValueError, match=r"disp0\.pfm: a picture in colour, no disparity"):
        _ = Middlebury(tmp_path)[0]


def test_a_point_behind_the_camera_is_not_valid(tmp_path):
    """A disparity below minus the offset."""
    write(tmp_path)
    path = tmp_path / "Adirondack-perfect/disp0.pfm"
    values = np.full((H, W), -OFFSET, "<f4")
    values[0, 0] = -OFFSET - 1
    path.write_bytes(f"Pf\n{W} {H}\n-1\n".encode() + values.tobytes())
    valid = Middlebury(tmp_path)[0].valid
    assert valid is not None
    assert not valid.any()
