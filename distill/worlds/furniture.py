"""Things that stand in rooms, each built upwards from (x, y, 0) and turned by `yaw`."""

import math

import numpy as np

from distill.worlds import meshes, textures
from distill.worlds.scene import (
    Material,
    Number,
    Place,
    Shape,
    ball,
    box,
    can,
    local,
    pane,
    pose,
    rod,
    solid,
)
from distill.worlds.textures import Colour, Texture


def paint(rng: np.random.Generator) -> Material:
    """A material for furniture: paint, wood, cloth, plastic, now and then metal."""
    base = textures.colour(rng)
    roll = rng.uniform()
    if roll < 0.35:
        return Material(colour=base)
    if roll < 0.75:
        return Material(texture=synthetic(rng, base), repeat=(2.0, 2.0))
    if roll < 0.93:
        return Material(kind="plastic", colour=base)
    return Material(kind="metal", colour=textures.colour(rng, low=0.5), roughness=0.25)


def synthetic(rng: np.random.Generator, base: Colour | None = None) -> Texture:
    """A texture of the families that `indoor` and `street` use."""
    base = base or textures.colour(rng)
    family = textures.SYNTHETIC[rng.integers(len(textures.SYNTHETIC))]
    return family(rng, base, textures.shade(base, rng.uniform(0.25, 0.8)))


def table(rng: np.random.Generator, at: Place, yaw: float) -> list[Shape]:
    """Four legs or one, a thin top, things on it."""
    wide, deep, high = rng.uniform(0.7, 1.8), rng.uniform(0.5, 0.9), rng.uniform(0.4, 0.8)
    top, leg = paint(rng), paint(rng)
    parts = [box((*at, high), (wide, deep, 0.04), top, yaw=yaw)]
    if rng.uniform() < 0.7:
        radius = rng.uniform(0.015, 0.04)
        for x, y in ((-1, -1), (-1, 1), (1, -1), (1, 1)):
            foot = local(at, yaw, x * (wide / 2 - 0.06), y * (deep / 2 - 0.06))
            parts.append(rod((*foot, 0), (*foot, high), radius, leg))
    else:
        parts.append(rod((*at, 0), (*at, high), 0.06, leg))
        parts.append(solid(meshes.lathe([(0.3, 0), (0.05, 0.05)]), leg, pose((*at, 0))))
    for _ in range(int(rng.integers(0, 9))):
        spot = local(at, yaw, rng.uniform(-0.4, 0.4) * wide, rng.uniform(-0.4, 0.4) * deep)
        parts += trinket(rng, (*spot, high + 0.02))
    return parts


def chair(rng: np.random.Generator, at: Place, yaw: float) -> list[Shape]:
    """Seat, back of rungs or of one board, thin legs."""
    wide, seat, back = rng.uniform(0.36, 0.5), rng.uniform(0.4, 0.5), rng.uniform(0.8, 1.1)
    main, frame = paint(rng), paint(rng)
    parts = [box((*at, seat), (wide, wide, 0.05), main, yaw=yaw)]
    for x, y in ((-1, -1), (-1, 1), (1, -1), (1, 1)):
        foot = local(at, yaw, x * 0.45 * wide, y * 0.45 * wide)
        parts.append(rod((*foot, 0), (*foot, back if y > 0 else seat), 0.018, frame))
    if rng.uniform() < 0.5:
        board = local(at, yaw, 0, 0.46 * wide)
        height = 0.6 * (back - seat)
        parts.append(box((*board, back - height / 2), (wide, 0.03, height), main, yaw=yaw))
    else:
        for z in np.linspace(seat + 0.12, back - 0.03, 3):
            a, b = (local(at, yaw, s * 0.45 * wide, 0.45 * wide) for s in (-1, 1))
            parts.append(rod((*a, z), (*b, z), 0.012, frame))
    return parts


def shelf(rng: np.random.Generator, at: Place, yaw: float) -> list[Shape]:
    """Open boards between two sides, books and trinkets on them."""
    wide, deep, high = rng.uniform(0.6, 1.4), rng.uniform(0.25, 0.4), rng.uniform(0.9, 2.1)
    wood = paint(rng)
    parts = [
        box((*local(at, yaw, s * wide / 2, 0), high / 2), (0.03, deep, high), wood, yaw=yaw)
        for s in (-1, 1)
    ]
    boards = np.linspace(0.06, high - 0.02, int(rng.integers(3, 6)))
    for z in boards:
        parts.append(box((*at, z), (wide, deep, 0.025), wood, yaw=yaw))
    for z in boards[:-1]:
        x = -wide / 2 + 0.06
        while x < wide / 2 - 0.1:
            width, tall = rng.uniform(0.03, 0.12), rng.uniform(0.12, 0.28)
            if rng.uniform() < 0.7:
                book = Material(colour=textures.colour(rng))
                spot = local(at, yaw, x + width / 2, 0)
                parts.append(
                    box((*spot, z + tall / 2 + 0.013), (width, 0.7 * deep, tall), book, yaw=yaw)
                )
            x += width + rng.uniform(0.004, 0.15)
    return parts


def cupboard(rng: np.random.Generator, at: Place, yaw: float) -> list[Shape]:
    """A closed box with doors and knobs."""
    wide, deep, high = rng.uniform(0.5, 1.6), rng.uniform(0.35, 0.6), rng.uniform(0.5, 2.1)
    body, knob = paint(rng), Material(kind="metal", colour=(0.8, 0.75, 0.6), roughness=0.2)
    parts = [box((*at, high / 2), (wide, deep, high), body, yaw=yaw)]
    for s in (-1, 1):
        door = local(at, yaw, s * wide / 4, -deep / 2 - 0.008)
        parts.append(box((*door, high / 2), (0.46 * wide, 0.02, 0.92 * high), paint(rng), yaw=yaw))
        parts.append(ball((*local(at, yaw, s * 0.06, -deep / 2 - 0.03), high / 2), 0.02, knob))
    return parts


def sofa(rng: np.random.Generator, at: Place, yaw: float) -> list[Shape]:
    """Seat, back, two arms, cushions."""
    wide, deep, cloth = rng.uniform(1.2, 2.2), rng.uniform(0.7, 0.95), paint(rng)
    parts = [
        box((*at, 0.22), (wide, deep, 0.4), cloth, yaw=yaw),
        box((*local(at, yaw, 0, 0.42 * deep), 0.55), (wide, 0.2, 0.55), cloth, yaw=yaw),
    ]
    for s in (-1, 1):
        arm = local(at, yaw, s * (wide / 2 - 0.08), 0)
        parts.append(box((*arm, 0.42), (0.18, deep, 0.4), cloth, yaw=yaw))
        cushion = local(at, yaw, s * wide / 4, 0.2 * deep)
        size = (0.4, 0.14, 0.35)
        parts.append(box((*cushion, 0.58), size, paint(rng), yaw=yaw + rng.uniform(-0.3, 0.3)))
    return parts


def lamp(rng: np.random.Generator, at: Place, yaw: float) -> list[Shape]:
    """A standing lamp: foot, thin stem, shade, a glowing bulb above it."""
    high = rng.uniform(1.2, 1.8)
    metal, cloth = Material(kind="plastic", colour=(0.1, 0.1, 0.1)), paint(rng)
    glow = rng.uniform(4, 12)
    warm = Material(kind="light", colour=(glow, 0.8 * glow, 0.55 * glow))
    shade = meshes.lathe([(0.22, 0.0), (0.13, 0.28)])
    return [
        *can((*at, 0), 0.15, 0.03, metal),
        rod((*at, 0), (*at, high), 0.014, metal),
        solid(shade, cloth, pose((*at, high - 0.1), yaw=yaw)),
        ball((*at, high + 0.05), 0.06, warm),
    ]


def plant(rng: np.random.Generator, at: Place, yaw: float) -> list[Shape]:
    """A pot, a stem, a ball of leaves."""
    green = Material(texture=textures.noise(rng, (0.05, 0.2, 0.04), (0.2, 0.45, 0.12)))
    pot = solid(meshes.lathe([(0.1, 0), (0.17, 0.3), (0.0, 0.28)]), paint(rng), pose((*at, 0)))
    size, high = rng.uniform(0.2, 0.4), rng.uniform(0.5, 1.1)
    crown = solid(
        meshes.blob(rng, roughness=0.4), green, pose((*at, high), (size, size, size), yaw=yaw)
    )
    return [pot, rod((*at, 0.2), (*at, high), 0.015, paint(rng)), crown]


def stack(rng: np.random.Generator, at: Place, yaw: float) -> list[Shape]:
    """Boxes on each other, each turned a little."""
    parts, z = [], 0.0
    for _ in range(int(rng.integers(1, 4))):
        size = rng.uniform(0.25, 0.6, 3)
        parts.append(
            box((*at, z + size[2] / 2), size, paint(rng), yaw=yaw + rng.uniform(-0.4, 0.4))
        )
        z += size[2]
    return parts


def block(rng: np.random.Generator, at: Place, yaw: float) -> list[Shape]:
    """One plain solid on the floor: a stool's cylinder, a ball, a chest, a column, a cone."""
    size = rng.uniform(0.12, 0.45)
    roll = rng.integers(5)
    if roll == 0:
        return [ball((*at, size), size, paint(rng))]
    if roll == 1:
        return [*can((*at, 0), size, rng.uniform(0.5, 2.5) * size, paint(rng))]
    if roll == 2:
        sides = size * rng.uniform(0.6, 2.0, 3)
        return [box((*at, sides[2] / 2), sides, paint(rng), yaw=yaw)]
    if roll == 3:
        return [rod((*at, 0), (*at, rng.uniform(1.2, 3)), 0.4 * size, paint(rng))]
    cone = meshes.lathe([(1.0, 0.0), (rng.uniform(0.0, 0.8), rng.uniform(1, 3))])
    return [solid(cone, paint(rng), pose((*at, 0), (size, size, size)))]


def mirror(rng: np.random.Generator, at: Place, yaw: float) -> list[Shape]:
    """A standing mirror facing -y in its own frame; its depth is that of its surface."""
    wide, high = rng.uniform(0.5, 0.9), rng.uniform(1.2, 1.8)
    silver = Material(kind="metal", colour=(0.9, 0.9, 0.92), roughness=0.0)
    face = local(at, yaw, 0, -0.021)
    normal = (math.sin(yaw), -math.cos(yaw), 0.0)
    back = box((*at, high / 2 + 0.05), (wide + 0.08, 0.04, high + 0.1), paint(rng), yaw=yaw)
    return [back, pane((*face, high / 2 + 0.05), normal, wide, high, silver)]


def screen(rng: np.random.Generator, at: Place, yaw: float) -> list[Shape]:
    """A glass partition in a thin frame; its depth is that of the glass."""
    wide, high = rng.uniform(0.7, 1.3), rng.uniform(1.1, 2.0)
    frame = paint(rng)
    a, b = local(at, yaw, -wide / 2, 0), local(at, yaw, wide / 2, 0)
    normal = (math.sin(yaw), -math.cos(yaw), 0.0)
    return [
        pane((*at, high / 2), normal, wide, high, Material(kind="glass")),
        rod((*a, 0), (*a, high), 0.02, frame),
        rod((*b, 0), (*b, high), 0.02, frame),
        rod((*a, high), (*b, high), 0.02, frame),
    ]


def trinket(rng: np.random.Generator, base: tuple[Number, Number, Number]) -> list[Shape]:
    """Something small on a surface: a ball, a box, a tin, a vase, a drinking glass."""
    x, y, z = base
    size = rng.uniform(0.04, 0.13)
    roll = rng.integers(5)
    if roll == 0:
        return [ball((x, y, z + size), size, paint(rng))]
    if roll == 1:
        return [box((x, y, z + size), (2 * size, size, 2 * size), paint(rng), yaw=6 * size)]
    if roll == 2:
        return [*can((x, y, z), size, 2.5 * size, paint(rng))]
    material = paint(rng) if roll == 3 else Material(kind="glass")
    profile = [(0.5, 0), (0.8, 0.8), (0.3, 1.8), (0.45, 2.6)]
    return [solid(meshes.lathe(profile), material, pose(base, (size, size, size)))]


TALL = (shelf, cupboard, mirror, shelf, cupboard, sofa, table)
"""What stands along the walls."""

FREE = (table, chair, chair, stack, lamp, plant, screen, table)
"""What stands in the room."""
