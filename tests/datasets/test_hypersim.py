"""Hypersim: the numbers of a real file, and miniatures in the real layout."""

import csv
import logging
import re
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from contracts import check_dataset
from PIL import Image
from scenes import Scene, ball, pinhole, room

from distill import geometry
from distill.datasets import hypersim_tables
from distill.datasets.hypersim import Hypersim, tonemap
from distill.types import Space

H, W = 48, 64
CANONICAL = pinhole(H, W)
# `M_cam_from_uv` of ai_037_002 in ml-hypersim's metadata_camera_parameters.csv
REAL_UV = torch.tensor(
    [
        [0.579607251426182, 0.0, -0.06955286861651404],
        [0.0, 0.4346865334657201, 0.09273312506660672],
        [0.0, 0.004054126980668954, -1.003909173803896],
    ],
    dtype=torch.float64,
)
UPRIGHT_UV = torch.diag(torch.tensor([3**-0.5, 0.75 * 3**-0.5, -1.0], dtype=torch.float64))
# row, column, ray distance, planar canonical, planar exact: frame 0 of ai_037_002, measured
REAL_PIXELS = [
    (0, 0, 6.29296875, 5.104784, 4.828697),
    (0, 1023, 4.34765625, 3.526769, 3.506513),
    (767, 0, 3.46875, 2.813810, 2.805446),
    (767, 1023, 3.28320312, 2.663297, 2.804817),
    (384, 512, 7.8828125, 7.882810, 7.831486),
]


def oblique() -> torch.Tensor:
    """K of the tilted camera, written down from the definition of its rays, pixel by pixel."""
    corners = [(0, 0), (W - 1, 0), (0, H - 1), (W - 1, H - 1)]
    equations = []
    for x, y in corners:
        u, v = (2 * x + 1) / W - 1, 1 - (2 * y + 1) / H
        ray = (REAL_UV @ torch.tensor([u, v, 1.0]).double()).tolist()
        X, Y, Z = ray[0], -ray[1], -ray[2]  # to OpenCV axes
        equations.append([X, Y, Z, 0, 0, 0, -x * X, -x * Y, -x * Z])
        equations.append([0, 0, 0, X, Y, Z, -y * X, -y * Y, -y * Z])
    solution = np.linalg.svd(np.array(equations))[2][-1].reshape(3, 3)
    return torch.from_numpy(solution / solution[2, 2])


def exposed(scene: Scene) -> Scene:
    """The picture as tone mapping leaves it: its 90th percentile of brightness at 0.8."""
    linear = scene.image.numpy() ** 2.2
    brightness = np.tensordot([0.3, 0.59, 0.11], linear, 1)[scene.valid.numpy()]
    image = np.clip((linear * 0.8**2.2 / np.percentile(brightness, 90)) ** (1 / 2.2), 0, 1)
    image[:, ~scene.valid.numpy()] = 0
    return Scene(**{**vars(scene), "image": torch.from_numpy(image)})


def write_hdf5(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file.create_dataset("dataset", data=values, compression="gzip")


def write_frame(root: Path, scene: str, frame: int, truth: Scene) -> None:
    """Ray distance as float16, linear colour with NaN beside the surface, entity ids."""
    folder = root / scene / "images"
    hit = truth.valid.numpy()
    name = f"frame.{frame:04d}"
    geometry_folder, colour = (
        folder / "scene_cam_00_geometry_hdf5",
        folder / "scene_cam_00_final_hdf5",
    )
    write_hdf5(
        geometry_folder / f"{name}.depth_meters.hdf5", truth.ray_distance.numpy().astype("f2")
    )
    ids = np.where(hit, 7, -1).astype(np.int32)
    write_hdf5(geometry_folder / f"{name}.render_entity_id.hdf5", ids)
    linear = 37.0 * truth.image.numpy().transpose(1, 2, 0) ** 2.2  # any exposure
    write_hdf5(colour / f"{name}.color.hdf5", np.where(hit[..., None], linear, np.nan).astype("f4"))


def write_splits(root: Path, rows: list[tuple]) -> None:
    header = "scene_name,camera_name,frame_id,included_in_public_release,exclude_reason"
    with (root / "metadata_images_split_scene_v1.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*header.split(","), "split_partition_name"])
        writer.writerows(rows)


def write_cameras(root: Path, cameras: dict[str, torch.Tensor]) -> None:
    with (root / "metadata_camera_parameters.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        entries = [f"M_cam_from_uv_{i}{j}" for i in range(3) for j in range(3)]
        writer.writerow(["scene_name", "settings_output_img_height", *entries])
        for scene, uv in cameras.items():
            writer.writerow([scene, H, *uv.flatten().tolist()])


def miniature(root: Path, camera: torch.Tensor = CANONICAL) -> dict[str, Scene]:
    """Two frames of one released training scene, and rows that must not be served."""
    frames = {0: room(H, W, camera), 37: ball(H, W, camera)}
    for number, truth in frames.items():
        write_frame(root, "ai_001_002", number, truth)
    write_frame(root, "ai_003_004", 5, frames[0])
    write_splits(
        root,
        [
            ("ai_001_002", "cam_00", 0, "True", "", "train"),
            ("ai_001_002", "cam_00", 37, "True", "", "train"),
            ("ai_001_002", "cam_00", 38, "False", "CONTENT FLAGGED FOR REMOVAL", "train"),
            ("ai_003_004", "cam_00", 5, "True", "", "val"),
        ],
    )
    folder = "hypersim/ai_001_002/images/scene_cam_00_final_hdf5"
    return {f"{folder}/frame.{n:04d}.color.hdf5": exposed(truth) for n, truth in frames.items()}


def test_the_contract_with_the_canonical_camera(tmp_path):
    scenes = miniature(tmp_path)
    check_dataset(
        lambda: Hypersim(tmp_path),
        scenes,
        space=Space.METRIC_DEPTH,
        depth_tolerance=6e-4,  # float16
        image_tolerance=1e-3,
    )
    [val] = [Hypersim(tmp_path, split="val")]
    assert [val.key(i) for i in range(len(val))] == [
        "hypersim/ai_003_004/images/scene_cam_00_final_hdf5/frame.0005.color.hdf5"
    ]


def test_the_contract_with_a_tilted_camera(tmp_path):
    scenes = miniature(tmp_path, oblique())
    write_cameras(tmp_path, {"ai_009_009": UPRIGHT_UV, "ai_001_002": REAL_UV})
    check_dataset(
        lambda: Hypersim(tmp_path, projection="per_scene"),
        scenes,
        space=Space.METRIC_DEPTH,
        depth_tolerance=6e-4,
        image_tolerance=1e-3,
    )


def test_forgetting_the_ray_would_be_seen(tmp_path):
    """The tolerance above is 20 times smaller than what the ray factor changes."""
    miniature(tmp_path)
    truth = room(H, W, CANONICAL)
    target = Hypersim(tmp_path)[0].target
    assert target is not None
    assert ((truth.ray_distance - target) / target).mean() > 0.05


def test_the_upright_matrix_is_the_canonical_camera():
    for h, w in ((768, 1024), (H, W), (75, 100)):
        exact = hypersim_tables.of_scene(UPRIGHT_UV, h, w)
        torch.testing.assert_close(exact, hypersim_tables.canonical(h, w), atol=1e-3, rtol=1e-6)
    published = torch.tensor([[886.81, 0, 511.5], [0, 886.81, 383.5], [0, 0, 1]]).double()
    assert torch.equal(hypersim_tables.canonical(768, 1024).float(), published.float())


@pytest.mark.parametrize("exact", [False, True])
def test_the_numbers_of_a_real_file(exact):
    table = {"ai_037_002": REAL_UV} if exact else None
    K = hypersim_tables.camera(table, "ai_037_002", 768, 1024)
    stored = np.ones((768, 1024), np.float16)
    for row, column, ray_distance, *_ in REAL_PIXELS:
        stored[row, column] = ray_distance
    depth = geometry.ray_distance_to_depth(torch.from_numpy(stored.astype(np.float64)), K).float()
    for row, column, _, canonical, planar in REAL_PIXELS:
        assert f"{depth[row, column].item():.6f}" == f"{planar if exact else canonical:.6f}"


def test_a_jpeg_stands_in_for_the_colour(tmp_path):
    scenes = miniature(tmp_path)
    images = tmp_path / "ai_001_002/images"
    for frame, truth in zip((0, 37), scenes.values(), strict=True):
        (images / f"scene_cam_00_final_hdf5/frame.{frame:04d}.color.hdf5").unlink()
        preview = images / "scene_cam_00_final_preview"
        preview.mkdir(exist_ok=True)
        Image.fromarray(truth.pixels).save(preview / f"frame.{frame:04d}.tonemap.jpg", quality=95)
    check_dataset(
        lambda: Hypersim(tmp_path),
        scenes,
        space=Space.METRIC_DEPTH,
        depth_tolerance=6e-4,
        image_tolerance=0.03,
    )


def test_without_entity_ids_finite_depth_says_what_was_hit(tmp_path):
    miniature(tmp_path)
    before = Hypersim(tmp_path)[1].image
    (
        tmp_path / "ai_001_002/images/scene_cam_00_geometry_hdf5/frame.0037.render_entity_id.hdf5"
    ).unlink()
    assert torch.equal(Hypersim(tmp_path)[1].image, before)


def test_entity_ids_decide_which_pixels_set_the_exposure(tmp_path):
    """A bright pixel that is no surface must not darken the picture."""
    radiance = np.full((10, 10, 3), 0.5, np.float32)
    radiance[:5] = 900.0
    hit = np.ones((10, 10), bool)
    hit[:5] = False
    mapped = tonemap(radiance, hit)
    np.testing.assert_allclose(mapped[5:], 0.8, rtol=1e-5)
    assert (mapped[:5] == 1).all()


def test_tone_mapping_at_its_edges():
    nothing = np.zeros((2, 2), bool)
    everything = np.ones((2, 2), bool)
    np.testing.assert_allclose(
        tonemap(np.full((2, 2, 3), 0.25, "f4"), nothing), 0.25 ** (1 / 2.2), 1e-6
    )
    assert (tonemap(np.full((2, 2, 3), 9e-5, "f4"), everything) == 0).all()
    odd = np.full((2, 2, 3), 1.0, "f4")
    odd[0] = [[np.nan, -5, np.inf], [1, 1, 1]]
    assert tonemap(odd, everything)[0, 0].tolist() == [0, 0, 1]
    weights = np.zeros((1, 1, 3), "f4")
    weights[...] = [1, 0.5, 0.25]  # brightness 0.3 + 0.295 + 0.0275
    expected = (np.array([1, 0.5, 0.25]) * 0.8**2.2 / 0.6225) ** (1 / 2.2)
    np.testing.assert_allclose(
        tonemap(weights, np.ones((1, 1), bool))[0, 0], expected.clip(0, 1), 1e-5
    )


def test_without_the_table_all_frames_are_training_data(tmp_path, caplog):
    miniature(tmp_path)
    (tmp_path / "metadata_images_split_scene_v1.csv").unlink()
    with caplog.at_level(logging.WARNING):
        found = Hypersim(tmp_path)
    assert [found.key(i).split("/")[1] for i in range(3)] == ["ai_001_002"] * 2 + ["ai_003_004"]
    assert len(found) == 3
    assert "every frame on the disk is training data" in caplog.text
    with pytest.raises(ValueError, match=r"no metadata_images_split_scene_v1.csv for 'val'"):
        Hypersim(tmp_path, split="val")


def test_scenes_that_are_not_there_are_counted(tmp_path, caplog):
    miniature(tmp_path)
    rows = [(f"ai_00{i}_002", "cam_00", 0, "True", "", "train") for i in (1, 2)]
    write_splits(tmp_path, rows)
    with caplog.at_level(logging.WARNING):
        assert len(Hypersim(tmp_path)) == 1
    assert "1 of 2 scenes of train" in caplog.text
    write_splits(tmp_path, rows[1:])
    with pytest.raises(ValueError, match=r"no frame of split 'train'"):
        Hypersim(tmp_path)


def test_a_list_and_cameras_to_skip(tmp_path):
    """The list names frames of any split; a skipped camera is skipped there, too."""
    miniature(tmp_path)
    listing = tmp_path / "filtered.txt"
    listing.write_text("ai_003_004/rgb_cam_00_fr0005.png\nai_001_002/rgb_cam_00_fr0037.png\n")
    listed = Hypersim(tmp_path, listing=listing)
    assert [listed.key(i).split("/")[1] for i in range(len(listed))] == ["ai_003_004", "ai_001_002"]
    torch.testing.assert_close(listed[1].image, Hypersim(tmp_path)[1].image)
    one = Hypersim(tmp_path, listing=listing, skip=["ai_003_004/cam_00"])
    assert [one.key(i).split("/")[1] for i in range(len(one))] == ["ai_001_002"]
    with pytest.raises(ValueError, match=r"no frame of split 'train' in .*; unpack scenes there"):
        Hypersim(tmp_path, skip=["ai_001_002/cam_00"])
    with pytest.raises(ValueError, match=r"no frame of .*filtered\.txt in .*; unpack scenes there"):
        Hypersim(tmp_path, listing=listing, skip=["ai_001_002/cam_00", "ai_003_004/cam_00"])


def test_wrong_arguments_are_named(tmp_path):
    miniature(tmp_path)
    with pytest.raises(FileNotFoundError, match="hypersim: no such folder") as caught:
        Hypersim(tmp_path / "none")
    for words in ("Hypersim's scenes from https://github.com/apple/ml-", "--data .* holds `none/`"):
        assert re.search(words, str(caught.value))
    with pytest.raises(ValueError, match=r"no split 'trian'; there are \['train', 'val'\]"):
        Hypersim(tmp_path, split="trian")
    with pytest.raises(ValueError, match="projection is canonical or per_scene, got 'exact'"):
        Hypersim(tmp_path, projection="exact")
    with pytest.raises(FileNotFoundError, match=r"parameters\.csv: projection='per_scene' n"):
        Hypersim(tmp_path, projection="per_scene")


def test_bad_tables_are_named(tmp_path):
    miniature(tmp_path)
    write_cameras(tmp_path, {"ai_009_009": UPRIGHT_UV})
    with pytest.raises(ValueError, match="no row for scene ai_001_002"):
        _ = Hypersim(tmp_path, projection="per_scene")[0]
    (tmp_path / "metadata_camera_parameters.csv").write_text(
        "scene_name,M_cam_from_uv_00\nai_1,x\n"
    )
    with pytest.raises(ValueError, match=r"no usable M_cam_from_uv_00\.\."):
        Hypersim(tmp_path, projection="per_scene")
    (tmp_path / "metadata_images_split_scene_v1.csv").write_text("scene_name,frame_id\n")
    with pytest.raises(ValueError, match=r"no column \['camera_name', 'included_in"):
        Hypersim(tmp_path)


def test_bad_files_are_named(tmp_path):
    miniature(tmp_path)
    images = tmp_path / "ai_001_002/images"
    colour = images / "scene_cam_00_final_hdf5/frame.0000.color.hdf5"
    depth = images / "scene_cam_00_geometry_hdf5/frame.0000.depth_meters.hdf5"
    write_hdf5(colour, np.ones((24, 32, 3), "f2"))
    with pytest.raises(
        ValueError, match=r"0000.color.hdf5: colour \(24, 32, 3\) but geometry \(48"
    ):
        _ = Hypersim(tmp_path)[0]
    colour.unlink()
    with pytest.raises(FileNotFoundError, match=r"frame.0000.tonemap.jpg: no such file"):
        _ = Hypersim(tmp_path)[0]
    preview = images / "scene_cam_00_final_preview/frame.0000.tonemap.jpg"
    preview.parent.mkdir()
    Image.new("RGB", (32, 24)).save(preview)
    with pytest.raises(ValueError, match=r"ai_001_002/.*: depth \(48, 64\) but image \(24, 32\)"):
        _ = Hypersim(tmp_path)[0]
    write_hdf5(depth, np.ones((2, 3, 4), "f2"))
    with pytest.raises(ValueError, match=r"depth_meters is \(2, 3, 4\), not \(h, w\)"):
        _ = Hypersim(tmp_path)[0]
    depth.write_bytes(b"")
    with pytest.raises(ValueError, match=r"depth_meters\.hdf5: damaged"):
        _ = Hypersim(tmp_path)[0]
    depth.unlink()
    with pytest.raises(FileNotFoundError):
        _ = Hypersim(tmp_path)[0]


def test_what_is_no_positive_depth_is_not_valid(tmp_path):
    miniature(tmp_path)
    depth = tmp_path / "ai_001_002/images/scene_cam_00_geometry_hdf5/frame.0000.depth_meters.hdf5"
    stored = np.full((H, W), 2, "f2")
    stored[0, :4] = [0, -1, np.inf, np.nan]
    write_hdf5(depth, stored)
    valid = Hypersim(tmp_path)[0].valid
    assert valid is not None
    assert not valid[0, :4].any()
    assert valid.sum() == H * W - 4
