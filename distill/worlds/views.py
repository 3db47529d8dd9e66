"""Which of a scene's camera candidates are worth rendering."""

from collections.abc import Sequence

import numpy as np

from distill.worlds.render import Renderer
from distill.worlds.scene import Camera

_PREVIEW = 24  # pixels across


def choose(
    renderer: Renderer, candidates: Sequence[Camera], count: int, *, nearest: float
) -> list[Camera]:
    """The first `count` candidates with an open view; then the best of the others.

    A view is open when nothing is nearer than `nearest` metres, little is nearer than three times
    that (as from inside an object) and at least two fifths of it show a surface.

    Raises:
        ValueError: fewer candidates than `count`.
    """
    if len(candidates) < count:
        raise ValueError(
            f"worlds: {count} views wanted of a scene with {len(candidates)} cameras; "
            "let the scene propose more"
        )
    scores = [_openness(renderer, camera, nearest) for camera in candidates]
    order = sorted(range(len(candidates)), key=lambda index: (-min(scores[index], 1.0), index))
    return [candidates[index] for index in order[:count]]


def _openness(renderer: Renderer, camera: Camera, nearest: float) -> float:
    """1 or more for an open view, less the worse it is."""
    depth, hit = renderer.depth(camera.resized(_PREVIEW))
    if not hit.any():
        return 0.0
    seen = depth[hit]
    crowded = np.mean(seen < 3 * nearest)
    return float(
        min(seen.min() / nearest, 1.0)
        * min((1.0 - crowded) / 0.65, 1.0)
        * min(hit.mean() / 0.4, 1.0)
    )
