"""The `street` world: a road between houses and trees, in several weathers.

Seen from cars, lorries and bicycles, for what sees every street from one height and level learns
where things lie in the picture instead of what they look like.

A scene's geometry and drive are fixed; a variation changes light and weather or turns the camera,
as in Virtual KITTI 2 (Gaidon et al. 2016, Cabon et al. 2020).
"""

import math
from dataclasses import dataclass, replace

import numpy as np

from distill.worlds import furniture, meshes, textures
from distill.worlds.scene import (
    Camera,
    Light,
    Material,
    Scene,
    Shape,
    ball,
    box,
    local,
    look_at,
    pane,
    pose,
    rod,
    solid,
)

Triple = tuple[float, float, float]

BASELINE = 0.532725  # metres between the two cameras
FOV_X = 75.0  # degrees


@dataclass(frozen=True, kw_only=True)
class Weather:
    """How a variation differs from the clone.

    Attributes:
        sun: irradiance factor; sky: radiance factor.
        tint: of the sunlight.
        height: of the sun above the horizon, degrees; None keeps the scene's own.
        haze: extinction, 1/m; the image fades into the horizon's colour with distance.
        turn: of the camera to the left, degrees.
    """

    sun: float = 1.0
    sky: float = 1.0
    tint: tuple[float, float, float] = (1.0, 0.95, 0.85)
    height: float | None = None
    haze: float = 0.0
    turn: float = 0.0


VARIATIONS = {
    "clone": Weather(),
    "15-deg-left": Weather(turn=15.0),
    "fog": Weather(sun=0.05, sky=1.0, haze=0.03),
    "15-deg-right": Weather(turn=-15.0),
    "morning": Weather(sun=0.8, sky=0.6, tint=(1.0, 0.85, 0.6), height=18.0),
    "30-deg-left": Weather(turn=30.0),
    "overcast": Weather(sun=0.02, sky=1.2),
    "30-deg-right": Weather(turn=-30.0),
    "sunset": Weather(sun=0.7, sky=0.4, tint=(1.0, 0.6, 0.3), height=8.0),
    "rain": Weather(sun=0.02, sky=0.5, haze=0.006),
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Street:
    """Geometry, the drive, and the sun of the clone.

    Attributes:
        drive: `world_from_cam` of Camera_0, a frame each.
        sun: its heading and its height above the horizon, radians.
    """

    shapes: tuple[Shape, ...]
    drive: tuple[Camera, ...]
    sun: tuple[float, float]
    strength: float


def compose(
    rng: np.random.Generator, *, size: int, frames: int, steady: float | None = None
) -> Street:
    """A straight or bending road, driven along in `frames` steps; images `size` pixels high.

    Steps are of `steady` metres; by default of 5 to 9, with a camera that shakes.
    """
    shake = 1.0 if steady is None else 0.0
    step = rng.uniform(5.0, 9.0) if steady is None else steady
    end = step * frames + rng.uniform(50, 110)
    bend = rng.uniform(-0.004, 0.004) if rng.uniform() < 0.6 else 0.0
    half = rng.uniform(3.8, 6.0)
    shapes = _ground(rng, end, half, bend)
    for side in (-1.0, 1.0):
        shapes += _roadside(rng, side, end, half, bend)
    shapes += _cars(rng, end, half, bend)
    shapes += _verge(rng, end, half, bend)
    where = rng.uniform(0.1, 0.35) * half, bend, rng.uniform(0.7, 3.5)
    aim = rng.normal(0, 0.25), rng.normal(-0.05, 0.12), rng.normal(0, 0.05)
    drive = tuple(_camera(rng, n * step, where, aim, shake, size) for n in range(frames))
    sun = (rng.uniform(0, 2 * math.pi), math.radians(rng.uniform(25, 65)))
    return Street(shapes=tuple(shapes), drive=drive, sun=sun, strength=float(rng.uniform(1.5, 4.0)))


def lit(street: Street, weather: Weather) -> Scene:
    """`street` in this weather, with the cameras turned: Camera_0, Camera_1, frame by frame."""
    heading, height = street.sun
    height = height if weather.height is None else math.radians(weather.height)
    level = -math.cos(height)
    direction = (level * math.cos(heading), level * math.sin(heading), -math.sin(height))
    r, g, b = (street.strength * weather.sun * c for c in weather.tint)
    lights = [
        Light(
            kind="sky",
            colour=(0.35 * weather.sky, 0.55 * weather.sky, 1.0 * weather.sky),
            horizon=(0.9 * weather.sky, 0.95 * weather.sky, 1.0 * weather.sky),
        ),
        Light(kind="sun", colour=(r, g, b), place=direction),
    ]
    cameras = [turned for camera in street.drive for turned in _pair(camera, weather.turn)]
    return Scene(shapes=street.shapes, lights=tuple(lights), cameras=tuple(cameras))


def _pair(camera: Camera, turn: float) -> tuple[Camera, Camera]:
    """Both cameras of the rig, turned to the left about the vertical; the second stands right."""
    c, s = math.cos(math.radians(turn)), math.sin(math.radians(turn))
    yaw = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]])
    left = camera.world_from_cam.copy()
    left[:3, :3] = yaw @ left[:3, :3]
    right = left.copy()
    right[:3, 3] += BASELINE * left[:3, 0]
    return replace(camera, world_from_cam=left), replace(camera, world_from_cam=right)


def _camera(
    rng: np.random.Generator, x: float, where: Triple, aim: Triple, shake: float, size: int
) -> Camera:
    """On the road at `x`. `where`: offset, bend, height; `aim`: left, up and roll, radians."""
    offset, bend, height = where
    y = bend * x**2 - offset
    heading = math.atan(2 * bend * x) + aim[0] + rng.normal(0, 0.05 * shake)
    up = height + math.tan(aim[1] + rng.normal(0, 0.03 * shake))
    target = (x + math.cos(heading), y + math.sin(heading), up)
    pose_ = look_at((x, y, height), target, roll=aim[2] + rng.normal(0, 0.01 * shake))
    return Camera(width=2 * round(size * 8 / 9), height=size, fov_x=FOV_X, world_from_cam=pose_)


def _ground(rng: np.random.Generator, end: float, half: float, bend: float) -> list[Shape]:
    """Grass or fields, asphalt or paving in pieces along the bend, kerbs, a broken line."""
    grass = textures.noise(rng, (0.1, 0.2, 0.05), (0.3, 0.35, 0.12))
    asphalt = textures.noise(rng, (0.06, 0.06, 0.065), (0.2, 0.2, 0.2))
    field, paved = (rng.uniform(size=2) < 0.5).tolist()
    land = Material(texture=furniture.synthetic(rng) if field else grass, repeat=(150, 150))
    road = Material(texture=furniture.synthetic(rng) if paved else asphalt, repeat=(4, 2))
    stone, white = Material(colour=textures.colour(rng, low=0.3)), Material(colour=(0.8, 0.8, 0.8))
    shapes = [pane((0, 0, 0), (0, 0, 1), 3000, 3000, land)]
    length = 8.0
    for x in np.arange(-12, end + 60, length):
        y, yaw = bend * x**2, math.atan(2 * bend * x)
        shapes.append(box((x, y, 0.0), (length + 0.3, 2 * half, 0.06), road, yaw=yaw))
        shapes.append(box((x, y, 0.01), (2.5, 0.15, 0.06), white, yaw=yaw))
        for side in (-1, 1):
            kerb = (x - side * half * math.sin(yaw), y + side * half * math.cos(yaw), 0.06)
            shapes.append(box(kerb, (length + 0.3, 0.25, 0.12), stone, yaw=yaw))
            walk = half + 1.2
            path = (x - side * walk * math.sin(yaw), y + side * walk * math.cos(yaw), 0.05)
            shapes.append(box(path, (length + 0.3, 2.2, 0.1), stone, yaw=yaw))
    return shapes


def _roadside(
    rng: np.random.Generator, side: float, end: float, half: float, bend: float
) -> list[Shape]:
    """Poles and trees near the kerb, houses behind, sometimes a gap with a view."""
    shapes: list[Shape] = []
    x, set_back = -8.0, half + rng.uniform(3.5, 7)
    leafy, built = rng.uniform(0.2, 1.0), rng.uniform(0.0, 1.0)
    while x < end + 30:
        y = bend * x**2 + side * set_back
        if rng.uniform() < built:
            wide, deep, high = rng.uniform(6, 18), rng.uniform(6, 12), rng.uniform(3.5, 16)
            shapes += _house(rng, (x + wide / 2, y + side * deep / 2), wide, deep, high)
            x += wide
        x += rng.uniform(0.3, 10)
    for x in np.arange(4.0, end, rng.uniform(6, 14)):
        y = bend * x**2 + side * (half + rng.uniform(0.8, 2.0))
        if rng.uniform() < leafy:
            shapes += _tree(rng, (x + rng.uniform(-2, 2), y))
        elif rng.uniform() < 0.7:
            shapes += _pole(rng, (x, y), side)
    return shapes


def _verge(rng: np.random.Generator, end: float, half: float, bend: float) -> list[Shape]:
    """Bushes, rocks and boxes beside the road, some streets full of them."""
    shapes: list[Shape] = []
    for _ in range(int(rng.uniform(0, 0.6) * end)):
        x, side = rng.uniform(0, end), rng.choice((-1, 1))
        at = (x, bend * x**2 + side * (half + rng.exponential(3.0)))
        size, roll = rng.uniform(0.2, 1.2), rng.uniform()
        if roll < 0.3:
            shapes += furniture.block(rng, at, rng.uniform(0, 2 * math.pi))
            continue
        dark, bright = ((0.03, 0.08, 0.02), (0.25, 0.4, 0.12)) if roll < 0.7 else _greys(rng)
        skin = Material(texture=textures.noise(rng, dark, bright))
        shape = pose((*at, 0.6 * size), (size, size, size * rng.uniform(0.6, 1.2)))
        shapes.append(solid(meshes.blob(rng), skin, shape))
    return shapes


def _greys(rng: np.random.Generator) -> tuple[textures.Colour, textures.Colour]:
    base = textures.colour(rng, low=0.15, high=0.6)
    return textures.shade(base, 0.4), base


def _house(
    rng: np.random.Generator, at: tuple[float, float], wide: float, deep: float, high: float
) -> list[Shape]:
    base = textures.colour(rng, low=0.2)
    facade = textures.windows(rng, base, (0.04, 0.05, 0.07))
    repeat = (max(1.0, wide // 9), max(1.0, high // 9))
    shapes = [box((*at, high / 2), (wide, deep, high), Material(texture=facade, repeat=repeat))]
    if rng.uniform() < 0.6:
        tile = Material(
            texture=textures.bricks(rng, textures.colour(rng, high=0.4), (0.1, 0.1, 0.1))
        )
        gable = meshes.roof(wide + 0.6, deep + 0.6, rng.uniform(1.5, 4))
        shapes.append(solid(gable, tile, pose((*at, high))))
    return shapes


def _tree(rng: np.random.Generator, at: tuple[float, float]) -> list[Shape]:
    trunk, size = rng.uniform(1.5, 3.5), rng.uniform(1.0, 2.6)
    green = textures.shade((0.25, 0.5, 0.12), rng.uniform(0.4, 1.0))
    leaves = Material(texture=textures.noise(rng, textures.shade(green, 0.25), green))
    bark = Material(colour=(0.12, 0.08, 0.05))
    shapes = [rod((*at, 0), (*at, trunk + size), rng.uniform(0.1, 0.25), bark)]
    if rng.uniform() < 0.25:
        cone = meshes.lathe([(1.0, 0.0), (0.0, 3.0)])
        return [*shapes, solid(cone, leaves, pose((*at, 0.6 * trunk), (size, size, size)))]
    for _ in range(int(rng.integers(1, 4))):
        lump = size * rng.uniform(0.6, 1.0)
        place = (
            *(np.asarray(at) + rng.normal(0, 0.4 * size, 2)),
            trunk + rng.uniform(0.5, 1.2) * size,
        )
        shapes.append(solid(meshes.blob(rng), leaves, pose(place, (lump, lump, lump))))
    return shapes


def _pole(rng: np.random.Generator, at: tuple[float, float], side: float) -> list[Shape]:
    """A street lamp with an arm over the road, or a traffic sign."""
    grey = Material(kind="metal", colour=(0.4, 0.4, 0.4), roughness=0.4)
    if rng.uniform() < 0.5:
        top = rng.uniform(5, 8)
        arm = (at[0], at[1] - side * 1.8, top + 0.3)
        lamp = box(arm, (0.25, 0.7, 0.15), Material(colour=(0.7, 0.7, 0.65)))
        return [rod((*at, 0), (*at, top), 0.08, grey), rod((*at, top), arm, 0.05, grey), lamp]
    paint = Material(colour=textures.colour(rng, low=0.3))
    plate = pane((at[0] - 0.05, at[1], 2.4), (-1, 0, 0), 0.7, 0.7, paint)
    return [rod((*at, 0), (*at, 2.7), 0.04, grey), plate]


def _cars(rng: np.random.Generator, end: float, half: float, bend: float) -> list[Shape]:
    """Parked on both sides, driving ahead and towards us; never where the camera drives."""
    shapes: list[Shape] = []
    for side in (-1.0, 1.0):
        for x in np.arange(7.0, end, rng.uniform(6.5, 16)):
            if rng.uniform() < 0.6:
                shapes += _car(rng, x + rng.uniform(-1, 1), side * (half - 0.9), bend)
    for _ in range(int(rng.integers(0, 4))):
        shapes += _car(rng, rng.uniform(12, end), 0.45 * half, bend)
    return shapes


def _car(rng: np.random.Generator, x: float, lane: float, bend: float) -> list[Shape]:
    y, yaw = bend * x**2 + lane, math.atan(2 * bend * x)
    length, wide, high = rng.uniform(3.6, 5.0), 1.75, rng.uniform(1.35, 1.8)
    van = rng.uniform() < 0.2
    high = high * 1.4 if van else high
    lacquer = Material(kind="plastic", colour=textures.colour(rng))
    dark = Material(kind="plastic", colour=(0.03, 0.03, 0.04))
    rubber = Material(colour=(0.03, 0.03, 0.03))
    body = 0.62 * high
    shapes = [box((x, y, 0.3 + body / 2), (length, wide, body), lacquer, yaw=yaw)]
    cabin = (length * (0.9 if van else 0.55), 0.88 * wide, high - body - 0.1)
    shapes.append(box((x, y, 0.3 + body + cabin[2] / 2), cabin, dark, yaw=yaw))
    roof = (0.92 * cabin[0], 0.9 * wide, 0.06)
    shapes.append(box((x, y, 0.3 + body + cabin[2]), roof, lacquer, yaw=yaw))
    for along in (-0.32, 0.32):
        for across in (-0.5, 0.5):
            px, py = local((x, y), yaw, along * length, across * wide)
            shapes.append(ball((px, py, 0.32), 0.32, rubber))
    return shapes
