"""Frames -> Hypersim's files (Roberts et al. 2021), as released by apple/ml-hypersim.

Depth is the distance along the ray; lengths of poses are in asset units; the camera frame has
x right, y up and looks along -z.
"""

import csv
import io
import math
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
from jaxtyping import Float

from distill import atomic
from distill.worlds.render import Frame, stretch
from distill.worlds.scene import Camera

CAMERA = "cam_00"

_SPLIT = "metadata_images_split_scene_v1.csv"
_PARAMETERS = "metadata_camera_parameters.csv"
_FLIP = np.diag([1.0, -1.0, -1.0])  # OpenCV axes to Hypersim's


def write_scene(folder: Path, frames: Sequence[Frame], *, metres_per_unit: float) -> None:
    """One scene's folder, `ai_VVV_NNN`: colour, ray distance, entities and the trajectory."""
    for index, frame in enumerate(frames):
        _write_frame(folder / "images", index, frame)
    detail = folder / "_detail" / CAMERA
    poses = np.stack([frame.camera.world_from_cam for frame in frames])
    places = poses[:, :3, 3] / metres_per_unit
    ahead = places + poses[:, :3, 2] / metres_per_unit
    prefix = "camera_keyframe"
    _write_hdf5(detail / f"{prefix}_frame_indices.hdf5", np.arange(len(frames), dtype=np.int64))
    _write_hdf5(detail / f"{prefix}_orientations.hdf5", poses[:, :3, :3] @ _FLIP)
    _write_hdf5(detail / f"{prefix}_positions.hdf5", places)
    _write_hdf5(detail / f"{prefix}_look_at_positions.hdf5", ahead)
    rows = [["parameter_name", "parameter_value"], ["meters_per_asset_unit", metres_per_unit]]
    _write_csv(folder / "_detail" / "metadata_scene.csv", rows)
    _write_csv(folder / "_detail" / "metadata_cameras.csv", [["camera_name"], [CAMERA]])


def write_metadata(
    root: Path, scenes: Sequence[str], *, frames: int, camera: Camera, units: Sequence[float]
) -> None:
    """The two tables beside the scenes: the split, and every scene's projection.

    Args:
        root: the folder that holds the scenes.
        scenes: their names.
        frames: of each scene.
        camera: any of them; they differ in pose only.
        units: metres per asset unit, a scene each.
    """
    header = ["scene_name", "camera_name", "frame_id", "included_in_public_release"]
    rows: list[list[object]] = [[*header, "exclude_reason", "split_partition_name"]]
    for index, scene in enumerate(scenes):
        part = {18: "val", 19: "test"}.get(index % 20, "train")
        rows += [[scene, CAMERA, frame, True, "", part] for frame in range(frames)]
    _write_csv(root / _SPLIT, rows)
    cam_from_uv, projection = _projection(camera)
    cells = [f"{row}{column}" for row in range(3) for column in range(3)]
    header = ["scene_name", "settings_output_img_width", "settings_output_img_height"]
    header += ["settings_units_info_meters_scale", *(f"M_cam_from_uv_{cell}" for cell in cells)]
    header += [f"M_proj_{row}{column}" for row in range(4) for column in range(4)]
    rows = [list(header)]
    numbers = [*cam_from_uv.ravel().tolist(), *projection.ravel().tolist()]
    for scene, unit in zip(scenes, units, strict=True):
        rows.append([scene, camera.width, camera.height, unit, *numbers])
    _write_csv(root / _PARAMETERS, rows)


def _write_frame(images: Path, index: int, frame: Frame) -> None:
    final, geometry = (
        images / f"scene_{CAMERA}_final_hdf5",
        images / f"scene_{CAMERA}_geometry_hdf5",
    )
    name = f"frame.{index:04d}"
    distance = np.where(frame.hit, ray_distance(frame), np.nan)
    colour = np.where(frame.hit[..., None], np.minimum(frame.radiance, 6e4), np.nan)
    entity = np.where(frame.hit, 1, -1).astype(np.int32)  # shapes are not told apart
    _write_hdf5(final / f"{name}.color.hdf5", colour.astype(np.float16))
    _write_hdf5(geometry / f"{name}.depth_meters.hdf5", distance.astype(np.float16))
    _write_hdf5(geometry / f"{name}.render_entity_id.hdf5", entity)


def ray_distance(frame: Frame) -> Float[np.ndarray, "h w"]:
    """Distance along the ray through each pixel's centre; infinite where nothing is hit."""
    return np.where(frame.hit, frame.depth * stretch(frame.camera), np.inf)


def _projection(camera: Camera) -> tuple[np.ndarray, np.ndarray]:
    """`M_cam_from_uv` and the OpenGL matrix, near 1 and far 1000 asset units."""
    right = math.tan(math.radians(camera.fov_x / 2))
    up = right * camera.height / camera.width
    near, far = 1.0, 1000.0
    projection = np.zeros((4, 4))
    projection[0, 0], projection[1, 1], projection[3, 2] = 1 / right, 1 / up, -1.0
    projection[2, 2:] = (far + near) / (near - far), 2 * far * near / (near - far)
    return np.diag([right, up, -1.0]), projection


def _write_hdf5(path: Path, values: np.ndarray) -> None:
    """One dataset named `dataset`, gzip, without times, so that equal values are equal bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file.create_dataset("dataset", data=values, compression="gzip", track_times=False)


def _write_csv(path: Path, rows: Sequence[Sequence[object]]) -> None:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    atomic.write_text(path, text.getvalue())
