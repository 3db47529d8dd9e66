"""Depth and light against closed forms, at sizes that render in milliseconds."""

import math
import sys

import numpy as np
import pytest
import scenes
import torch

from distill.worlds import meshes
from distill.worlds.render import Renderer, points, stretch
from distill.worlds.scene import (
    Camera,
    Light,
    Material,
    Scene,
    Shape,
    ball,
    box,
    can,
    look_at,
    pane,
    rod,
    solid,
)

WIDTH, HEIGHT = 32, 24
GREY = Material(colour=(0.5, 0.5, 0.5))
SKY = Light(kind="sky", colour=(1.0, 1.0, 1.0))


def camera(place=(0.0, 0.0, 0.0), target=(0.0, 1.0, 0.0), **kwargs) -> Camera:
    return Camera(
        width=WIDTH, height=HEIGHT, fov_x=60.0, world_from_cam=look_at(place, target), **kwargs
    )


def render(*shapes: Shape, lights=(SKY,), view: Camera | None = None, samples: int = 4):
    renderer = Renderer(Scene(shapes=shapes, lights=tuple(lights)))
    return renderer.render(view or camera(), samples=samples, seed=1)


def world(opencv: tuple[float, float, float]) -> tuple[float, float, float]:
    """The world coordinates of a point or direction in the axes of `camera()`, at the origin."""
    x, y, z = opencv
    return x, z, -y


def test_plane_is_exact_to_float32():
    normal, distance = (0.3, -0.2, -1.0), 6.0
    truth = scenes.plane(
        HEIGHT, WIDTH, scenes.pinhole(HEIGHT, WIDTH), normal=normal, distance=distance
    )
    unit = np.asarray(world(normal)) / np.linalg.norm(normal)
    frame = render(pane(-distance * unit, unit, 60.0, 60.0, GREY))
    assert frame.hit.all()
    np.testing.assert_allclose(frame.depth, truth.depth.numpy(), rtol=2e-6)


@pytest.mark.parametrize("focus", [None, 2.0])
def test_sphere_is_exact_even_out_of_focus(focus: float | None):
    centre, radius = (0.5, -0.3, 4.0), 1.1
    K = scenes.pinhole(HEIGHT, WIDTH)
    truth = scenes.sphere(HEIGHT, WIDTH, K, centre=centre, radius=radius)
    view = camera(aperture=0.2, focus=focus) if focus else camera()
    frame = render(ball(world(centre), radius, GREY), view=view)
    valid = truth.valid.numpy()
    np.testing.assert_array_equal(frame.hit, valid)
    np.testing.assert_allclose(frame.depth[valid], truth.depth.numpy()[valid], rtol=2e-5)
    assert not frame.depth[~valid].any()


def test_points_are_those_of_the_closed_form():
    K = scenes.pinhole(HEIGHT, WIDTH)
    truth = scenes.plane(HEIGHT, WIDTH, K, normal=(0.1, 0.2, -1.0), distance=3.0)
    found = points(camera(), truth.depth.float().numpy())
    torch.testing.assert_close(
        torch.from_numpy(found).permute(2, 0, 1).double(), truth.points, rtol=1e-5, atol=1e-5
    )
    np.testing.assert_allclose(
        stretch(camera()), (truth.ray_distance / truth.depth).numpy(), rtol=1e-6
    )


@pytest.mark.parametrize(
    "material",
    [
        Material(kind="glass"),
        Material(kind="metal", colour=(0.9, 0.9, 0.9), roughness=0.0),
        Material(kind="plastic"),
        Material(kind="light", colour=(3.0, 3.0, 3.0)),
    ],
    ids=["glass", "mirror", "plastic", "lamp"],
)
def test_depth_is_that_of_the_surface_whatever_it_shows(material: Material):
    wall = pane((0, 5, 0), (0, -1, 0), 50.0, 50.0, GREY)
    frame = render(pane((0, 2, 0), (0, -1, 0), 50.0, 50.0, material), wall)
    np.testing.assert_allclose(frame.depth, 2.0, rtol=1e-6)


def test_glass_shows_what_is_behind_and_a_mirror_what_is_in_front():
    red, blue = Material(colour=(0.9, 0.02, 0.02)), Material(colour=(0.02, 0.02, 0.9))
    behind, front = (
        pane((0, 5, 0), (0, -1, 0), 50, 50, red),
        pane((0, -5, 0), (0, 1, 0), 50, 50, blue),
    )
    for material, brighter in (
        (Material(kind="glass"), 0),
        (Material(kind="metal", colour=(0.9, 0.9, 0.9), roughness=0.0), 2),
    ):
        sheet = pane((0, 2, 0), (0, -1, 0), 50, 50, material)
        mean = render(sheet, behind, front).radiance.mean(axis=(0, 1))
        assert mean.argmax() == brighter


def test_each_primitive_stands_where_it_was_put():
    view = camera((0, -10, 0.5), (0, 0, 0.5))
    middle = (slice(10, 14), slice(14, 18))
    cylinder = rod((0, 0, -9), (0, 0, 9), 1.0, GREY)
    for shape, near in (
        ((box((0, 0, 0.5), (2, 2, 9), GREY),), 9.0),
        ((box((0, 0, 0.5), (2, 2, 9), GREY, yaw=math.pi / 4),), 10 - math.sqrt(2)),
        ((cylinder,), 9.0),
        (can((0, 0, -9), 1.0, 18.0, GREY), 9.0),
        ((solid(meshes.lathe([(1.0, -9.0), (1.0, 9.0)], sides=64), GREY),), 9.0),
    ):
        depth = render(*shape, view=view).depth[middle]
        assert abs(depth.min() - near) < 0.2, (shape[0].kind, depth.min())


def test_the_light_of_the_sky_is_the_albedo_of_a_lone_plane():
    floor = pane((0, 0, -1), (0, 0, 1), 900, 900, Material(colour=(0.5, 0.25, 0.1)))
    frame = render(floor, view=camera((0, 0, 0), (0, 1, -0.8)), samples=16)
    assert frame.hit.all()
    np.testing.assert_allclose(frame.radiance.mean(axis=(0, 1)), (0.5, 0.25, 0.1), rtol=0.05)


def test_a_gradient_sky_is_dark_below_and_its_zenith_above():
    sky = Light(kind="sky", colour=(0.0, 0.0, 1.0), horizon=(1.0, 0.0, 0.0))
    far = ball((500, -500, 0), 0.1, GREY)
    above = render(far, lights=(sky,), view=camera(target=(0, 0.1, 1.0))).radiance
    level = render(far, lights=(sky,), view=camera(target=(0, 1.0, 0.02))).radiance
    assert above[..., 2].mean() > 0.8 > 0.2 > above[..., 0].mean()
    assert level[..., 0].mean() > level[..., 2].mean()


def test_equal_seeds_are_equal_bits_and_others_are_not():
    shapes = (ball((0, 4, 0), 1.0, GREY), pane((0, 6, 0), (0, -1, 0), 20, 20, GREY))
    renderer = Renderer(Scene(shapes=shapes, lights=(SKY,)))
    first, second, other = (renderer.render(camera(), samples=2, seed=s) for s in (5, 5, 6))
    np.testing.assert_array_equal(first.radiance, second.radiance)
    assert (first.radiance != other.radiance).any()
    np.testing.assert_array_equal(first.depth, other.depth)


def test_without_mitsuba_the_extra_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "mitsuba", None)
    with pytest.raises(ImportError, match=r"distill\[worlds\]"):
        Renderer(Scene(shapes=(), lights=()))
