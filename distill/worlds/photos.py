"""The `photos` world: the domain to transfer to. Nothing here stands in `indoor` or `street`.

Still lifes, halls of columns and arches, alleys, hills and yards of stacked things; textures of
families of its own; any height, field of view and format; hard light, and little of it.
"""

import math
from dataclasses import replace

import numpy as np

from distill.worlds import meshes, textures
from distill.worlds.curios import clutter, curio, growth, stairs, surface
from distill.worlds.scene import (
    Camera,
    Light,
    Number,
    Scene,
    Shape,
    Vector,
    box,
    can,
    look_at,
    pane,
    pose,
    rod,
    solid,
)


def compose(rng: np.random.Generator, *, size: int, views: int) -> Scene:
    """One place of one of the kinds below; the short side of every image is `size` pixels."""
    kind = (still_life, hall, alley, hills, yard)[rng.integers(5)]
    scene = kind(rng, views)
    cameras = tuple(_format(rng, camera, size) for camera in scene.cameras)
    return replace(scene, cameras=cameras)


def still_life(rng: np.random.Generator, views: int) -> Scene:
    """Vases, rings, balls and piles on a table in front of a backdrop, seen from near."""
    shapes: list[Shape] = []
    wide = rng.uniform(0.8, 1.4)
    shapes += can((0, 0, 0.7), wide, 0.06, surface(rng))
    shapes.append(pane((0, 0, 0), (0, 0, 1), 12, 12, surface(rng, repeat=6)))
    for angle in rng.uniform(0, 2 * math.pi) + np.array([0, 1.7, 3.5]):
        far = rng.uniform(1.8, 4.0)
        wall = (far * math.cos(angle), far * math.sin(angle), 1.5)
        normal = (-math.cos(angle), -math.sin(angle), 0)
        shapes.append(pane(wall, normal, 8, 5, surface(rng, repeat=3)))
    for _ in range(int(rng.integers(5, 14))):
        angle, away = rng.uniform(0, 2 * math.pi), wide * math.sqrt(rng.uniform(0, 0.8))
        base = (away * math.cos(angle), away * math.sin(angle), 0.76)
        shapes += curio(rng, base, rng.uniform(0.05, 0.17))
    cameras = tuple(
        _orbit(rng, rng.uniform(0.9, 1.7), (0.1, 0.9), (0, 0, 0.85), wide) for _ in range(views)
    )
    return Scene(shapes=tuple(shapes), lights=hard_light(rng, 2.5, 1.2), cameras=cameras)


def hall(rng: np.random.Generator, views: int) -> Scene:
    """Two rows of columns or arches, a floor with steps, statues of rings and lumps."""
    across, apart, high = rng.uniform(2.5, 5), rng.uniform(1.8, 3.5), rng.uniform(3, 6)
    stone, count = surface(rng), int(rng.integers(4, 8))
    shapes = [pane((0, 0, 0), (0, 0, 1), 60, 60, surface(rng, repeat=20))]
    arched = rng.uniform() < 0.5
    for n in range(count):
        x = (n - count / 2) * apart
        for side in (-1, 1):
            y = side * across / 2
            if arched:
                span = meshes.arch(0.8 * apart, high, 0.3)
                shapes.append(solid(span, stone, pose((x + apart / 2, y, 0))))
            else:
                waist = rng.uniform(0.14, 0.3)
                profile = [(0.4, 0), (0.4, 0.2), (waist, 0.4), (0.8 * waist, high - 0.3)]
                shapes.append(solid(meshes.lathe([*profile, (0.45, high)]), stone, pose((x, y, 0))))
        if rng.uniform() < 0.5:
            size = rng.uniform(0.15, 0.45)
            shapes += curio(rng, (x, rng.uniform(-0.3, 0.3) * across, 0), size)
    shapes += stairs(rng, (count / 2 * apart + 0.5, 0.0, 0.0), across)
    if rng.uniform() < 0.6:
        shapes.append(box((0, 0, high + 0.2), (count * apart + 6, across + 1.4, 0.4), surface(rng)))
        back = rng.uniform(1.5, 4)
        for side in (-1, 1):
            y = side * (across / 2 + back)
            shapes.append(pane((0, y, 3), (0, -side, 0), 50, 9, surface(rng, repeat=8)))
    reach = 0.42 * count * apart
    cameras = tuple(
        _between(rng, (reach, 0.35 * across), (0.25, 2.4), look=(reach, 0.2 * across, 1.2))
        for _ in range(views)
    )
    return Scene(shapes=tuple(shapes), lights=hard_light(rng, 5, 3), cameras=cameras)


def alley(rng: np.random.Generator, views: int) -> Scene:
    """A narrow lane between slanted walls: niches, barrels, bollards, cables, an arch."""
    half, end = rng.uniform(1.2, 3.0), rng.uniform(15, 45)
    shapes = [pane((end / 2, 0, 0), (0, 0, 1), end + 40, 60, surface(rng, repeat=30))]
    for side in (-1, 1):
        x = -6.0
        while x < end:
            wide, high, out = rng.uniform(2, 7), rng.uniform(2, 9), rng.uniform(0, 1.2)
            lean = rng.uniform(-0.06, 0.06)
            y = side * (half + 2 + out)
            shapes.append(
                box((x + wide / 2, y, high / 2), (wide, 4, high), surface(rng, repeat=3), yaw=lean)
            )
            x += wide + (rng.uniform(0.5, 2.5) if rng.uniform() < 0.3 else 0)
    for _ in range(int(rng.integers(4, 14))):
        side = rng.choice((-1, 1))
        base = (rng.uniform(1, end), side * rng.uniform(0.55, 0.95) * half, 0)
        shapes += clutter(rng, base)
    for _ in range(int(rng.integers(0, 5))):
        x, z = rng.uniform(3, end), rng.uniform(2.5, 5)
        shapes.append(rod((x, -half - 1, z), (x + 1, half + 1, z + 0.3), 0.02, surface(rng)))
    if rng.uniform() < 0.5:
        span = meshes.arch(2.1 * half, rng.uniform(2.6, 4), 0.5)
        at = pose((rng.uniform(4, end), 0, 0), yaw=math.pi / 2)
        shapes.append(solid(span, surface(rng), at))
    cameras = tuple(
        _between(rng, (1.5, 0.5 * half), (0.4, 3.0), look=(8, 0.5 * half, 1.2), ahead=6)
        for _ in range(views)
    )
    return Scene(shapes=tuple(shapes), lights=daylight(rng), cameras=cameras)


def hills(rng: np.random.Generator, views: int) -> Scene:
    """Rough land with boulders, bushes, standing stones and a fence; much sky."""
    extent = rng.uniform(20, 60)
    relief = rng.uniform(0.03, 0.14) * extent
    heights = relief * (textures.fractal(rng, size=64, slope=rng.uniform(2.0, 2.8)) - 0.5)
    ground = solid(meshes.terrain(heights, extent), surface(rng, repeat=extent / 3))
    shapes = [ground]
    for _ in range(int(rng.integers(15, 50))):
        x, y = rng.uniform(-0.7, 0.7, 2) * extent * rng.uniform(0.1, 1)
        shapes += growth(rng, (float(x), float(y), _height(heights, extent, x, y)))
    start, heading = rng.uniform(-0.2, 0.2, 2) * extent, rng.uniform(0, 2 * math.pi)
    post, last = surface(rng), None
    for n in range(int(rng.integers(0, 14))):
        x, y = start + n * 1.6 * np.array([math.cos(heading), math.sin(heading)])
        z = _height(heights, extent, x, y)
        shapes.append(rod((x, y, z - 0.2), (x, y, z + 1), 0.05, post))
        if last is not None:
            shapes.append(rod((*last[:2], last[2] + 0.8), (x, y, z + 0.8), 0.03, post))
        last = (float(x), float(y), z)
    cameras = []
    for _ in range(views):
        x, y = rng.uniform(-0.4, 0.4, 2) * extent
        z = _height(heights, extent, x, y) + rng.uniform(0.4, 4)
        target = (
            rng.uniform(-0.3, 0.3) * extent,
            rng.uniform(-0.3, 0.3) * extent,
            z - rng.uniform(-1, 3),
        )
        cameras.append(_camera(rng, (x, y, z), target))
    return Scene(shapes=tuple(shapes), lights=daylight(rng), cameras=tuple(cameras))


def yard(rng: np.random.Generator, views: int) -> Scene:
    """Piles of barrels, pipes, tyres and lumps on a floor, walled in on some sides."""
    reach = rng.uniform(2.5, 8)
    shapes = [pane((0, 0, 0), (0, 0, 1), 80, 80, surface(rng, repeat=25))]
    for angle in np.arange(0, 2 * math.pi, math.pi / 2) + rng.uniform(0, 1):
        if rng.uniform() < 0.75:
            far = reach * rng.uniform(1.2, 1.9)
            at = (far * math.cos(angle), far * math.sin(angle), 2)
            normal = (-math.cos(angle), -math.sin(angle), 0)
            shapes.append(pane(at, normal, 4 * reach, rng.uniform(4, 9), surface(rng, repeat=6)))
    for _ in range(int(rng.integers(12, 32))):
        x, y = rng.uniform(-reach, reach, 2)
        shapes += (
            clutter(rng, (float(x), float(y), 0))
            if rng.uniform() < 0.7
            else curio(rng, (float(x), float(y), 0), rng.uniform(0.15, 0.5))
        )
    covered = rng.uniform() < 0.5
    if covered:
        roof = rng.uniform(3, 5)
        shapes.append(box((0, 0, roof), (4 * reach, 4 * reach, 0.1), surface(rng, repeat=8)))
        for x in np.arange(-reach, reach + 0.1, 2.5):
            shapes.append(
                rod((x, -2 * reach, roof - 0.3), (x, 2 * reach, roof - 0.3), 0.08, surface(rng))
            )
    cameras = tuple(
        _orbit(rng, rng.uniform(0.6, 1.2) * reach, (-0.05, 0.6), (0, 0, 0.6), 0.6 * reach)
        for _ in range(views)
    )
    lights = hard_light(rng, reach, 2.6) if covered else daylight(rng)
    return Scene(shapes=tuple(shapes), lights=lights, cameras=cameras)


def hard_light(rng: np.random.Generator, reach: float, height: float) -> tuple[Light, ...]:
    """One to three bare bulbs of clashing colours and a weak sky."""
    lights = []
    for _ in range(int(rng.integers(1, 4))):
        x, y = (float(v) for v in rng.uniform(-reach, reach, 2))
        place = (x, y, height * float(rng.uniform(0.8, 1.3)))
        r, g, b = (float(v) for v in rng.uniform(0.5, 1.0, 3) * reach**2 * rng.uniform(0.5, 3))
        lights.append(Light(kind="point", colour=(r, g, b), place=place))
    r, g, b = (float(v) for v in rng.uniform(0.02, 0.25) * rng.uniform(0.5, 1.0, 3))
    return (*lights, Light(kind="sky", colour=(r, g, b)))


def daylight(rng: np.random.Generator) -> tuple[Light, ...]:
    """A low or high sun, from noon to dusk, under a clear or a pale sky."""
    heading, height = rng.uniform(0, 2 * math.pi), math.radians(rng.uniform(5, 75))
    flat = -math.cos(height)
    direction = (flat * math.cos(heading), flat * math.sin(heading), -math.sin(height))
    sun, warm, sky = rng.uniform(0, 6), rng.uniform(0.3, 1.0), rng.uniform(0.2, 1.2)
    pale = rng.uniform(0.3, 1.0)
    return (
        Light(kind="sun", colour=(sun, sun * (0.4 + 0.6 * warm), sun * warm), place=direction),
        Light(
            kind="sky", colour=(sky * pale, sky * (0.3 + 0.7 * pale), sky), horizon=(sky, sky, sky)
        ),
    )


def _orbit(
    rng: np.random.Generator,
    away: float,
    elevation: tuple[float, float],
    centre: Vector,
    spread: float,
) -> Camera:
    """Around `centre`, looking at a point near it; elevation in radians."""
    turn, up = rng.uniform(0, 2 * math.pi), rng.uniform(*elevation)
    away *= rng.uniform(0.8, 1.6)
    place = np.asarray(centre) + away * np.array(
        [math.cos(turn) * math.cos(up), math.sin(turn) * math.cos(up), math.sin(up)]
    )
    shift = rng.uniform(-0.4, 0.4, 2) * spread
    target = (centre[0] + shift[0], centre[1] + shift[1], centre[2] + rng.uniform(-0.2, 0.3))
    return _camera(rng, place, target)


def _between(
    rng: np.random.Generator,
    reach: tuple[float, float],
    heights: tuple[float, float],
    *,
    look: tuple[Number, float, float],
    ahead: Number = 0,
) -> Camera:
    """Within +-`reach`, towards a point within +-`look` that lies `ahead` along x."""
    x, y = rng.uniform(-1, 1, 2) * reach
    a, b = rng.uniform(-1, 1, 2) * look[:2]
    return _camera(rng, (x, y, rng.uniform(*heights)), (a + ahead, b, look[2]))


def _camera(rng: np.random.Generator, place: Vector, target: Vector) -> Camera:
    """A lens at random: wide to long, sometimes wide open, held not quite level."""
    away = float(np.linalg.norm(np.asarray(target) - np.asarray(place)))
    open_ = rng.uniform() < 0.5
    return Camera(
        width=1,
        height=1,
        fov_x=float(rng.uniform(38, 85)),
        world_from_cam=look_at(place, target, roll=rng.normal(0, 0.07)),
        aperture=away * float(rng.uniform(0.004, 0.02)) if open_ else 0.0,
        focus=away * float(rng.uniform(0.6, 1.2)),
    )


def _format(rng: np.random.Generator, camera: Camera, size: int) -> Camera:
    """Landscape 4:3 or portrait 3:4; the field of view belongs to the long side."""
    long = 2 * round(size * 4 / 6)
    if rng.uniform() < 0.7:
        return replace(camera, width=long, height=size)
    across = 2 * math.degrees(math.atan(math.tan(math.radians(camera.fov_x / 2)) * size / long))
    return replace(camera, width=size, height=long, fov_x=across)


def _height(heights: np.ndarray, extent: float, x: float, y: float) -> float:
    """The terrain's height at (x, y), between the four samples around."""
    n = len(heights) - 1
    u, v = (x + extent) / (2 * extent) * n, (y + extent) / (2 * extent) * n
    j, i = int(np.clip(u, 0, n - 1)), int(np.clip(v, 0, n - 1))
    a, b = u - j, v - i
    top = (1 - a) * heights[i, j] + a * heights[i, j + 1]
    return float((1 - b) * top + b * ((1 - a) * heights[i + 1, j] + a * heights[i + 1, j + 1]))
