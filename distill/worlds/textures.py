"""Procedural textures: linear RGB reflectance in [0.02, 0.95], tileable enough to repeat.

Every function takes the colours it mixes and the generator it draws from.
"""

import numpy as np
from jaxtyping import Float

Colour = tuple[float, float, float]
Texture = Float[np.ndarray, "h w 3"]
Grey = Float[np.ndarray, "h w"]

SIZE = 96


def mix(a: Colour, b: Colour, weight: Grey) -> Texture:
    """`a` where `weight` is 0, `b` where it is 1."""
    w = np.clip(weight, 0.0, 1.0)[..., None]
    return np.clip(np.asarray(a) * (1 - w) + np.asarray(b) * w, 0.02, 0.95).astype(np.float32)


def colour(rng: np.random.Generator, *, low: float = 0.08, high: float = 0.8) -> Colour:
    """A random reflectance, grey more often than vivid."""
    value = rng.uniform(low, high)
    vivid = rng.uniform(0, 1) ** 1.5
    hue = rng.uniform(0.15, 1.0, 3)
    rgb = value * ((1 - vivid) + vivid * hue / hue.max())
    return float(rgb[0]), float(rgb[1]), float(rgb[2])


def shade(base: Colour, factor: float) -> Colour:
    """`base` times `factor`."""
    return base[0] * factor, base[1] * factor, base[2] * factor


def fractal(rng: np.random.Generator, *, size: int = SIZE, slope: float = 1.5) -> Grey:
    """Tileable noise in [0, 1] with a power-law spectrum; a larger `slope` is smoother."""
    fy, fx = np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None]
    radius = np.hypot(fy, fx)
    radius[0, 0] = np.inf
    spectrum = np.fft.rfft2(rng.standard_normal((size, size))) * radius**-slope
    values = np.fft.irfft2(spectrum, s=(size, size))
    low, high = values.min(), values.max()
    return (values - low) / (high - low)


def noise(rng: np.random.Generator, a: Colour, b: Colour) -> Texture:
    """Plaster, carpet, asphalt: fractal noise between two colours."""
    return mix(a, b, fractal(rng, slope=rng.uniform(0.5, 1.8)))


def checker(rng: np.random.Generator, a: Colour, b: Colour) -> Texture:
    """A checkerboard."""
    y, x = _grid(int(rng.integers(2, 7)))
    return mix(a, b, ((np.floor(x) + np.floor(y)) % 2) * 0.9 + 0.1 * fractal(rng))


def stripes(rng: np.random.Generator, a: Colour, b: Colour) -> Texture:
    """Wallpaper: upright stripes."""
    _, x = _grid(int(rng.integers(3, 12)))
    return mix(a, b, (x % 1 < rng.uniform(0.2, 0.8)) * 1.0)


def tiles(rng: np.random.Generator, a: Colour, b: Colour) -> Texture:
    """Tiles of `a` with joints of `b`, each tile a little different."""
    count = int(rng.integers(3, 9))
    y, x = _grid(count)
    tone = rng.uniform(0.0, 0.25, (count, count))[y.astype(int), x.astype(int)]
    joint = (x % 1 < 0.08) | (y % 1 < 0.08)
    return mix(a, b, np.where(joint, 1.0, tone))


def bricks(rng: np.random.Generator, a: Colour, b: Colour) -> Texture:
    """Running bond: bricks of `a`, mortar of `b`."""
    rows = 2 * int(rng.integers(4, 7))
    y, x = _grid(rows)
    x = x / 2 + 0.5 * (np.floor(y) % 2)
    tone = rng.uniform(0.0, 0.35, (rows, rows))[y.astype(int), x.astype(int) % rows]
    joint = (x % 1 < 0.07) | (y % 1 < 0.14)
    return mix(a, b, np.where(joint, 1.0, tone))


def planks(rng: np.random.Generator, a: Colour, b: Colour) -> Texture:
    """Boards with grain along u."""
    count = int(rng.integers(3, 9))
    y, x = _grid(count)
    grain = fractal(rng, slope=1.2)
    stretched = grain[:, np.arange(SIZE) // 8]
    tone = rng.uniform(0.0, 0.4, count)[y.astype(int)]
    return mix(a, b, np.where(y % 1 < 0.06, 1.0, tone + 0.6 * (stretched - 0.4)) + 0 * x)


def windows(rng: np.random.Generator, a: Colour, b: Colour) -> Texture:
    """A facade of `a` with windows of `b`."""
    y, x = _grid(4)
    wide, tall = rng.uniform(0.3, 0.8), rng.uniform(0.4, 0.8)
    inside = (np.abs(x % 1 - 0.5) < wide / 2) & (np.abs(y % 1 - 0.5) < tall / 2)
    tone = rng.uniform(0.6, 1.0, (4, 4))[y.astype(int), x.astype(int)]
    return mix(a, b, np.where(inside, tone, 0.1 * fractal(rng)))


def marble(rng: np.random.Generator, a: Colour, b: Colour) -> Texture:
    """Veins: a sine of fractal noise."""
    y, x = _grid(1)
    turns = int(rng.integers(1, 4))
    phase = 2 * np.pi * (turns * x + int(rng.integers(0, 3)) * y) + 9 * fractal(rng, slope=1.8)
    return mix(a, b, np.abs(np.sin(phase)) ** rng.uniform(0.4, 2.0))


def cells(rng: np.random.Generator, a: Colour, b: Colour) -> Texture:
    """Cobbles, scales, cracked earth: distance to the nearest of scattered points."""
    points = rng.uniform(0, 1, (int(rng.integers(12, 50)), 2))
    axis = (np.arange(SIZE) + 0.5) / SIZE
    apart = np.abs(axis[:, None, None] - points)
    apart = np.minimum(apart, 1 - apart)  # across the border
    near = np.partition(np.hypot(apart[:, None, :, 0], apart[None, :, :, 1]), 1, axis=-1)
    edge = (near[..., 1] - near[..., 0]) * np.sqrt(len(points))
    return mix(b, a, edge * rng.uniform(1.5, 5.0))


def dots(rng: np.random.Generator, a: Colour, b: Colour) -> Texture:
    """A staggered dot pattern."""
    y, x = _grid(2 * int(rng.integers(2, 6)))
    x = x + 0.5 * (np.floor(y) % 2)
    radius = rng.uniform(0.2, 0.45)
    return mix(a, b, (radius - np.hypot(x % 1 - 0.5, y % 1 - 0.5)) * 8 + 0.5)


def weave(rng: np.random.Generator, a: Colour, b: Colour) -> Texture:
    """Cloth: crossing threads over a slow stain."""
    y, x = _grid(int(rng.integers(6, 20)))
    threads = 0.5 + 0.25 * np.sin(2 * np.pi * x) + 0.25 * np.sin(2 * np.pi * y)
    return mix(a, b, threads * (0.5 + 0.8 * fractal(rng, slope=2.2)))


def blotches(rng: np.random.Generator, a: Colour, b: Colour) -> Texture:
    """Rust, moss, camouflage: thresholded noise with soft borders."""
    values = fractal(rng, slope=rng.uniform(1.2, 2.0))
    fine = 0.2 * fractal(rng, slope=0.4)
    return mix(a, b, (values - rng.uniform(0.35, 0.65)) * rng.uniform(4, 20) + 0.5 + fine)


SYNTHETIC = (noise, checker, stripes, tiles, bricks, planks)
"""The families that `indoor` and `street` use."""

REAL = (marble, cells, dots, weave, blotches)
"""The families that only `photos` uses."""


def _grid(count: int) -> tuple[Grey, Grey]:
    """Texture rows and columns counted in cells, `count` along each side."""
    axis = (np.arange(SIZE) + 0.5) * count / SIZE
    y, x = np.meshgrid(axis, axis, indexing="ij")
    return y, x
