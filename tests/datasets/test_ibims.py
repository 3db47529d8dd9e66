"""iBims-1: both forms of one miniature, masks that mean the opposite of their names."""

from pathlib import Path

import numpy as np
import pytest
import torch
from contracts import check_dataset
from PIL import Image
from scenes import Scene, ball, room
from scipy.io import loadmat, savemat

from distill.datasets import depth_maps, ibims
from distill.datasets.ibims import Ibims
from distill.types import Space

H, W = 24, 40
K = torch.tensor([[40.0, 0, 17.25], [0, 44, 12.5], [0, 0, 1]], dtype=torch.float64)
FROM_1 = K + torch.tensor([[0.0, 0, 1], [0, 0, 1], [0, 0, 0]])  # as the files count
GLASS = torch.zeros(H, W, dtype=torch.bool)
GLASS[3:8, 5:9] = True
BROKEN = torch.zeros(H, W, dtype=torch.bool)
BROKEN[10:12, 20:30] = True
MASKS = {"mask_invalid": ~BROKEN, "mask_transp": ~GLASS}


def masked(truth: Scene, hidden: torch.Tensor) -> Scene:
    hole = torch.where(hidden, torch.nan, 1.0).double()
    maps = {"depth": truth.depth * hole, "points": truth.points * hole}
    return Scene(**{**vars(truth), **maps, "valid": truth.valid & ~hidden})


BEHIND = {"corridor_01": room(H, W, K), "livingroom_14": ball(H, W, K)}  # the masks not applied
SCENES = {name: masked(truth, GLASS | BROKEN) for name, truth in BEHIND.items()}
KEYS = {f"ibims/{name}": truth for name, truth in SCENES.items()}


def write_raw(folder: Path) -> None:
    for part in ("rgb", "depth", "calib", *MASKS):
        (folder / part).mkdir(parents=True)
    for bits, (name, truth) in enumerate(BEHIND.items()):
        Image.fromarray(truth.pixels).save(folder / f"rgb/{name}.png")
        steps = (truth.depth.nan_to_num(nan=0.0) * 65535 / 50).round().numpy()
        depth_maps.write_png16(folder / f"depth/{name}.png", steps.astype(np.uint16))
        for part, mask in MASKS.items():  # one bit, or eight that say 0 and 1
            picture = mask.numpy() if bits else mask.numpy().astype(np.uint8)
            Image.fromarray(picture).save(folder / f"{part}/{name}.png")
        (folder / f"calib/{name}.txt").write_text("40.0,44.0,18.25,13.5\n")


def write_mat(folder: Path) -> None:
    folder.mkdir(parents=True)
    for name, truth in BEHIND.items():
        data = {part: mask.numpy().astype(np.uint8) for part, mask in MASKS.items()}
        data |= {"rgb": truth.pixels, "depth": truth.depth.nan_to_num(nan=0.0).numpy()}
        path = folder / f"{name}.mat"
        savemat(path, {"data": {**data, "calib": FROM_1.T.numpy()}}, do_compression=True)


def write_list(folder: Path, *names: str) -> None:
    (folder / "imagelist.txt").write_text("\r\n".join(names) + "\r\n")


WRITERS = {"ibims1_core_raw": write_raw, "ibims1_core_mat": write_mat}


def check(root: Path) -> None:
    check_dataset(
        lambda: Ibims(root),
        KEYS,
        space=Space.METRIC_DEPTH,
        depth_tolerance=3e-4,  # half a step of 0.8 mm at 2 m
        image_tolerance=0.003,
    )


@pytest.mark.parametrize("form", WRITERS)
def test_the_contract(form, tmp_path):
    WRITERS[form](tmp_path / form)
    write_list(tmp_path, *SCENES)
    check(tmp_path)
    write_list(tmp_path, "livingroom_14")
    assert len(Ibims(tmp_path / form)) == 1  # the list lies beside the folder


def test_the_forms_agree_and_the_raw_one_is_preferred(tmp_path):
    for form, write in WRITERS.items():
        write(tmp_path / form)
    assert Ibims(tmp_path).folder.name == "ibims1_core_raw"
    raw, mat = Ibims(tmp_path / "ibims1_core_raw")[0], Ibims(tmp_path / "ibims1_core_mat")[0]
    for field in ("image", "valid", "K"):
        assert torch.equal(getattr(raw, field), getattr(mat, field))


def in_millimetres(monkeypatch):
    monkeypatch.setattr(ibims, "_METRES", 1e-3)


def of_a_thousandth(monkeypatch):
    monkeypatch.setattr(ibims, "_METRES", 50 / 65536 * 1.001)


def invalid_only(monkeypatch):
    monkeypatch.setattr(ibims, "_MASKS", ("mask_invalid", "mask_invalid"))


def glass_only(monkeypatch):
    monkeypatch.setattr(ibims, "_MASKS", ("mask_transp", "mask_transp"))


def changed(function: str, change):
    def mistake(monkeypatch):
        read = getattr(ibims, function)
        monkeypatch.setattr(ibims, function, lambda folder, item: change(read(folder, item)))

    return mistake


def taken_by_their_names(found):
    return found._replace(masks=tuple(~mask for mask in found.masks))


def from_the_corner(found):
    return found._replace(K=found.K - np.array([[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]]))


def from_zero(found):
    return found._replace(K=found.K + np.array([[0, 0, 1.0], [0, 0, 1.0], [0, 0, 0]]))


def swapped_axes(found):
    return found._replace(K=found.K[[1, 0, 2]][:, [1, 0, 2]])


def transposed(found):
    return found._replace(K=found.K.T.copy())


CHANGES = (taken_by_their_names, from_the_corner, from_zero, swapped_axes, transposed)
RAW_MISTAKES = (
    *(in_millimetres, of_a_thousandth, invalid_only, glass_only),
    *(changed("_read_raw", change) for change in CHANGES),
)


@pytest.mark.parametrize("mistake", RAW_MISTAKES)
def test_a_mistake_is_seen(mistake, tmp_path, monkeypatch):
    write_raw(tmp_path / "ibims1_core_raw")
    mistake(monkeypatch)
    with pytest.raises(AssertionError):
        check(tmp_path)


@pytest.mark.parametrize("change", CHANGES)
def test_a_mistake_in_the_other_form_is_seen(change, tmp_path, monkeypatch):
    write_mat(tmp_path / "ibims1_core_mat")
    changed("_read_mat", change)(monkeypatch)
    with pytest.raises(AssertionError):
        check(tmp_path)


def test_the_list_decides(tmp_path):
    write_raw(tmp_path / "ibims1_core_raw")
    write_list(tmp_path / "ibims1_core_raw", "livingroom_14")
    assert [Ibims(tmp_path).key(i) for i in range(len(Ibims(tmp_path)))] == ["ibims/livingroom_14"]
    write_list(tmp_path, "livingroom_14", "office_04", "zoo_01")
    with pytest.raises(FileNotFoundError, match=r"2 of 3 images of imagelist.* first office_04"):
        Ibims(tmp_path)


def test_an_empty_or_missing_folder(tmp_path):
    for root in (tmp_path, tmp_path / "none"):
        with pytest.raises(FileNotFoundError, match=rf"neither ibims1_core_raw/.* in {root}; get"):
            Ibims(root)


@pytest.mark.parametrize(
    "part",
    ["rgb/{}.png", "depth/{}.png", "mask_invalid/{}.png", "mask_transp/{}.png", "calib/{}.txt"],
)
def test_a_missing_file_is_named(part, tmp_path):
    write_raw(tmp_path / "ibims1_core_raw")
    dataset = Ibims(tmp_path)
    path = tmp_path / "ibims1_core_raw" / part.format("corridor_01")
    path.unlink()
    with pytest.raises(FileNotFoundError, match=str(path)):
        _ = dataset[0]


@pytest.mark.parametrize("text", ["", "40,44,17", "40,44,17,12,1", "40,44,x,12"])
def test_a_damaged_calibration_is_named(text, tmp_path):
    write_raw(tmp_path / "ibims1_core_raw")
    (tmp_path / "ibims1_core_raw/calib/corridor_01.txt").write_text(text)
    with pytest.raises(ValueError, match=r"corridor_01\.txt: not the four numbers fx,fy,cx,cy"):
        _ = Ibims(tmp_path)[0]


def test_a_mask_of_another_size_is_refused(tmp_path):
    write_raw(tmp_path / "ibims1_core_raw")
    path = tmp_path / "ibims1_core_raw/mask_transp/corridor_01.png"
    Image.open(path).resize((20, 12)).save(path)
    with pytest.raises(ValueError, match=r"ibims/corridor_01: depth \(24, 40\) but masks .*12, 20"):
        _ = Ibims(tmp_path)[0]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"calib": K.numpy()}, "`calib` is no pinhole's"),
        ({"calib": np.eye(4)}, "`calib` is no pinhole's"),
        ({"rgb": np.zeros((H, W, 3))}, "`rgb` float64"),
        ({"rgb": np.zeros((H, W), np.uint8)}, r"`rgb` uint8 \(24, 40\)"),
        ({"depth": np.zeros((2, W))}, r"`depth` \(2, 40\)"),
        ({"depth": None}, "'depth'"),
        ({"mask_transp": None}, "'mask_transp'"),
    ],
)
def test_a_wrong_mat_file_is_named(changes, words, tmp_path):
    write_mat(tmp_path / "ibims1_core_mat")
    path = tmp_path / "ibims1_core_mat/corridor_01.mat"
    data = {**loadmat(path, simplify_cells=True)["data"], **changes}
    savemat(path, {"data": {name: value for name, value in data.items() if value is not None}})
    with pytest.raises(ValueError, match=rf"corridor_01\.mat: another file: .*{words}"):
        _ = Ibims(tmp_path)[0]


def test_a_damaged_mat_file_is_named(tmp_path):
    write_mat(tmp_path / "ibims1_core_mat")
    dataset = Ibims(tmp_path)
    path = tmp_path / "ibims1_core_mat/corridor_01.mat"
    whole = path.read_bytes()
    for damaged in (b"", whole[:3], whole[:150], whole[:400], whole[:300] + b"?" * len(whole)):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"corridor_01\.mat: damaged, or no `data`"):
            _ = dataset[0]
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"corridor_01\.mat: no such file; get"):
        _ = dataset[0]


def test_what_is_not_a_number_is_unknown(tmp_path):
    write_mat(tmp_path / "ibims1_core_mat")
    path = tmp_path / "ibims1_core_mat/corridor_01.mat"
    data = loadmat(path, simplify_cells=True)["data"]
    savemat(path, {"data": {**data, "depth": np.full((H, W), np.nan)}})
    valid = Ibims(tmp_path)[0].valid
    assert valid is not None
    assert not valid.any()
