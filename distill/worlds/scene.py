"""What a world is made of, before any renderer: shapes, materials, lights and cameras.

The world frame has z up and metres; a camera frame has OpenCV axes (x right, y down, z forward).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Float, Int

Number = float | int  # whole literals need no dot
Vector = Sequence[Number] | Float[np.ndarray, " 3"]
Pose = Float[np.ndarray, "4 4"]
Place = tuple[float, float]


@dataclass(frozen=True, kw_only=True, eq=False)
class Mesh:
    """Triangles with texture coordinates."""

    vertices: Float[np.ndarray, "v 3"]
    faces: Int[np.ndarray, "f 3"]
    uv: Float[np.ndarray, "v 2"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Material:
    """How a surface looks.

    Attributes:
        kind: `glass` is one thin pane or skin, `light` emits `colour` as radiance.
        colour: linear RGB.
        texture: linear RGB reflectance that replaces `colour`.
        roughness: of metal; 0 is a mirror. Plastic is always smooth.
        repeat: how often the texture fits into the surface's u and v.
    """

    kind: Literal["diffuse", "plastic", "metal", "glass", "light"] = "diffuse"
    colour: tuple[float, float, float] = (0.5, 0.5, 0.5)
    texture: Float[np.ndarray, "h w 3"] | None = None
    roughness: float = 0.2
    repeat: tuple[Number, Number] = (1.0, 1.0)


@dataclass(frozen=True, kw_only=True, eq=False)
class Shape:
    """A unit primitive under a pose: cube [-1, 1]^3, sphere, disk and cylinder of radius 1.

    A rectangle spans [-1, 1]^2 in its xy plane; a cylinder stands on its xy plane, 1 high, open.
    """

    kind: Literal["cube", "sphere", "cylinder", "disk", "rectangle", "mesh"]
    pose: Pose
    material: Material
    mesh: Mesh | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Light:
    """A light without a surface.

    Attributes:
        kind: `point` at `place`, `sun` shining along `place`, `sky` from everywhere above.
        colour: intensity (W/sr), irradiance (W/m2) or radiance, linear RGB.
        horizon: the sky's radiance at the horizon; None is that of the zenith.
    """

    kind: Literal["point", "sun", "sky"]
    colour: tuple[float, float, float]
    place: tuple[float, float, float] = (0.0, 0.0, 0.0)
    horizon: tuple[float, float, float] | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Camera:
    """A pinhole camera, square pixels, principal point in the image's centre.

    Attributes:
        fov_x: horizontal field of view, degrees.
        aperture: radius of the thin lens in metres, 0 is a pinhole.
        focus: distance of the plane in focus, metres.
    """

    width: int
    height: int
    fov_x: float
    world_from_cam: Pose
    aperture: float = 0.0
    focus: float = 1.0

    @property
    def focal(self) -> float:
        """Focal length in pixels."""
        return 0.5 * self.width / math.tan(math.radians(0.5 * self.fov_x))

    def resized(self, width: int) -> "Camera":
        """The same view with fewer or more pixels."""
        return replace(self, width=width, height=max(1, round(self.height * width / self.width)))


@dataclass(frozen=True, kw_only=True, eq=False)
class Scene:
    """Surfaces and lights; `cameras` are candidates, in order of preference."""

    shapes: tuple[Shape, ...]
    lights: tuple[Light, ...]
    cameras: tuple[Camera, ...] = ()


def pose(centre: Vector, size: Vector = (1.0, 1.0, 1.0), *, yaw: float = 0.0) -> Pose:
    """Scale by `size`, turn by `yaw` radians about z, move to `centre`."""
    c, s = math.cos(yaw), math.sin(yaw)
    matrix = np.eye(4)
    matrix[:3, :3] = np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]]) * np.asarray(size)
    matrix[:3, 3] = centre
    return matrix


def towards(axis: Vector) -> Float[np.ndarray, "3 3"]:
    """A rotation whose third column is `axis`, normalised."""
    z = np.asarray(axis, dtype=float) / np.linalg.norm(axis)
    x = np.cross((0.0, 1.0, 0.0) if abs(z[1]) < 0.9 else (1.0, 0.0, 0.0), z)
    x /= np.linalg.norm(x)
    return np.stack([x, np.cross(z, x), z], axis=1)


def local(at: Place, yaw: float, x: Number, y: Number) -> Place:
    """Where the point (x, y) of a thing lies that stands at `at`, turned by `yaw`."""
    c, s = math.cos(yaw), math.sin(yaw)
    return at[0] + c * x - s * y, at[1] + s * x + c * y


def raised(base: Vector, height: float) -> Float[np.ndarray, " 3"]:
    """The point `height` above `base`."""
    return np.array([base[0], base[1], base[2] + height], dtype=float)


def box(centre: Vector, size: Vector, material: Material, *, yaw: float = 0.0) -> Shape:
    """A box of full edge lengths `size`."""
    return Shape(kind="cube", pose=pose(centre, 0.5 * np.asarray(size), yaw=yaw), material=material)


def ball(centre: Vector, radius: Number, material: Material) -> Shape:
    """A sphere."""
    return Shape(kind="sphere", pose=pose(centre, (radius,) * 3), material=material)


def rod(start: Vector, end: Vector, radius: Number, material: Material) -> Shape:
    """A cylinder between two points, open at both ends."""
    matrix = np.eye(4)
    axis = np.asarray(end, dtype=float) - np.asarray(start, dtype=float)
    matrix[:3, :3] = towards(axis) * (radius, radius, float(np.linalg.norm(axis)))
    matrix[:3, 3] = start
    return Shape(kind="cylinder", pose=matrix, material=material)


def can(base: Vector, radius: Number, height: Number, material: Material) -> tuple[Shape, Shape]:
    """An upright cylinder with a lid."""
    top = raised(base, height)
    lid = Shape(kind="disk", pose=pose(top, (radius, radius, 1.0)), material=material)
    return rod(base, top, radius, material), lid


def pane(
    centre: Vector, normal: Vector, width: Number, height: Number, material: Material
) -> Shape:
    """An upright or lying rectangle facing `normal`; `height` runs along z unless it lies."""
    z = np.asarray(normal, dtype=float) / np.linalg.norm(normal)
    up = np.array([0.0, 0.0, 1.0]) if abs(z[2]) < 0.9 else np.array([0.0, 1.0, 0.0])
    x = np.cross(up, z)
    x /= np.linalg.norm(x)
    matrix = np.eye(4)
    matrix[:3, :3] = np.stack([x, np.cross(z, x), z], axis=1) * (width / 2, height / 2, 1.0)
    matrix[:3, 3] = centre
    return Shape(kind="rectangle", pose=matrix, material=material)


def solid(mesh: Mesh, material: Material, at: Pose | None = None) -> Shape:
    """A mesh under a pose."""
    return Shape(kind="mesh", pose=np.eye(4) if at is None else at, material=material, mesh=mesh)


def look_at(position: Vector, target: Vector, *, roll: float = 0.0) -> Pose:
    """`world_from_cam` of an upright camera, turned by `roll` radians about its axis."""
    z = np.asarray(target, dtype=float) - np.asarray(position, dtype=float)
    z /= np.linalg.norm(z)
    x = np.cross(z, (0.0, 0.0, 1.0))
    x /= np.linalg.norm(x)
    y = np.cross(z, x)
    c, s = math.cos(roll), math.sin(roll)
    matrix = np.eye(4)
    matrix[:3, :3] = np.stack([c * x + s * y, c * y - s * x, z], axis=1)
    matrix[:3, 3] = position
    return matrix
