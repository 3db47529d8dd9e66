"""From radiance to 8-bit pictures: exposure, haze, and a photograph's faults."""

import cv2
import numpy as np
from jaxtyping import Float, UInt8

Radiance = Float[np.ndarray, "h w 3"]
Picture = UInt8[np.ndarray, "h w 3"]


def exposed(radiance: Radiance, *, key: float = 0.8, stops: float = 0.0) -> Radiance:
    """Scale so that the 90th percentile of luminance is displayed at `key`, then by 2**`stops`."""
    return radiance * (exposure(radiance, key=key) * 2.0**stops)


def exposure(radiance: Radiance, *, key: float = 0.8) -> float:
    """The factor that displays the 90th percentile of luminance at `key`."""
    luminance = radiance @ np.array([0.2126, 0.7152, 0.0722], dtype=radiance.dtype)
    return key**2.2 / max(float(np.percentile(luminance, 90)), 1e-6)


def displayed(linear: Radiance) -> Picture:
    """The sRGB curve, clipped and quantised."""
    x = np.clip(linear, 0.0, 1.0)
    curve = np.where(x <= 0.0031308, 12.92 * x, 1.055 * np.maximum(x, 1e-8) ** (1 / 2.4) - 0.055)
    return np.round(curve * 255).astype(np.uint8)


def hazy(
    radiance: Radiance,
    ray_distance: Float[np.ndarray, "h w"],
    air: tuple[float, float, float],
    extinction: float,
) -> Radiance:
    """Blend towards the colour of the air with distance (Koschmieder); infinity is all air."""
    kept = np.exp(-extinction * ray_distance)[..., None]
    return (radiance * kept + np.asarray(air) * (1 - kept)).astype(np.float32)


def photographed(rng: np.random.Generator, radiance: Radiance) -> Picture:
    """Expose badly, cast a colour, dim the corners, soften, add sensor noise, then develop."""
    height, width = radiance.shape[:2]
    gains = np.exp(rng.normal(0, 0.15, 3))
    linear = exposed(radiance, stops=rng.normal(-0.2, 0.7)) * gains / gains.mean()
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    linear = linear * (1 - rng.uniform(0, 0.35) * (x**2 + y**2) / 2)[..., None]
    blur = rng.uniform(0, 0.7)
    if blur > 0.3:
        linear = cv2.GaussianBlur(linear, (0, 0), blur)
    noise = rng.uniform(0.0, 0.06) ** 1.3
    deviation = np.sqrt(np.maximum(linear, 0) * noise**2 + (0.3 * noise) ** 2)
    linear = linear + deviation * rng.standard_normal(linear.shape)
    contrast = rng.uniform(0.8, 1.3)
    return displayed(np.maximum(linear, 0) ** contrast)
