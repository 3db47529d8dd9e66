"""Scenes whose depth, normals and points have a closed form: planes and spheres seen through a K.

Nothing here uses distill: these are the truths the package is held against. Pixels have integer
centres; OpenCV axes; everything is float64.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Scene:
    """What a camera sees; NaN in every map where it sees nothing (`valid` False)."""

    image: Tensor  # (3, h, w) in [0, 1]: red grows to the right, green downwards, blue with depth
    depth: Tensor  # (h, w) along the optical axis
    ray_distance: Tensor  # (h, w) along each ray
    points: Tensor  # (3, h, w)
    normals: Tensor  # (3, h, w), unit, towards the camera
    valid: Tensor  # (h, w)
    K: Tensor  # (3, 3)

    @property
    def pixels(self) -> np.ndarray:
        """The image as a file of 8 bits holds it, (h, w, 3)."""
        return (self.image.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)


def pinhole(h: int, w: int, *, fov: float = 60.0) -> Tensor:
    """Square pixels, centred, `fov` degrees wide."""
    f = w / 2 / math.tan(math.radians(fov) / 2)
    return torch.tensor([[f, 0, (w - 1) / 2], [0, f, (h - 1) / 2], [0, 0, 1]], dtype=torch.float64)


def wrong_cameras(K: Tensor) -> dict[str, Tensor]:
    """`K` as a reader may get it wrong, by the mistake."""
    half = torch.tensor([[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]], dtype=K.dtype)
    axes = [1, 0, 2]
    return {
        "transposed": K.T,
        "half a pixel more": K + half,
        "half a pixel less": K - half,
        "axes exchanged": K[axes][:, axes],
    }


def rays(h: int, w: int, K: Tensor) -> Tensor:
    """The point of depth 1 behind each pixel, (3, h, w)."""
    y, x = torch.meshgrid(torch.arange(h).double(), torch.arange(w).double(), indexing="ij")
    pixels = torch.stack([x, y, torch.ones_like(x)]).reshape(3, -1)
    seen = torch.linalg.solve(K.double(), pixels).reshape(3, h, w)
    return seen / seen[2]


def plane(
    h: int, w: int, K: Tensor, *, normal: tuple[float, float, float], distance: float
) -> Scene:
    """The plane n.X = -distance; `normal` points to the camera's side, which is at the origin."""
    n = torch.tensor(normal, dtype=torch.float64)
    n = n / n.norm()
    seen = rays(h, w, K)
    facing = torch.einsum("i,ihw->hw", n, seen)
    depth = torch.where(facing < 0, -distance / facing, math.nan)
    return _scene(seen, depth, n[:, None, None].expand(3, h, w), K)


def sphere(
    h: int, w: int, K: Tensor, *, centre: tuple[float, float, float], radius: float
) -> Scene:
    """A ball; nothing is seen beside it."""
    c = torch.tensor(centre, dtype=torch.float64)
    seen = rays(h, w, K)
    a, b = seen.square().sum(0), torch.einsum("i,ihw->hw", c, seen)
    inside = b.square() - a * (c.square().sum() - radius**2)
    depth = torch.where(inside >= 0, (b - inside.clamp(min=0).sqrt()) / a, math.nan)
    depth = torch.where(depth > 0, depth, math.nan)
    return _scene(seen, depth, (seen * depth - c[:, None, None]) / radius, K)


def nearest(first: Scene, second: Scene) -> Scene:
    """Both surfaces in one picture, the closer one in front."""
    front = first.depth.nan_to_num(nan=math.inf) <= second.depth.nan_to_num(nan=math.inf)
    depth = torch.where(front, first.depth, second.depth)
    normals = torch.where(front, first.normals, second.normals)
    h, w = depth.shape
    return _scene(rays(h, w, first.K), depth, normals, first.K)


def room(h: int, w: int, K: Tensor) -> Scene:
    """A ball before an oblique wall: no symmetry that could hide a flip or exchanged axes."""
    wall = plane(h, w, K, normal=(0.3, -0.2, -1.0), distance=6.0)
    return nearest(sphere(h, w, K, centre=(-0.6, 0.4, 3.0), radius=0.8), wall)


def ball(h: int, w: int, K: Tensor) -> Scene:
    """A ball before nothing."""
    return sphere(h, w, K, centre=(0.5, -0.3, 4.0), radius=1.1)


def _scene(seen: Tensor, depth: Tensor, normals: Tensor, K: Tensor) -> Scene:
    h, w = depth.shape
    valid = depth.isfinite()
    image = torch.stack(
        [
            torch.linspace(0.1, 0.9, w).double().expand(h, w),
            torch.linspace(0.2, 0.7, h).double()[:, None].expand(h, w),
            (0.05 * depth.nan_to_num(nan=0.0)).clamp(0, 1),
        ]
    )
    return Scene(
        image=image,
        depth=depth,
        ray_distance=depth * seen.norm(dim=0),
        points=seen * depth,
        normals=torch.where(valid, normals, math.nan),
        valid=valid,
        K=K,
    )
