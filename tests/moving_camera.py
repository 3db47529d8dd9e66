"""The room of `scenes.py` seen from anywhere, painted: a point has one colour in every picture."""

import math
from dataclasses import replace

import torch
from scenes import Scene, nearest, plane, sphere
from torch import Tensor

_WALL, _CENTRE = torch.tensor([0.3, -0.2, -1.0]).double(), torch.tensor([-0.6, 0.4, 3.0]).double()


def pose(*, turn: float = 0.0, move: tuple[float, float, float] = (0, 0, 0)) -> Tensor:
    """Turned by so many degrees about y, then moved by metres: 4x4, `a_from_b`."""
    c, s = math.cos(math.radians(turn)), math.sin(math.radians(turn))
    rows = [[c, 0, s, move[0]], [0, 1, 0, move[1]], [-s, 0, c, move[2]], [0, 0, 0, 1]]
    return torch.tensor(rows, dtype=torch.float64)


def room_from(h: int, w: int, K: Tensor, cam_from_room: Tensor) -> Scene:
    """`scenes.room` from a camera at this pose; the colour is a function of the point alone."""
    R, t = cam_from_room[:3, :3], cam_from_room[:3, 3]
    n, centre = R @ (_WALL / _WALL.norm()), R @ _CENTRE + t
    a, b, c = n.tolist()
    wall = plane(h, w, K, normal=(a, b, c), distance=6.0 - float(n @ t))
    x, y, z = centre.tolist()
    seen = nearest(sphere(h, w, K, centre=(x, y, z), radius=0.8), wall)
    return replace(seen, image=paint(moved(torch.linalg.inv(cam_from_room), seen.points)))


def moved(a_from_b: Tensor, points: Tensor) -> Tensor:
    """Points (3, ...) of b in the axes of a."""
    return torch.einsum("ij,j...->i...", a_from_b[:3, :3], points) + a_from_b[:3, 3].reshape(
        3, *[1] * (points.dim() - 1)
    )


def paint(points: Tensor) -> Tensor:
    """A colour in [0.1, 0.9] for each point (3, ...), waves of two metres and more."""
    directions = torch.tensor([[2.5, 0.5, 1.0], [-1.0, 2.5, 0.5], [1.5, 1.5, -2.0]]).double()
    return 0.5 + 0.4 * torch.sin(torch.einsum("ij,j...->i...", directions, points.double()))
