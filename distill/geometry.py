"""Pinhole geometry and what one depth `Space` can be turned into.

Pixels have integer centres: the corner of the image is (-0.5, -0.5). Axes are OpenCV's: x right,
y down, z forward. `K` maps a point to homogeneous pixel coordinates; all functions take any
invertible 3x3 matrix, so an oblique image plane (third row other than 0 0 1) is exact as well.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from distill.types import Space


def resize_K(  # noqa: N802 K is its name in every equation
    K: Float[Tensor, "*b 3 3"], *, old: tuple[int, int], new: tuple[int, int]
) -> Float[Tensor, "*b 3 3"]:
    """`K` of an image resized from `old` to `new`, both (height, width).

    The corners of the image stay corners: `c' = (c + 0.5) * s - 0.5`.
    """
    y, x = new[0] / old[0], new[1] / old[1]
    return _matrix(K, [[x, 0, (x - 1) / 2], [0, y, (y - 1) / 2], [0, 0, 1]]) @ K


def crop_K(  # noqa: N802 as above
    K: Float[Tensor, "*b 3 3"], *, top: int, left: int
) -> Float[Tensor, "*b 3 3"]:
    """`K` of the part of the image whose first pixel was (row `top`, column `left`)."""
    return _matrix(K, [[1, 0, -left], [0, 1, -top], [0, 0, 1]]) @ K


def flip_K(  # noqa: N802 as above
    K: Float[Tensor, "*b 3 3"], *, width: int
) -> Float[Tensor, "*b 3 3"]:
    """`K` of the image mirrored left to right: of the mirrored world, so that fx stays positive."""
    pixels = _matrix(K, [[-1, 0, width - 1], [0, 1, 0], [0, 0, 1]])
    return pixels @ K @ _matrix(K, [[-1, 0, 0], [0, 1, 0], [0, 0, 1]])


def backproject(
    depth: Float[Tensor, "*b h w"], K: Float[Tensor, "*b 3 3"]
) -> Float[Tensor, "*b 3 h w"]:
    """The point seen by each pixel, in the unit of `depth`; NaN depth gives NaN points."""
    h, w = depth.shape[-2:]
    return _rays(K, h, w) * depth.unsqueeze(-3)


def project(
    points: Float[Tensor, "*b 3 h w"], K: Float[Tensor, "*b 3 3"]
) -> tuple[Float[Tensor, "*b 2 h w"], Float[Tensor, "*b h w"]]:
    """Pixel (x, y) and depth of each point; the pixel is NaN where depth is not positive."""
    depth = points[..., 2, :, :]
    in_front = depth > 0
    x, y, z = torch.einsum("...ij,...jhw->...ihw", K, points).unbind(-3)
    z = torch.where(in_front, z, torch.ones_like(z))
    pixels = torch.stack([x / z, y / z], -3)
    return torch.where(in_front.unsqueeze(-3), pixels, torch.nan), depth


def ray_distance_to_depth(
    ray_distance: Float[Tensor, "*b h w"], K: Float[Tensor, "*b 3 3"]
) -> Float[Tensor, "*b h w"]:
    """Depth along the optical axis from the distance along each pixel's ray, both in one unit."""
    h, w = ray_distance.shape[-2:]
    return ray_distance / _rays(K, h, w).square().sum(-3).sqrt()


def to_space(
    values: Float[Tensor, "*b h w"],
    valid: Bool[Tensor, "*b h w"],
    far: Bool[Tensor, "*b h w"] | None,
    *,
    source: Space,
    target: Space,
) -> tuple[Float[Tensor, "*b h w"], Bool[Tensor, "*b h w"]]:
    """Numbers of `source` in `target`, and where they are valid; NaN elsewhere.

    A conversion can forget (metric, up to scale, up to scale and shift, order) and never learn;
    between depth and its inverse it needs the shift. Invalid is decided before any arithmetic:
    nothing that is not finite is valid, no depth <= 0, no inverse depth < 0, and an inverse depth
    of 0 has no depth. `far` (1 / infinity, Depth Anything V1 section 3.1) becomes 0 and valid in
    the spaces of disparity and in `ORDINAL`; metric spaces and depths never use it.

    Raises:
        ValueError: no such conversion exists, or the shapes differ.
    """
    if valid.shape != values.shape or (far is not None and far.shape != values.shape):
        shapes = [tuple(x.shape) for x in (values, valid, far) if x is not None]
        raise ValueError(f"to_space: values, valid and far must have one shape, got {shapes}")
    known, inverted = _KNOWN[source], source.is_inverse != target.is_inverse
    has_origin = known >= _KNOWN[Space.SCALE_INVARIANT_DEPTH]
    only_order = target is Space.ORDINAL
    if _KNOWN[target] > known or (inverted and not has_origin and not only_order):
        raise ValueError(
            f"to_space: no conversion from {source.value} to {target.value}; "
            "what is unknown cannot be restored without ground truth (see alignment)"
        )
    valid = valid & torch.isfinite(values)
    if has_origin:
        closed = source.is_inverse and not inverted  # the one case in which 0 is a legal number
        valid = valid & ((values >= 0) if closed else (values > 0))
    converted = torch.where(valid, values, torch.ones_like(values))
    if inverted:
        converted = converted.reciprocal() if has_origin else -converted
        valid = valid & torch.isfinite(converted)
    if far is not None and has_origin and target in _SKY_IS_ZERO:
        converted = torch.where(far, torch.zeros_like(converted), converted)
        valid = valid | far
    return torch.where(valid, converted, torch.nan), valid


_KNOWN = {  # how much of the absolute number is known
    Space.METRIC_DEPTH: 3,
    Space.METRIC_INVERSE_DEPTH: 3,
    Space.SCALE_INVARIANT_DEPTH: 2,
    Space.SCALE_INVARIANT_DISPARITY: 2,
    Space.AFFINE_DEPTH: 1,
    Space.AFFINE_DISPARITY: 1,
    Space.ORDINAL: 0,
}
_SKY_IS_ZERO = {Space.SCALE_INVARIANT_DISPARITY, Space.AFFINE_DISPARITY, Space.ORDINAL}


def _rays(K: Float[Tensor, "*b 3 3"], h: int, w: int) -> Float[Tensor, "*b 3 h w"]:
    """The point of depth 1 seen by each pixel."""
    y, x = torch.meshgrid(
        torch.arange(h, dtype=K.dtype, device=K.device),
        torch.arange(w, dtype=K.dtype, device=K.device),
        indexing="ij",
    )
    pixels = torch.stack([x, y, torch.ones_like(x)])
    rays = torch.einsum("...ij,jhw->...ihw", torch.inverse(K), pixels)
    return rays / rays[..., 2:, :, :]


def _matrix(like: Tensor, rows: list[list[int | float]]) -> Tensor:
    return torch.tensor(rows, dtype=like.dtype, device=like.device)
