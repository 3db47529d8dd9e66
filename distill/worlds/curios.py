"""What stands in the `photos` world: vases, rings, lumps, barrels, tyres, boulders, bushes."""

import math

import numpy as np

from distill.worlds import meshes, textures
from distill.worlds.scene import (
    Material,
    Number,
    Shape,
    Vector,
    ball,
    box,
    can,
    pose,
    raised,
    rod,
    solid,
)
from distill.worlds.textures import Colour

Base = tuple[Number, Number, Number]

_BARK: Colour = (0.15, 0.1, 0.06)


def surface(rng: np.random.Generator, *, repeat: Number = 2.0) -> Material:
    """Mostly textured, of the families that only `photos` uses; sometimes glazed or metal."""
    a, b = textures.colour(rng), textures.colour(rng, low=0.04)
    family = textures.REAL[rng.integers(len(textures.REAL))]
    texture = family(rng, a, b)
    often = repeat * rng.uniform(0.6, 1.5)
    roll = rng.uniform()
    if roll < 0.15:
        return Material(kind="plastic", texture=texture, repeat=(often, often))
    if roll < 0.22:
        shiny = textures.colour(rng, low=0.5)
        return Material(kind="metal", colour=shiny, roughness=rng.uniform(0.1, 0.4))
    if roll < 0.32:
        return Material(colour=a)
    return Material(texture=texture, repeat=(often, often))


def curio(rng: np.random.Generator, base: Base, size: float) -> list[Shape]:
    """A vase, ring, ball, lump, pile of discs, bowl or goblet, about 2 `size` high."""
    kind = (_vase, _ring, _ball, _lump, _pile, _bowl, _jack)[rng.integers(7)]
    return kind(rng, base, size)


def clutter(rng: np.random.Generator, base: Base) -> list[Shape]:
    """A barrel, tyres, a pipe, a bollard, a crate of slats, a heap or a ladder."""
    kind = (_barrel, _tyres, _pipe, _bollard, _crate, _heap, _ladder)[rng.integers(7)]
    return kind(rng, base)


def growth(rng: np.random.Generator, base: Base) -> list[Shape]:
    """A boulder, a bush, a bare tree, a poplar or a standing stone."""
    kind = (_boulder, _bush, _bare_tree, _poplar, _menhir)[rng.integers(5)]
    return kind(rng, base)


def stairs(rng: np.random.Generator, at: Base, across: float) -> list[Shape]:
    """Steps that climb along x."""
    count, rise, tread = int(rng.integers(3, 9)), rng.uniform(0.12, 0.22), rng.uniform(0.25, 0.45)
    stone = surface(rng)
    return [
        box(
            (at[0] + (n + 0.5) * tread, at[1], at[2] + 0.5 * (n + 1) * rise),
            (tread, across, (n + 1) * rise),
            stone,
        )
        for n in range(count)
    ]


def _scaled(base: Base, size: float | Vector, yaw: float = 0.0) -> np.ndarray:
    return pose(base, (size,) * 3 if isinstance(size, (int, float)) else size, yaw=yaw)


def _vase(rng: np.random.Generator, base: Base, size: float) -> list[Shape]:
    height = np.linspace(0, 2.4, 9)
    wave = 0.55 + 0.3 * np.sin(rng.uniform(1, 3.2) * height + rng.uniform(0, 6))
    profile = [(0.0, 0.0), *zip(wave.tolist(), height.tolist(), strict=True)]
    return [solid(meshes.lathe(profile), surface(rng), _scaled(base, size))]


def _ring(rng: np.random.Generator, base: Base, size: float) -> list[Shape]:
    thick = rng.uniform(0.2, 0.4)
    matrix = np.eye(4)
    turn = rng.uniform(0, 2 * math.pi)
    upright = rng.uniform() < 0.6
    axis = (math.cos(turn), math.sin(turn), 0.0) if upright else (0.0, 0.0, 1.0)
    z = np.asarray(axis)
    x = np.array([0.0, 0.0, 1.0]) if upright else np.array([1.0, 0.0, 0.0])
    matrix[:3, :3] = size * np.stack([x, np.cross(z, x), z], axis=1)
    matrix[:3, 3] = raised(base, size * ((1 + thick) if upright else thick))
    return [solid(meshes.torus(1.0, thick), surface(rng), matrix)]


def _ball(rng: np.random.Generator, base: Base, size: float) -> list[Shape]:
    return [ball((base[0], base[1], base[2] + size), size, surface(rng))]


def _lump(rng: np.random.Generator, base: Base, size: float) -> list[Shape]:
    squash = rng.uniform(0.5, 1.4)
    place = (base[0], base[1], base[2] + 0.9 * squash * size)
    lump = meshes.blob(rng, roughness=rng.uniform(0.1, 0.45), sides=28)
    return [solid(lump, surface(rng), pose(place, (size, size, squash * size)))]


def _pile(rng: np.random.Generator, base: Base, size: float) -> list[Shape]:
    shapes: list[Shape] = []
    z = base[2]
    for _ in range(int(rng.integers(2, 7))):
        radius, thick = size * rng.uniform(0.5, 1.2), size * rng.uniform(0.15, 0.6)
        x, y = np.asarray(base[:2]) + rng.normal(0, 0.12 * size, 2)
        shapes += can((float(x), float(y), z), radius, thick, surface(rng))
        z += thick
    return shapes


def _bowl(rng: np.random.Generator, base: Base, size: float) -> list[Shape]:
    steps = np.linspace(0, 0.5 * math.pi, 7)
    deep = rng.uniform(0.5, 1.2)
    profile = [(0.35, 0.0), (0.3, 0.12)]
    profile += [(0.3 + math.sin(t), 0.15 + deep * (1 - math.cos(t))) for t in steps]
    return [solid(meshes.lathe(profile), surface(rng), _scaled(base, size))]


def _jack(rng: np.random.Generator, base: Base, size: float) -> list[Shape]:
    """Thin rods through one point, a ball at each end."""
    centre = raised(base, 1.1 * size)
    metal, knob = surface(rng), surface(rng)
    shapes: list[Shape] = []
    for _ in range(int(rng.integers(3, 6))):
        way = rng.standard_normal(3)
        way *= size / np.linalg.norm(way)
        shapes.append(rod(centre - way, centre + way, 0.06 * size, metal))
        shapes += [ball(centre + s * way, 0.16 * size, knob) for s in (-1, 1)]
    return shapes


def _barrel(rng: np.random.Generator, base: Base) -> list[Shape]:
    r, h = rng.uniform(0.25, 0.4), rng.uniform(0.7, 1.1)
    profile = [(0.85 * r, 0), (r, 0.3 * h), (r, 0.7 * h), (0.85 * r, h), (0.0, 0.98 * h)]
    return [solid(meshes.lathe(profile), surface(rng), pose(base))]


def _tyres(rng: np.random.Generator, base: Base) -> list[Shape]:
    rubber, thick = surface(rng), rng.uniform(0.09, 0.13)
    ring = meshes.torus(rng.uniform(0.25, 0.4), thick)
    count = int(rng.integers(1, 7))
    shift = rng.normal(0, 0.03, (count, 2))
    return [
        solid(
            ring,
            rubber,
            pose((base[0] + dx, base[1] + dy, base[2] + (2 * n + 1) * thick)),
        )
        for n, (dx, dy) in enumerate(shift)
    ]


def _pipe(rng: np.random.Generator, base: Base) -> list[Shape]:
    """Pipes lying side by side, or leaning."""
    radius, length, turn = rng.uniform(0.05, 0.3), rng.uniform(1, 4), rng.uniform(0, 6.28)
    along = 0.5 * length * np.array([math.cos(turn), math.sin(turn), 0.0])
    across = 2 * radius * np.array([-math.sin(turn), math.cos(turn), 0.0])
    lift = np.array([0, 0, radius]) + np.asarray(base)
    tilt = np.array([0, 0, rng.uniform(0, 1.5)]) if rng.uniform() < 0.4 else np.zeros(3)
    clay = surface(rng)
    return [
        rod(lift + n * across - along, lift + n * across + along + tilt, radius, clay)
        for n in range(int(rng.integers(1, 4)))
    ]


def _bollard(rng: np.random.Generator, base: Base) -> list[Shape]:
    r, h = rng.uniform(0.08, 0.2), rng.uniform(0.6, 1.2)
    iron = surface(rng)
    top = (base[0], base[1], base[2] + h)
    return [rod(base, top, r, iron), ball(top, 1.25 * r, iron)]


def _crate(rng: np.random.Generator, base: Base) -> list[Shape]:
    """Slats around a void."""
    side, high = rng.uniform(0.5, 1.0), rng.uniform(0.4, 1.2)
    wood = surface(rng)
    shapes: list[Shape] = []
    for z in np.linspace(0.06, high, int(rng.integers(3, 6))):
        for sx, sy in ((1, 0), (-1, 0), (0, 1), (0, -1)):
            place = (base[0] + sx * side / 2, base[1] + sy * side / 2, base[2] + z)
            size = (0.03, side, 0.07) if sx else (side, 0.03, 0.07)
            shapes.append(box(place, size, wood))
    return shapes


def _heap(rng: np.random.Generator, base: Base) -> list[Shape]:
    shapes: list[Shape] = []
    for _ in range(int(rng.integers(3, 8))):
        x, y = np.asarray(base[:2]) + rng.normal(0, 0.35, 2)
        shapes += _lump(rng, (float(x), float(y), base[2]), rng.uniform(0.12, 0.35))
    return shapes


def _ladder(rng: np.random.Generator, base: Base) -> list[Shape]:
    """Leaning, of thin rods."""
    turn, high = rng.uniform(0, 6.28), rng.uniform(2, 3.5)
    lean = np.array([0.3 * high * math.cos(turn), 0.3 * high * math.sin(turn), high])
    side = 0.22 * np.array([-math.sin(turn), math.cos(turn), 0.0])
    wood, foot = surface(rng), np.asarray(base)
    shapes = [rod(foot + s * side, foot + s * side + lean, 0.025, wood) for s in (-1, 1)]
    for t in np.arange(0.1, 0.95, 0.3 / high):
        shapes.append(rod(foot - side + t * lean, foot + side + t * lean, 0.018, wood))
    return shapes


def _boulder(rng: np.random.Generator, base: Base) -> list[Shape]:
    size = rng.uniform(0.3, 1.8)
    rock = meshes.blob(rng, roughness=rng.uniform(0.2, 0.5), sides=24)
    shape = size * rng.uniform(0.6, 1.3, 3)
    place = (base[0], base[1], base[2] + 0.4 * shape[2])
    return [solid(rock, surface(rng), pose(place, shape, yaw=rng.uniform(0, 6)))]


def _bush(rng: np.random.Generator, base: Base) -> list[Shape]:
    leaves = Material(texture=textures.blotches(rng, (0.03, 0.07, 0.02), (0.2, 0.32, 0.1)))
    shapes: list[Shape] = []
    for _ in range(int(rng.integers(2, 6))):
        x, y = np.asarray(base[:2]) + rng.normal(0, 0.4, 2)
        size = rng.uniform(0.3, 0.8)
        bush = meshes.blob(rng, roughness=0.55)
        place = (float(x), float(y), base[2] + 0.6 * size)
        shapes.append(solid(bush, leaves, _scaled(place, size)))
    return shapes


def _bare_tree(rng: np.random.Generator, base: Base) -> list[Shape]:
    """A trunk and branches that fork twice."""
    bark = Material(colour=textures.shade(_BARK, rng.uniform(0.5, 2.5)))
    shapes: list[Shape] = []
    limbs = [(np.asarray(base), np.array([0.0, 0.0, rng.uniform(1.2, 2.4)]), 0.12)]
    for _ in range(3):
        grown = []
        for start, way, radius in limbs:
            end = start + way
            shapes.append(rod(start, end, radius, bark))
            for _ in range(int(rng.integers(2, 4))):
                turn = way + rng.normal(0, 0.45, 3) * np.linalg.norm(way)
                grown.append((end, 0.7 * turn, 0.6 * radius))
        limbs = grown
    return shapes


def _poplar(rng: np.random.Generator, base: Base) -> list[Shape]:
    leaves = Material(texture=textures.blotches(rng, (0.04, 0.08, 0.02), (0.25, 0.28, 0.06)))
    high, wide = rng.uniform(3, 9), rng.uniform(0.5, 1.2)
    crown = meshes.blob(rng, roughness=0.35, sides=24)
    place = (base[0], base[1], base[2] + 0.62 * high)
    trunk = rod(base, place, 0.1, Material(colour=_BARK))
    return [trunk, solid(crown, leaves, pose(place, (wide, wide, 0.45 * high)))]


def _menhir(rng: np.random.Generator, base: Base) -> list[Shape]:
    wide, high = rng.uniform(0.3, 0.8), rng.uniform(1, 3)
    profile = [(wide, -0.3), (0.9 * wide, 0.5 * high), (0.5 * wide, 0.9 * high), (0, high)]
    return [solid(meshes.lathe(profile, sides=int(rng.integers(4, 8))), surface(rng), pose(base))]
