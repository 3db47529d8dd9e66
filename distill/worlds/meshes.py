"""Meshes from formulas: surfaces of revolution, blobs, terrain, gabled roofs, arches."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from distill.worlds.scene import Mesh, Number
from distill.worlds.textures import fractal


def lathe(profile: Sequence[tuple[Number, Number]], *, sides: int = 20) -> Mesh:
    """Turn a profile of (radius, height) about z: vases, cups, cones, lamp shades."""
    radius, height = np.asarray(profile, dtype=float).T
    angle = np.linspace(0, 2 * np.pi, sides + 1)
    x, y = radius[:, None] * np.cos(angle), radius[:, None] * np.sin(angle)
    return _sheet(np.stack([x, y, np.broadcast_to(height[:, None], x.shape)], axis=-1))


def torus(radius: Number, thickness: Number, *, sides: int = 24) -> Mesh:
    """A ring lying in the xy plane."""
    turn = np.linspace(0, 2 * np.pi, sides // 2 + 1)
    return lathe(
        [(radius + thickness * np.cos(t), thickness * np.sin(t)) for t in turn], sides=sides
    )


def blob(rng: np.random.Generator, *, roughness: float = 0.3, sides: int = 18) -> Mesh:
    """A lumpy unit ball: tree crowns, bushes, boulders. Its radius stays in 1 +- `roughness`."""
    polar = np.linspace(0, np.pi, sides // 2 + 1)[:, None]
    angle = np.linspace(0, 2 * np.pi, sides + 1)[None]
    lumps = 2 * fractal(rng, size=sides, slope=1.2)[: sides // 2 + 1] - 1
    lumps = np.concatenate([lumps, lumps[:, :1]], axis=1)
    lumps[0], lumps[-1] = lumps[0].mean(), lumps[-1].mean()
    radius = 1 + roughness * lumps
    xyz = (np.sin(polar) * np.cos(angle), np.sin(polar) * np.sin(angle), np.cos(polar) + 0 * angle)
    return _sheet(radius[..., None] * np.stack(xyz, axis=-1))


def terrain(heights: Float[np.ndarray, "n n"], extent: float) -> Mesh:
    """A height field over the square [-extent, extent]^2."""
    axis = np.linspace(-extent, extent, len(heights))
    y, x = np.meshgrid(axis, axis, indexing="ij")
    return _sheet(np.stack([x, y, heights], axis=-1))


def roof(width: float, depth: float, height: float) -> Mesh:
    """A gabled roof over [-width/2, width/2] x [-depth/2, depth/2], the ridge along x."""
    w, d = width / 2, depth / 2
    corners = [(-w, -d, 0), (w, -d, 0), (w, d, 0), (-w, d, 0), (-w, 0, height), (w, 0, height)]
    faces = [(0, 1, 5), (0, 5, 4), (2, 3, 4), (2, 4, 5), (0, 4, 3), (1, 2, 5)]
    vertices = np.asarray([corners[i] for face in faces for i in face], dtype=float)
    uv = vertices[:, :2] / (width, depth) + 0.5
    return Mesh(vertices=vertices, faces=np.arange(18).reshape(6, 3), uv=uv)


def arch(width: float, height: float, thickness: Number, *, sides: int = 14) -> Mesh:
    """A round arch spanning x, standing on z = 0, square in section."""
    half, leg = width / 2, max(height - width / 2, 0.0)
    angle = np.linspace(0, np.pi, sides + 1)
    centre = np.stack([-half * np.cos(angle), leg + half * np.sin(angle)], axis=1)
    outward = np.stack([-np.cos(angle), np.sin(angle)], axis=1)
    centre = np.concatenate([[[-half, 0]], centre, [[half, 0]]])
    outward = np.concatenate([[[-1, 0]], outward, [[1, 0]]])
    t = thickness / 2
    section = [(-t, -t), (t, -t), (t, t), (-t, t), (-t, -t)]
    rows = [
        np.stack([c[0] + u * o[0], v, c[1] + u * o[1]])
        for c, o in zip(centre, outward, strict=True)
        for u, v in section
    ]
    return _sheet(np.reshape(rows, (len(centre), len(section), 3)))


def _sheet(points: Float[np.ndarray, "rows columns 3"]) -> Mesh:
    """Two triangles for each cell of a grid of points."""
    rows, columns = points.shape[:2]
    index = np.arange(rows * columns).reshape(rows, columns)
    a, b, c, d = index[:-1, :-1], index[:-1, 1:], index[1:, 1:], index[1:, :-1]
    faces = np.concatenate([np.stack([a, b, c], -1), np.stack([a, c, d], -1)]).reshape(-1, 3)
    if _inside_out(points):
        faces = faces[:, ::-1]
    v, u = np.meshgrid(np.linspace(0, 1, rows), np.linspace(0, 1, columns), indexing="ij")
    return Mesh(vertices=points.reshape(-1, 3), faces=faces, uv=np.stack([u, v], -1).reshape(-1, 2))


def _inside_out(points: Float[np.ndarray, "rows columns 3"]) -> bool:
    """Whether the cells face the middle of what they enclose or, of a lying sheet, the ground."""
    diagonals = points[1:, 1:] - points[:-1, :-1], points[1:, :-1] - points[:-1, 1:]
    normals = np.cross(*diagonals)
    away = points[:-1, :-1] + 0.5 * diagonals[0] - points.mean(axis=(0, 1))
    enclosed = float((normals * away).sum())
    flatness = np.abs(normals.sum(axis=(0, 1))).max() / np.linalg.norm(normals, axis=-1).sum()
    return float(normals[..., 2].sum()) < 0 if flatness > 0.7 else enclosed < 0
