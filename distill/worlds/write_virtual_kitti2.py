"""Frames -> Virtual KITTI 2's files (Cabon et al. 2020).

Depth is planar, centimetres in uint16 PNG, 65535 for the sky and everything beyond 655.34 m.
"""

from collections.abc import Sequence
from pathlib import Path

import imagecodecs
import numpy as np
from jaxtyping import UInt8, UInt16

from distill.worlds.render import Frame

_SKY = 65535
_QUALITY = 92


def write_variation(
    folder: Path,
    frames: Sequence[Sequence[Frame]],
    pictures: Sequence[Sequence[UInt8[np.ndarray, "h w 3"]]],
) -> None:
    """`SceneXX/<variation>`: for each frame, the pair of Camera_0 and Camera_1.

    Raises:
        ValueError: a frame is not a pair.
    """
    intrinsics = ["frame cameraID K[0,0] K[1,1] K[0,2] K[1,2]"]
    rotation = [f"r{row},{column}" for row in (1, 2, 3) for column in (1, 2, 3)]
    titles = [*rotation[:3], "t1", *rotation[3:6], "t2", *rotation[6:], "t3", "0 0 0 1"]
    extrinsics = ["frame cameraID " + " ".join(titles)]
    for number, (pair, shown) in enumerate(zip(frames, pictures, strict=True)):
        if len(pair) != 2:
            raise ValueError(
                f"{folder}: frame {number} has {len(pair)} views; a Virtual KITTI 2 frame has one "
                "of Camera_0 and one of Camera_1"
            )
        for camera, (frame, picture) in enumerate(zip(pair, shown, strict=True)):
            _write_view(folder / "frames", number, camera, frame, picture)
            intrinsics.append(f"{number} {camera} {_intrinsics(frame)}")
            pose = np.linalg.inv(frame.camera.world_from_cam)
            extrinsics.append(f"{number} {camera} " + " ".join(f"{v:.9g}" for v in pose.ravel()))
    (folder / "intrinsic.txt").write_text("\n".join(intrinsics) + "\n")
    (folder / "extrinsic.txt").write_text("\n".join(extrinsics) + "\n")


def centimetres(frame: Frame) -> UInt16[np.ndarray, "h w"]:
    """Planar depth as stored; what lies too far to be stored is sky."""
    values = np.where(frame.hit, np.round(frame.depth.astype(np.float64) * 100), _SKY)
    return np.clip(values, 0, _SKY).astype(np.uint16)


def _write_view(
    frames: Path, number: int, camera: int, frame: Frame, picture: UInt8[np.ndarray, "h w 3"]
) -> None:
    rgb = frames / "rgb" / f"Camera_{camera}" / f"rgb_{number:05d}.jpg"
    depth = frames / "depth" / f"Camera_{camera}" / f"depth_{number:05d}.png"
    for path in (rgb, depth):
        path.parent.mkdir(parents=True, exist_ok=True)
    rgb.write_bytes(imagecodecs.jpeg_encode(picture, level=_QUALITY))
    depth.write_bytes(imagecodecs.png_encode(centimetres(frame)))


def _intrinsics(frame: Frame) -> str:
    """Focal lengths and principal point; (0, 0) is the centre of the first pixel."""
    camera = frame.camera
    f = f"{camera.focal:.9g}"
    return f"{f} {f} {(camera.width - 1) / 2:.9g} {(camera.height - 1) / 2:.9g}"
