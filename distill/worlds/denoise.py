"""A few paths per pixel are noise; what surfaces the pixels see is known almost exactly.

The light that falls on a surface changes slowly along it, its texture does not. So radiance is
divided by albedo, averaged over neighbours that lie on the same plane, and multiplied back: a
cross-bilateral filter over irradiance (Eisemann & Durand 2004), in passes of growing step (the
a-trous wavelets of Dammertz et al. 2010).
"""

import numpy as np
from jaxtyping import Bool, Float

Image = Float[np.ndarray, "h w 3"]

_RADIUS = 2  # of each pass, in its steps
_STEPS = (1, 3)  # pixels between taps
_OFF_PLANE = 0.01  # how far a tap may leave the plane, as a share of depth
_DARKEST = 0.02  # albedo; below, division would amplify noise
_FIREFLY = 8.0  # of the median light; single paths that met a lamp are cut there


def denoised(radiance: Image, albedo: Image, point: Image, hit: Bool[np.ndarray, "h w"]) -> Image:
    """Radiance with the light on each plane smoothed; textures and outlines stay.

    Args:
        radiance: linear, noisy.
        albedo: of the surface a pixel sees; black where it shows something other than itself,
            as lamps, glass and mirrors do: only the closest neighbours of its kind are averaged.
        point: metres, where that surface is in the camera's axes.
        hit: whether there is one; other pixels are returned as they are.
    """
    if not hit.any():
        return radiance
    matt = albedo.max(axis=-1) > _DARKEST
    texture = np.where(matt[..., None], albedo, 1.0).astype(np.float32)
    light = radiance / texture
    light = np.minimum(light, _FIREFLY * np.median(light[hit]) + 1e-6)
    kind = np.where(hit, np.where(matt, 1, -1), 0)[..., None]
    guide = np.concatenate([point, _normals(point), kind], axis=-1).astype(np.float32)
    for step in _STEPS:
        smooth = _pass(light, guide, step)
        light = np.where(matt[..., None] | (step == 1), smooth, light)
    return np.where(hit[..., None], light * texture, radiance).astype(np.float32)


def _normals(point: Image) -> Image:
    """Unit normals from the closer of both neighbours along each axis, so that edges stay sharp."""
    tangents = []
    for axis in (0, 1):
        before = np.diff(point, axis=axis, prepend=np.take(point, [0], axis))
        after = np.diff(point, axis=axis, append=np.take(point, [-1], axis))
        first, second = (np.square(side).sum(-1, keepdims=True) for side in (before, after))
        use_after = ((second < first) & (second > 0)) | (first == 0)
        tangents.append(np.where(use_after, after, before))
    normal = np.cross(tangents[1], tangents[0])
    return normal / np.maximum(np.linalg.norm(normal, axis=-1, keepdims=True), 1e-12)


def _pass(light: Image, guide: Float[np.ndarray, "h w 7"], step: int) -> Image:
    """Each pixel's light as the mean over taps in its plane."""
    reach, (height, width) = _RADIUS * step, light.shape[:2]
    point, normal = guide[..., :3], guide[..., 3:6]
    tolerance = _OFF_PLANE * np.maximum(point[..., 2], 0.1)
    padded = np.pad(
        np.concatenate([light, guide], axis=-1), ((reach, reach), (reach, reach), (0, 0))
    )
    total = np.zeros((height, width, 4), dtype=np.float32)
    for dy in range(0, 2 * reach + 1, step):
        for dx in range(0, 2 * reach + 1, step):
            tap = padded[dy : dy + height, dx : dx + width]
            off = np.einsum("hwc,hwc->hw", tap[..., 3:6] - point, normal) / tolerance
            alike = np.einsum("hwc,hwc->hw", tap[..., 6:9], normal)
            weight = np.clip(alike, 0, 1) ** 8 * np.exp(-np.square(off))
            weight *= np.maximum(tap[..., 9] * guide[..., 6], 0)
            total[..., :3] += weight[..., None] * tap[..., :3]
            total[..., 3] += weight
    kept = total[..., 3:]
    return np.where(kept > 1e-6, total[..., :3] / np.maximum(kept, 1e-6), light)
