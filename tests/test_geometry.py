"""Geometry against closed forms, and every pair of Spaces."""

import itertools
import math

import pytest
import torch
from contracts import unchecked
from scenes import ball, rays, room

from distill import geometry
from distill.types import Space

H, W = 24, 36
K = torch.tensor([[31.0, 0, 15.2], [0, 29.0, 13.1], [0, 0, 1]], dtype=torch.float64)
# an oblique image plane, as some of Hypersim's cameras have
OBLIQUE = K @ torch.tensor([[1, 0, 0], [0, 1, 0], [0.05, -0.08, 1]], dtype=torch.float64)


@pytest.mark.parametrize("camera", [K, OBLIQUE])
@pytest.mark.parametrize("scene", [room, ball])
def test_backprojected_points_lie_on_the_surface(scene, camera):
    truth = scene(H, W, camera)
    points = geometry.backproject(truth.depth, camera)
    torch.testing.assert_close(points, truth.points, equal_nan=True)


@pytest.mark.parametrize("camera", [K, OBLIQUE])
def test_projecting_gives_back_the_pixel(camera):
    truth = room(H, W, camera)
    pixels, depth = geometry.project(truth.points, camera)
    y, x = torch.meshgrid(torch.arange(H).double(), torch.arange(W).double(), indexing="ij")
    torch.testing.assert_close(pixels, torch.stack([x, y]), atol=1e-9, rtol=0)
    torch.testing.assert_close(depth, truth.depth)


def test_points_behind_the_camera_have_no_pixel():
    points = torch.tensor([0.5, 0.5, -1.0]).reshape(3, 1, 1).expand(3, 2, 2)
    pixels, depth = geometry.project(points, K.float())
    assert pixels.isnan().all()
    assert (depth == -1).all()


def test_a_batch_of_cameras_equals_one_at_a_time():
    depth = torch.stack([room(H, W, K).depth, room(H, W, OBLIQUE).depth])
    both = geometry.backproject(depth, torch.stack([K, OBLIQUE]))
    one = [geometry.backproject(d, k) for d, k in zip(depth, [K, OBLIQUE], strict=True)]
    torch.testing.assert_close(both, torch.stack(one))


@pytest.mark.parametrize("camera", [K, OBLIQUE])
def test_ray_distance_becomes_depth(camera):
    truth = room(H, W, camera)
    depth = geometry.ray_distance_to_depth(truth.ray_distance, camera)
    torch.testing.assert_close(depth, truth.depth)
    assert (truth.ray_distance / truth.depth).max() > 1.1  # the factor is not negligible here


def test_ray_distance_by_hand():
    """A pixel 3 right of and 4 below the principal point, f = 12: the ray is 13 where z is 12."""
    camera = torch.tensor([[12.0, 0, 0], [0, 12, 0], [0, 0, 1]])
    depth = geometry.ray_distance_to_depth(torch.full((5, 4), 13.0), camera)
    assert depth[4, 3].item() == pytest.approx(12)


@pytest.mark.parametrize("camera", [K, OBLIQUE])
def test_resize_keeps_the_corners(camera):
    """With three pixels for one, the middle one looks where the old one did."""
    tripled = geometry.resize_K(camera, old=(H, W), new=(3 * H, 3 * W))
    torch.testing.assert_close(rays(3 * H, 3 * W, tripled)[:, 1::3, 1::3], rays(H, W, camera))


def test_resize_by_hand():
    resized = geometry.resize_K(K, old=(H, W), new=(2 * H, W // 2))
    expected = [[15.5, 0, (15.2 + 0.5) * 0.5 - 0.5], [0, 58.0, (13.1 + 0.5) * 2 - 0.5], [0, 0, 1]]
    torch.testing.assert_close(resized, torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("camera", [K, OBLIQUE])
def test_crop_is_a_part_of_the_picture(camera):
    cropped = geometry.crop_K(camera, top=5, left=7)
    torch.testing.assert_close(rays(H - 5, W - 7, cropped), rays(H, W, camera)[:, 5:, 7:])


@pytest.mark.parametrize("camera", [K, OBLIQUE])
def test_flip_is_the_mirrored_world(camera):
    flipped = geometry.flip_K(camera, width=W)
    mirror = torch.tensor([-1.0, 1, 1]).double()[:, None, None]
    torch.testing.assert_close(rays(H, W, flipped), rays(H, W, camera).flip(-1) * mirror)
    assert flipped[0, 0] > 0
    torch.testing.assert_close(geometry.flip_K(flipped, width=W), camera)


D, SI, AD = Space.METRIC_DEPTH, Space.SCALE_INVARIANT_DEPTH, Space.AFFINE_DEPTH
ID, SD, AI = Space.METRIC_INVERSE_DEPTH, Space.SCALE_INVARIANT_DISPARITY, Space.AFFINE_DISPARITY
ORDINAL = Space.ORDINAL
POSSIBLE = {
    D: {D, SI, AD, ID, SD, AI, ORDINAL},
    SI: {SI, AD, SD, AI, ORDINAL},
    AD: {AD, ORDINAL},
    ID: {D, SI, AD, ID, SD, AI, ORDINAL},
    SD: {SI, AD, SD, AI, ORDINAL},
    AI: {AI, ORDINAL},
    ORDINAL: {ORDINAL},
}


@pytest.mark.parametrize(("source", "target"), list(itertools.product(Space, Space)))
def test_every_pair_of_spaces(source, target):
    values, valid = torch.tensor([[0.5, 2.0, 4.0]]), torch.ones(1, 3, dtype=torch.bool)
    if target not in POSSIBLE[source]:
        with pytest.raises(ValueError, match=f"from {source.value} to {target.value}"):
            geometry.to_space(values, valid, None, source=source, target=target)
        return
    converted, still = geometry.to_space(values, valid, None, source=source, target=target)
    assert still.all()
    if source.is_inverse == target.is_inverse:
        torch.testing.assert_close(converted, values)
    elif source is AD:
        torch.testing.assert_close(converted, -values)  # only the order is left
    else:
        torch.testing.assert_close(converted, 1 / values)


def test_sky_is_zero_disparity_and_becomes_valid():
    depth = torch.tensor([[2.0, math.nan, math.nan]])
    valid, far = torch.tensor([[True, False, False]]), torch.tensor([[False, True, False]])
    for target in (SD, AI, ORDINAL):
        values, known = geometry.to_space(depth, valid, far, source=D, target=target)
        assert values[0, :2].tolist() == [0.5, 0.0]
        assert known.tolist() == [[True, True, False]]
        assert values[0, 2].isnan()
    for target in (D, ID, SI, AD):
        values, known = geometry.to_space(depth, valid, far, source=D, target=target)
        assert known.tolist() == valid.tolist()
        assert values[0, 1:].isnan().all()


@pytest.mark.parametrize("junk", [0.0, -1.0, -0.0, math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("target", [D, SI, ID, AI])
def test_a_depth_that_is_not_positive_is_never_valid(junk, target):
    depth, valid = torch.tensor([[junk, 4.0]]), torch.ones(1, 2, dtype=torch.bool)
    values, known = geometry.to_space(depth, valid, None, source=D, target=target)
    assert known.tolist() == [[False, True]]
    assert values[0, 0].isnan()


def test_a_depth_too_small_to_invert_is_not_valid():
    depth, valid = torch.full((1, 1), 1e-42), torch.ones(1, 1, dtype=torch.bool)
    values, known = geometry.to_space(depth, valid, None, source=D, target=AI)
    assert values.isnan().all()
    assert not known.any()


def test_zero_inverse_depth_is_valid_and_has_no_depth():
    values, valid = torch.tensor([[0.0, -1.0, 0.5]]), torch.ones(1, 3, dtype=torch.bool)
    _, known = geometry.to_space(values, valid, None, source=ID, target=AI)
    assert known.tolist() == [[True, False, True]]
    _, known = geometry.to_space(values, valid, None, source=ID, target=D)
    assert known.tolist() == [[False, False, True]]


def test_an_affine_map_may_be_negative():
    values, valid = torch.tensor([[0.0, -1.0, 0.5]]), torch.ones(1, 3, dtype=torch.bool)
    converted, known = geometry.to_space(values, valid, None, source=AI, target=ORDINAL)
    assert known.all()
    assert converted.tolist() == values.tolist()


def test_invalid_pixels_hold_anything_and_stop_no_gradient():
    depth = torch.tensor([[2.0, 0.0, math.nan]], requires_grad=True)
    valid = torch.tensor([[True, False, False]])
    values, known = geometry.to_space(depth, valid, None, source=D, target=AI)
    values[known].sum().backward()
    assert depth.grad is not None
    assert depth.grad.tolist() == [[-0.25, 0.0, 0.0]]


def test_shapes_must_agree():
    valid = torch.ones(2, 2, dtype=torch.bool)
    with pytest.raises(ValueError, match=r"one shape, got \[\(2, 3\), \(2, 2\)\]"):
        unchecked(geometry.to_space)(torch.ones(2, 3), valid, None, source=D, target=AI)
