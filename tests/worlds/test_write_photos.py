"""Held-out photographs: depth in 1/256 m, 0 where there is none."""

import imagecodecs
import numpy as np

from distill.worlds.render import Frame
from distill.worlds.scene import Camera
from distill.worlds.write_photos import jpeg, measured, write_evaluation


def frame() -> Frame:
    depth = np.array([[0.5, 2.0, 255.9], [300.0, 0.0, 7.25]], dtype=np.float32)
    camera = Camera(width=3, height=2, fov_x=60.0, world_from_cam=np.eye(4))
    radiance = np.zeros((2, 3, 3), dtype=np.float32)
    return Frame(camera=camera, radiance=radiance, depth=depth, hit=depth > 0)


def test_depth_beyond_the_format_is_not_wrapped():
    assert measured(frame()).tolist() == [[128, 512, 65510], [0, 0, 1856]]


def test_a_photo_and_its_depth_share_a_name(tmp_path):
    photo = jpeg(np.full((2, 3, 3), 90, dtype=np.uint8), quality=80)
    write_evaluation(tmp_path, "a", photo, frame())
    stored = imagecodecs.jpeg_decode((tmp_path / "rgb" / "a.jpg").read_bytes())
    assert stored.shape == (2, 3, 3)
    raw = imagecodecs.png_decode((tmp_path / "depth" / "a.png").read_bytes())
    np.testing.assert_array_equal(raw, measured(frame()))
