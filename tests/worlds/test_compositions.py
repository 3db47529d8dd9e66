"""The three worlds: pure functions of their generator, seen from open places."""

import numpy as np
import pytest

from distill.worlds import indoor, meshes, photos, street, textures
from distill.worlds.render import Renderer
from distill.worlds.scene import Camera, Light, Scene, look_at, pane
from distill.worlds.views import choose


@pytest.mark.parametrize("world", [indoor, photos], ids=["indoor", "photos"])
@pytest.mark.parametrize("seed", range(12))
def test_views_are_open(world, seed: int):
    scene = world.compose(np.random.default_rng(seed), size=24, views=15)
    renderer = Renderer(scene)
    for camera in choose(renderer, scene.cameras, 3, nearest=0.35):
        depth, hit = renderer.depth(camera)
        assert min(camera.width, camera.height) == 24
        assert hit.mean() > 0.2
        assert np.median(depth[hit]) > 0.5
        assert depth[hit].min() > 0.1


@pytest.mark.parametrize("seed", range(6))
def test_the_drive_stays_on_the_road(seed: int):
    city = street.compose(np.random.default_rng(seed), size=24, frames=4)
    for name in ("clone", "30-deg-left", "30-deg-right"):
        scene = street.lit(city, street.VARIATIONS[name])
        renderer = Renderer(scene)
        for camera in scene.cameras:
            depth, hit = renderer.depth(camera)
            assert depth[hit].min() > 0.5
            assert np.median(depth[hit]) > 1


def test_weather_changes_the_light_only():
    city = street.compose(np.random.default_rng(0), size=24, frames=1)
    clone, fog = (street.lit(city, street.VARIATIONS[name]) for name in ("clone", "fog"))
    assert clone.shapes is fog.shapes
    for a, b in zip(clone.cameras, fog.cameras, strict=True):
        np.testing.assert_array_equal(a.world_from_cam, b.world_from_cam)


@pytest.mark.parametrize("world", [indoor, photos], ids=["indoor", "photos"])
def test_equal_generators_compose_equal_scenes(world):
    first, second = (world.compose(np.random.default_rng(7), size=24, views=4) for _ in range(2))
    assert len(first.shapes) == len(second.shapes)
    for a, b in zip(first.shapes, second.shapes, strict=True):
        np.testing.assert_array_equal(a.pose, b.pose)
    for a, b in zip(first.cameras, second.cameras, strict=True):
        np.testing.assert_array_equal(a.world_from_cam, b.world_from_cam)


def test_the_domains_share_no_texture_family():
    assert not set(textures.SYNTHETIC) & set(textures.REAL)


@pytest.mark.parametrize("family", [*textures.SYNTHETIC, *textures.REAL, textures.windows])
def test_textures_are_reflectances(family):
    rng = np.random.default_rng(0)
    texture = family(rng, textures.colour(rng), textures.colour(rng))
    assert texture.shape == (textures.SIZE, textures.SIZE, 3)
    assert 0.0 < texture.min() <= texture.max() < 1.0


def test_a_blocked_view_comes_last_and_too_few_are_refused():
    wall = pane((0, 9, 0), (0, -1, 0), 90, 90, indoor.Material())
    near = pane((50, 0.2, 0), (0, -1, 0), 9, 9, indoor.Material())
    renderer = Renderer(
        Scene(shapes=(wall, near), lights=(Light(kind="sky", colour=(1.0, 1.0, 1.0)),))
    )
    blocked, first, second = (
        Camera(width=32, height=24, fov_x=60.0, world_from_cam=look_at((x, 0, 0), (x, 1, 0)))
        for x in (50.0, 0.0, 1.0)
    )
    views = choose(renderer, [blocked, first, second], 2, nearest=0.35)
    assert views == [first, second]
    with pytest.raises(ValueError, match="2 views wanted of a scene with 1"):
        choose(renderer, [first], 2, nearest=0.35)


@pytest.mark.parametrize(
    "mesh",
    [
        meshes.lathe([(0.0, 0.0), (1.0, 0.5), (0.0, 1.0)]),
        meshes.lathe([(0.5, 0.0), (0.3, 2.0)]),
        meshes.torus(1.0, 0.3),
        meshes.blob(np.random.default_rng(0)),
        meshes.roof(4.0, 3.0, 1.0),
        meshes.arch(2.0, 3.0, 0.3),
    ],
    ids=["closed", "open", "torus", "blob", "roof", "arch"],
)
def test_meshes_face_outwards(mesh: meshes.Mesh):
    a, b, c = np.moveaxis(mesh.vertices[mesh.faces], 1, 0)
    volume = (a * np.cross(b, c)).sum()
    assert volume > 0
    assert len(mesh.uv) == len(mesh.vertices)


def test_terrain_faces_the_sky():
    mesh = meshes.terrain(np.random.default_rng(0).uniform(0, 1, (8, 8)), 10.0)
    a, b, c = np.moveaxis(mesh.vertices[mesh.faces], 1, 0)
    assert (np.cross(b - a, c - a)[:, 2] > 0).all()
