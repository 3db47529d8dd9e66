"""The `indoor` world: furnished rooms, lit by lamps and windows."""

import math

import numpy as np

from distill.worlds import furniture, textures
from distill.worlds.scene import Camera, Light, Material, Scene, Shape, ball, box, look_at, pane

FOV_X = 60.0  # degrees; every Hypersim camera's


def columns(size: int) -> int:
    """Pixels across a 4:3 picture `size` pixels high, an even number."""
    return 2 * round(size * 4 / 6)


def compose(rng: np.random.Generator, *, size: int, views: int) -> Scene:
    """One room, 4:3 cameras `size` pixels high.

    Args:
        rng: the room is a pure function of it.
        size: of the pictures.
        views: how many camera candidates.
    """
    length, width, high = _proportions(rng)
    shapes, opening = _shell(rng, length, width, high)
    shapes += _things(rng, length, width) + _decoration(rng, length, width, high)
    lit, lights = _lights(rng, length, width, high, opening)
    cameras = tuple(_camera(rng, length, width, high, size) for _ in range(views))
    return Scene(shapes=tuple(shapes + lit), lights=tuple(lights), cameras=cameras)


def _proportions(rng: np.random.Generator) -> tuple[float, float, float]:
    """Length, width and height in metres of a room, a corridor or a hall."""
    roll = rng.uniform()
    if roll < 0.2:
        return rng.uniform(7, 16), rng.uniform(1.7, 3.0), rng.uniform(2.2, 3.5)
    if roll < 0.4:
        return rng.uniform(8, 16), rng.uniform(6, 12), rng.uniform(3, 6)
    return rng.uniform(3.2, 8.5), rng.uniform(3.0, 6.5), rng.uniform(2.3, 3.3)


def _shell(
    rng: np.random.Generator, length: float, width: float, high: float
) -> tuple[list[Shape], str]:
    """Floor, ceiling, three closed walls and one closed, with a window, or missing."""
    opening = str(rng.choice(["window", "glazed", "glazed", "glazed", "closed", "closed", "open"]))
    floor = Material(texture=furniture.synthetic(rng), repeat=(length / 1.5, width / 1.5))
    above = Material(colour=textures.shade((0.9, 0.88, 0.85), rng.uniform(0.7, 1.0)))
    wall = _wall_material(rng)
    shapes = [
        box((0, 0, -0.05), (length + 0.4, width + 0.4, 0.1), floor),
        box((0, 0, high + 0.05), (length + 0.4, width + 0.4, 0.1), above),
        box((-length / 2 - 0.1, 0, high / 2), (0.2, width + 0.4, high), wall),
        box((length / 2 + 0.1, 0, high / 2), (0.2, width + 0.4, high), _wall_material(rng)),
        box((0, -width / 2 - 0.1, high / 2), (length, 0.2, high), wall),
    ]
    y = width / 2 + 0.1
    if opening == "closed":
        shapes.append(box((0, y, high / 2), (length, 0.2, high), wall))
    elif opening != "open":
        shapes += _window(rng, y, length, high, wall, glazed=opening == "glazed")
    return shapes, opening


def _wall_material(rng: np.random.Generator) -> Material:
    base = textures.colour(rng, low=0.35, high=0.85)
    if rng.uniform() < 0.5:
        return Material(colour=base)
    family = (textures.stripes, textures.noise, textures.bricks, textures.tiles)[rng.integers(4)]
    return Material(texture=family(rng, base, textures.shade(base, 0.7)), repeat=(2.0, 2.0))


def _window(
    rng: np.random.Generator, y: float, length: float, high: float, wall: Material, *, glazed: bool
) -> list[Shape]:
    """A wall at `y` around an opening with thin bars, with or without a pane."""
    wide, low, top = rng.uniform(0.3, 0.7) * length, rng.uniform(0.3, 1.0), high - 0.3
    side = (length - wide) / 2
    shapes = [
        box((0, y, low / 2), (wide, 0.2, low), wall),
        box((0, y, (top + high) / 2), (wide, 0.2, high - top), wall),
        box((-wide / 2 - side / 2, y, high / 2), (side, 0.2, high), wall),
        box((wide / 2 + side / 2, y, high / 2), (side, 0.2, high), wall),
    ]
    frame = furniture.paint(rng)
    for x in np.linspace(-wide / 2, wide / 2, int(rng.integers(2, 5))):
        shapes.append(box((x, y, (low + top) / 2), (0.05, 0.06, top - low), frame))
    if glazed:
        glass = Material(kind="glass")
        shapes.append(pane((0, y, (low + top) / 2), (0, -1, 0), wide, top - low, glass))
    if rng.uniform() < 0.6:  # a neighbour's house, so that the view is not always empty
        facade = textures.windows(rng, textures.colour(rng), (0.05, 0.06, 0.08))
        house = Material(texture=facade, repeat=(2, 1))
        distance = rng.uniform(4, 9)
        shapes.append(box((rng.uniform(-5, 5), y + distance, 2), (7, 1, 9), house))
        shapes.append(box((0, y + 10.2, -3), (40, 20, 0.2), Material(colour=(0.2, 0.25, 0.15))))
    return shapes


def _things(rng: np.random.Generator, length: float, width: float) -> list[Shape]:
    """Furniture along the walls and in the room, kept apart from each other."""
    shapes: list[Shape] = []
    taken: list[tuple[float, float]] = []
    for _ in range(int(rng.integers(8, 16))):
        thing = furniture.TALL[rng.integers(len(furniture.TALL))]
        wall, along = int(rng.integers(3)), rng.uniform(-0.4, 0.4)
        # each stands with its back (+y in its own frame) to a wall
        at, yaw = (
            ((along * length, -width / 2 + 0.35), math.pi),
            ((-length / 2 + 0.35, along * width), math.pi / 2),
            ((length / 2 - 0.35, along * width), -math.pi / 2),
        )[wall]
        if _apart(at, taken, 1.3):
            taken.append(at)
            shapes += thing(rng, at, yaw)
    for _ in range(int(rng.integers(5, 14))):
        thing = furniture.FREE[rng.integers(len(furniture.FREE))]
        at = (rng.uniform(-0.38, 0.38) * length, rng.uniform(-0.38, 0.38) * width)
        if _apart(at, taken, 0.9):
            taken.append(at)
            shapes += thing(rng, at, rng.uniform(0, 2 * math.pi))
    for _ in range(int(rng.integers(0, 14))):
        at = (rng.uniform(-0.45, 0.45) * length, rng.uniform(-0.45, 0.45) * width)
        if _apart(at, taken, 0.5):
            taken.append(at)
            shapes += furniture.block(rng, at, rng.uniform(0, 2 * math.pi))
    return shapes


def _decoration(rng: np.random.Generator, length: float, width: float, high: float) -> list[Shape]:
    """Pictures on the walls, rugs, beams under the ceiling, a door."""
    shapes: list[Shape] = []
    for _ in range(int(rng.integers(2, 9))):
        wide, tall = rng.uniform(0.3, 1.2), rng.uniform(0.3, 0.9)
        picture = Material(texture=furniture.synthetic(rng))
        height = rng.uniform(1.3, high - 0.6)
        along = rng.uniform(-0.42, 0.42)
        if rng.uniform() < 0.5:
            place, size = (along * length, 0.02 - width / 2, height), (wide, 0.04, tall)
        else:
            side = rng.choice((-1, 1))
            place, size = (side * (length / 2 - 0.02), along * width, height), (0.04, wide, tall)
        shapes.append(box(place, size, picture))
    for _ in range(int(rng.integers(0, 3))):
        at = (rng.uniform(-0.3, 0.3) * length, rng.uniform(-0.3, 0.3) * width, 0.008)
        rug = Material(texture=furniture.synthetic(rng))
        size = (rng.uniform(1.0, 2.5), rng.uniform(0.8, 1.8), 0.016)
        shapes.append(box(at, size, rug, yaw=rng.uniform(-0.5, 0.5)))
    if rng.uniform() < 0.3:
        wood = furniture.paint(rng)
        for x in np.arange(-length / 2 + 0.4, length / 2, rng.uniform(0.6, 1.2)):
            shapes.append(box((x, 0, high - 0.09), (0.12, width, 0.18), wood))
    door = (-length / 2 + 0.01, rng.uniform(-0.35, 0.35) * width, 1.02)
    shapes.append(box(door, (0.06, 0.9, 2.04), furniture.paint(rng)))
    return shapes


def _apart(at: tuple[float, float], taken: list[tuple[float, float]], distance: float) -> bool:
    return all(math.dist(at, other) > distance for other in taken)


def _lights(
    rng: np.random.Generator, length: float, width: float, high: float, opening: str
) -> tuple[list[Shape], list[Light]]:
    """Ceiling panels or hanging globes, a weak fill, and what comes in through the opening."""
    warmth = rng.uniform(0.5, 1.1)
    tint = np.array([1.0, 0.5 + 0.5 * min(warmth, 1.0), warmth])
    shapes: list[Shape] = []
    for _ in range(int(rng.integers(1, 4))):
        place = (rng.uniform(-0.35, 0.35) * length, rng.uniform(-0.35, 0.35) * width)
        r, g, b = (float(v) for v in rng.uniform(3, 9) * tint)
        if rng.uniform() < 0.6:
            glow = Material(kind="light", colour=(r, g, b))
            side = rng.uniform(0.4, 1.2)
            shapes.append(pane((*place, high - 0.01), (0, 0, -1), side, 0.5 * side + 0.2, glow))
        else:
            glow = Material(kind="light", colour=(3 * r, 3 * g, 3 * b))
            shapes.append(ball((*place, high - rng.uniform(0.2, 0.6)), 0.12, glow))
    fill = rng.uniform(0.5, 1.5)
    lights = [Light(kind="point", colour=(fill, fill, fill), place=(0.0, 0.0, 0.6 * high))]
    if opening != "closed":
        sky, sun = rng.uniform(0.5, 3.0), rng.uniform(0, 12)
        lights.append(
            Light(kind="sky", colour=(0.6 * sky, 0.8 * sky, sky), horizon=(sky, sky, sky))
        )
        direction = (rng.uniform(-0.7, 0.7), -1.0, -rng.uniform(0.4, 1.2))
        lights.append(Light(kind="sun", colour=(sun, 0.9 * sun, 0.75 * sun), place=direction))
    return shapes, lights


def _camera(
    rng: np.random.Generator, length: float, width: float, high: float, size: int
) -> Camera:
    """Anywhere in the room: looking across it, down at something near, or up; not quite level."""
    place = np.array(
        [
            rng.uniform(-0.45, 0.45) * length,
            rng.uniform(-0.45, 0.45) * width,
            rng.uniform(0.25, min(high - 0.2, 2.6)),
        ]
    )
    across = np.array([-place[0] * rng.uniform(0.2, 0.9), -place[1] * rng.uniform(0.2, 0.9), 0.0])
    across[:2] += rng.uniform(-1, 1, 2)
    if rng.uniform() < 0.6:
        target = (across[0], across[1], rng.uniform(0.0, 1.7))
    else:
        heading = math.atan2(across[1] - place[1], across[0] - place[0]) + rng.normal(0, 0.5)
        pitch, away = rng.uniform(-0.9, 0.25), rng.uniform(1.0, 3.0)
        flat = away * math.cos(pitch)
        ahead = (flat * math.cos(heading), flat * math.sin(heading), away * math.sin(pitch))
        target = tuple(place + ahead)
    world_from_cam = look_at(place, target, roll=rng.normal(0, 0.07))
    return Camera(width=columns(size), height=size, fov_x=FOV_X, world_from_cam=world_from_cam)
