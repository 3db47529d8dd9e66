"""Scene -> pictures: linear radiance by path tracing, and exact depth at the pixel centres.

The only file that needs Mitsuba (extra `[worlds]`). Depth is not the mean over a pixel's samples,
which would invent surfaces between foreground and background: one ray goes through each pixel's
centre, and depth is exact to float32.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from distill.worlds.denoise import denoised
from distill.worlds.scene import Camera, Light, Material, Scene, Shape

_BOUNCES = 3  # path segments before the light: direct light and one reflection or transmission
_NEAR = 1e-3  # metres


@dataclass(frozen=True, kw_only=True, eq=False)
class Frame:
    """What one camera saw.

    Attributes:
        radiance: linear, unbounded.
        depth: metres along the optical axis; 0 where nothing is hit.
        hit: whether the centre of the pixel sees a surface.
    """

    camera: Camera
    radiance: Float[np.ndarray, "h w 3"]
    depth: Float[np.ndarray, "h w"]
    hit: Bool[np.ndarray, "h w"]


class Renderer:
    """A scene loaded into Mitsuba.

    Raises:
        ImportError: Mitsuba is not installed.
    """

    def __init__(self, scene: Scene) -> None:
        mi = _mitsuba()
        lights = {f"light{i:04d}": _light(mi, light) for i, light in enumerate(scene.lights)}
        self._mi = mi
        # merging equal objects would order the lamps by their addresses, and so the noise
        self._scene = mi.load_dict(
            _parts(mi, scene, _surface) | lights, parallel=False, optimize=False
        )
        self._colours = mi.load_dict(_parts(mi, scene, _glow), parallel=False, optimize=False)

    def render(self, camera: Camera, *, samples: int, seed: int) -> Frame:
        """Path-trace `samples` per pixel and smooth their noise; depth is exact at any number."""
        noisy = self._trace(self._scene, camera, samples=samples, seed=seed, vertices=_BOUNCES)
        albedo = self._trace(self._colours, camera, samples=samples, seed=seed, vertices=1)
        depth, hit = self.depth(camera)
        radiance = denoised(noisy, albedo, points(camera, depth), hit)
        return Frame(camera=camera, radiance=radiance, depth=depth, hit=hit)

    def _trace(
        self, scene: Any, camera: Camera, *, samples: int, seed: int, vertices: int
    ) -> Float[np.ndarray, "h w 3"]:
        sampler = {"type": "multijitter", "sample_count": samples}
        sensor = self._mi.load_dict(_sensor(self._mi, camera, sampler))
        integrator = self._mi.load_dict({"type": "path", "max_depth": vertices})
        image = integrator.render(scene, sensor, seed=seed, spp=samples)
        return np.nan_to_num(np.array(image, dtype=np.float32)[..., :3], posinf=0.0)

    def depth(self, camera: Camera) -> tuple[Float[np.ndarray, "h w"], Bool[np.ndarray, "h w"]]:
        """Depth and hit (see `Frame`) along the rays through the pixel centres."""
        centre = {"type": "stratified", "sample_count": 1, "jitter": False}
        sensor = self._mi.load_dict(_sensor(self._mi, camera, centre, pinhole=True))
        integrator = self._mi.load_dict({"type": "depth"})
        image = integrator.render(self._scene, sensor, seed=0, spp=1)
        # the renderer's rays start on the near plane
        beyond = np.array(image, dtype=np.float64)[..., 0]
        depth = np.where(beyond > 0, beyond / stretch(camera) + _NEAR, 0.0)
        return depth.astype(np.float32), beyond > 0


def stretch(camera: Camera) -> Float[np.ndarray, "h w"]:
    """Distance along the ray through each pixel's centre, for each metre of depth."""
    x = (np.arange(camera.width) + 0.5 - camera.width / 2) / camera.focal
    y = (np.arange(camera.height) + 0.5 - camera.height / 2) / camera.focal
    return np.sqrt(1 + x[None] ** 2 + y[:, None] ** 2)


def points(camera: Camera, depth: Float[np.ndarray, "h w"]) -> Float[np.ndarray, "h w 3"]:
    """What each pixel's centre sees, metres in the camera's axes; the origin where nothing."""
    x = (np.arange(camera.width) + 0.5 - camera.width / 2) / camera.focal
    y = (np.arange(camera.height) + 0.5 - camera.height / 2) / camera.focal
    rays = np.stack([*np.meshgrid(x, y), np.ones_like(depth)], axis=-1)
    return (rays * depth[..., None]).astype(np.float32)


def _parts(mi: Any, scene: Scene, dress: Callable[[Any, Material], Any]) -> dict[str, Any]:
    """The scene's shapes; a material is loaded once, whatever wears it."""
    surfaces: dict[int, dict[str, Any]] = {}
    parts: dict[str, Any] = {"type": "scene"}
    for index, shape in enumerate(scene.shapes):
        key = id(shape.material)
        if key not in surfaces:
            surfaces[key] = dress(mi, shape.material)
        parts[f"shape{index:04d}"] = _shape(mi, shape, surfaces[key])
    return parts


def _glow(mi: Any, material: Material) -> dict[str, Any]:
    """A surface that emits its own colour: one ray tells the albedo; black if it has none."""
    mirror = material.kind == "metal" and material.roughness == 0
    if mirror or material.kind in {"light", "glass"}:
        return {"bsdf": {"type": "diffuse"}}
    return {"emitter": {"type": "area", "radiance": _colour(mi, material)}}


def _mitsuba() -> Any:
    """Mitsuba, scalar and on one thread: the job runs one process per core.

    Raises:
        ImportError: it is not installed.
    """
    try:
        import drjit
        import mitsuba
    except ImportError as error:
        raise ImportError(
            "worlds: rendering needs Mitsuba, which is not installed; pip install 'distill[worlds]'"
        ) from error
    mitsuba.set_variant("scalar_rgb")
    # it takes the rounding of a thin rod's axes for a shear, and says so in the progress bar
    mitsuba.set_log_level(mitsuba.LogLevel.Error)
    drjit.set_thread_count(1)
    return mitsuba


def _sensor(
    mi: Any, camera: Camera, sampler: dict[str, Any], *, pinhole: bool = False
) -> dict[str, Any]:
    mitsuba_axes = np.diag([-1.0, -1.0, 1.0, 1.0])  # its camera has x left, y up, z forward
    film = {"type": "hdrfilm", "width": camera.width, "height": camera.height}
    film |= {"rfilter": {"type": "box"}, "pixel_format": "rgb", "component_format": "float32"}
    sensor: dict[str, Any] = {"type": "perspective", "fov": camera.fov_x, "fov_axis": "x"}
    if camera.aperture > 0 and not pinhole:
        sensor |= {"type": "thinlens", "aperture_radius": camera.aperture}
        sensor |= {"focus_distance": camera.focus}
    sensor |= {"near_clip": _NEAR, "far_clip": 1e5, "film": film, "sampler": sampler}
    sensor["to_world"] = mi.ScalarTransform4f((camera.world_from_cam @ mitsuba_axes).tolist())
    return sensor


def _shape(mi: Any, shape: Shape, surface: dict[str, Any]) -> Any:
    matrix = shape.pose
    if shape.kind == "mesh":
        return _mesh(mi, shape, surface)
    if shape.kind == "sphere":
        radius = float(np.linalg.norm(matrix[:3, 0]))
        return {"type": "sphere", "center": matrix[:3, 3].tolist(), "radius": radius} | surface
    if shape.kind == "cylinder":
        radius = float(np.linalg.norm(matrix[:3, 0]))
        ends = {"p0": matrix[:3, 3].tolist(), "p1": (matrix[:3, 3] + matrix[:3, 2]).tolist()}
        return {"type": "cylinder", "radius": radius} | ends | surface
    return {"type": shape.kind, "to_world": mi.ScalarTransform4f(matrix.tolist())} | surface


def _mesh(mi: Any, shape: Shape, surface: dict[str, Any]) -> Any:
    assert shape.mesh is not None
    properties = mi.Properties()
    for name, part in surface.items():
        properties[name] = mi.load_dict(part) if isinstance(part, dict) else part
    vertices = shape.mesh.vertices @ shape.pose[:3, :3].T + shape.pose[:3, 3]
    counts = (len(vertices), len(shape.mesh.faces))
    mesh = mi.Mesh("mesh", *counts, props=properties, has_vertex_texcoords=True)
    parameters = mi.traverse(mesh)
    parameters["vertex_positions"] = vertices.astype(np.float32).ravel()
    parameters["vertex_texcoords"] = shape.mesh.uv.astype(np.float32).ravel()
    parameters["faces"] = shape.mesh.faces.astype(np.uint32).ravel()
    parameters.update()
    return mesh


def _surface(mi: Any, material: Material) -> dict[str, Any]:
    """The `bsdf` (loaded, to be shared) and `emitter` entries of a shape."""
    if material.kind == "light":
        radiance = {"type": "rgb", "value": list(material.colour)}
        emitter = {"type": "area", "radiance": radiance}
        return {"emitter": emitter, "bsdf": mi.load_dict({"type": "diffuse"})}
    if material.kind == "glass":
        return {"bsdf": mi.load_dict({"type": "thindielectric"})}
    colour = _colour(mi, material)
    if material.kind == "plastic":
        bsdf = {"type": "plastic", "diffuse_reflectance": colour}
    elif material.kind == "metal":
        bsdf = {"type": "conductor", "material": "none", "specular_reflectance": colour}
        if material.roughness > 0:
            bsdf |= {"type": "roughconductor", "alpha": material.roughness}
    else:
        bsdf = {"type": "diffuse", "reflectance": colour}
    return {"bsdf": mi.load_dict({"type": "twosided", "inner": bsdf})}


def _colour(mi: Any, material: Material) -> dict[str, Any]:
    if material.texture is None:
        return {"type": "rgb", "value": list(material.colour)}
    u, v = material.repeat
    return {
        "type": "bitmap",
        "bitmap": mi.Bitmap(np.ascontiguousarray(material.texture, dtype=np.float32)),
        "raw": True,
        "to_uv": mi.ScalarTransform4f(np.diag([u, v, 1.0, 1.0]).tolist()),
    }


def _light(mi: Any, light: Light) -> dict[str, Any]:
    colour = {"type": "rgb", "value": list(light.colour)}
    if light.kind == "point":
        return {"type": "point", "position": list(light.place), "intensity": colour}
    if light.kind == "sun":
        return {"type": "directional", "direction": list(light.place), "irradiance": colour}
    if light.horizon is None:
        return {"type": "constant", "radiance": colour}
    height = np.sin(np.linspace(np.pi / 2, -np.pi / 2, 32))[:, None, None]
    blend = np.clip(height, 0, 1) ** 0.5
    sky = blend * np.asarray(light.colour) + (1 - blend) * np.asarray(light.horizon)
    picture = np.ascontiguousarray(np.repeat(sky, 4, axis=1), dtype=np.float32)
    up = [[1.0, 0, 0, 0], [0, 0, -1.0, 0], [0, 1.0, 0, 0], [0, 0, 0, 1.0]]
    pose = mi.ScalarTransform4f(up)  # the map's pole is y
    return {"type": "envmap", "bitmap": mi.Bitmap(picture), "to_world": pose}
