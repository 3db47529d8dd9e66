"""Views, and all that belongs to a pixel, under any chain of changes: the same world."""

import pickle
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own abbreviation
from moving_camera import moved, pose, room_from
from samples import sample_of
from scenes import pinhole, room

from distill import geometry, transforms
from distill.types import Sample, View

# what comes back may lack a target; these samples do not
resize: Any = transforms.resize
crop: Any = transforms.crop
mirror: Any = transforms.mirror
resize_and_crop: Any = transforms.resize_and_crop


@pytest.fixture
def sample():
    return sample_of(room(48, 64, pinhole(48, 64)))


SKEWED = torch.tensor([[1.0, 0.03, 0], [0, 1, 0], [0.05, -0.08, 1]], dtype=torch.float64)
POSES = {  # view_from_sample: of the next frame, and of a camera to the right
    1: pose(turn=4, move=(0.1, -0.05, -0.4)),
    0: pose(move=(-0.5, 0, 0)),
}


def random_camera(rng, height, width):
    """Off-centre, not square; in half of all cases skewed, with an oblique image plane."""
    f = width * rng.uniform(0.7, 1.1)
    cx, cy = width * rng.uniform(0.4, 0.6), height * rng.uniform(0.4, 0.6)
    K = torch.tensor([[f, 0, cx], [0, f * rng.uniform(0.9, 1.1), cy], [0, 0, 1]]).double()
    return K @ SKEWED if rng.random() < 0.5 else K


def sample_with_views(rng, height, width) -> Any:
    """The painted room from three places; each with its own K."""
    cameras = [random_camera(rng, height, width) for _ in range(3)]
    scene = room_from(height, width, cameras[0], pose())
    views = tuple(
        View(
            key=f"scenes/{offset}",
            image=room_from(height, width, K, POSES[offset]).image.float(),
            offset=offset,
            K=K.float(),
            view_from_sample=POSES[offset].float(),
        )
        for offset, K in zip(POSES, cameras[1:], strict=True)
    )
    return replace(sample_of(scene), image=scene.image.float(), views=views)


def random_transform(rng, height, width):
    """A change of samples, the same of pixels (x, y), and of points."""
    top, left = int(rng.integers(1, height // 4)), int(rng.integers(1, width // 4))
    h, w = height * 3 // 4 - int(rng.integers(3)), width * 3 // 4 - int(rng.integers(3))
    new = int(rng.integers(height // 2, 2 * height)), int(rng.integers(width // 2, 2 * width))
    scale = torch.tensor([new[1] / width, new[0] / height]).double()
    corner, last = torch.tensor([left, top]).double(), torch.tensor([width - 1, 0]).double()
    left_right = torch.tensor([-1.0, 1]).double()
    same = torch.ones(3).double()
    return [
        (lambda s: resize(s, height=new[0], width=new[1]), lambda p: (p + 0.5) * scale - 0.5, same),
        (lambda s: crop(s, top=top, left=left, height=h, width=w), lambda p: p - corner, same),
        (mirror, lambda p: last + p * left_right, torch.tensor([-1.0, 1, 1]).double()),
    ][int(rng.integers(3))]


def pixel(K, points):
    """Where points (3, n) are seen, (n, 2)."""
    x, y, z = K.double() @ points
    return torch.stack([x / z, y / z], -1)


@pytest.mark.parametrize("seed", range(40))
def test_a_point_stays_where_it_is_in_the_sample_and_in_every_view(seed):
    rng = np.random.default_rng(seed)
    height, width = (int(side) for side in rng.integers(20, 50, size=2))
    sample = sample_with_views(rng, height, width)
    points = torch.from_numpy(rng.uniform([-2, -1, 2], [2, 1, 6], size=(50, 3))).T
    changed, mapped = sample, points
    on_sample, on_views = (
        pixel(sample.K, points),
        [_seen_in(view, points) for view in sample.views],
    )
    for _ in range(3):
        change, of_pixels, of_points = random_transform(rng, *changed.image.shape[-2:])
        changed, mapped = change(changed), mapped * of_points[:, None]
        on_sample, on_views = of_pixels(on_sample), [of_pixels(place) for place in on_views]
    near = {"rtol": 1e-4, "atol": 2e-3, "check_dtype": False}
    torch.testing.assert_close(pixel(changed.K, mapped), on_sample, **near)
    for view, place in zip(changed.views, on_views, strict=True):
        assert view.image.shape == changed.image.shape
        torch.testing.assert_close(_seen_in(view, mapped), place, **near)


def _seen_in(view, points):
    return pixel(view.K, moved(view.view_from_sample.double(), points))


def colour_error(sample, view):
    """How far the view's colours are from the sample's, where both see a point."""
    points = geometry.backproject(sample.target, sample.K)
    pixels, depth = geometry.project(moved(view.view_from_sample, points), view.K)
    height, width = depth.shape
    size = torch.tensor([width, height]).reshape(2, 1, 1)
    grid = ((2 * pixels + 1) / size - 1).permute(1, 2, 0)
    there = F.grid_sample(view.image[None], grid[None].nan_to_num(-9), align_corners=False)[0]
    error = (there - sample.image).abs().mean(0)
    return error[(grid.abs() < 0.95).all(-1)].nanmedian().item()


@pytest.mark.parametrize("seed", range(12))
def test_views_have_the_colours_of_the_sample_after_every_change(seed):
    rng = np.random.default_rng(seed)
    sample = sample_with_views(rng, *(int(side) for side in rng.integers(40, 70, size=2)))
    changed = sample
    for _ in range(2):
        changed = random_transform(rng, *changed.image.shape[-2:])[0](changed)
    turned = [
        replace(v, view_from_sample=torch.linalg.inv(v.view_from_sample)) for v in changed.views
    ]
    for view, wrong in zip(changed.views, turned, strict=True):
        error = colour_error(changed, view)
        assert error < 0.01
        assert colour_error(changed, wrong) > 0.05


def test_views_are_cropped_resized_and_mirrored_as_the_sample_is(sample):
    """A view that is the sample's own image stays its own image."""
    itself = View(key="scenes/itself", image=sample.image, offset=0, K=sample.K)
    drawn = resize_and_crop(
        replace(sample, views=(itself,)), np.random.default_rng(1), size=42, flip=1.0
    )
    (view,) = drawn.views
    assert torch.equal(view.image, drawn.image)
    assert torch.equal(view.K, drawn.K)
    assert view.view_from_sample is None
    assert (view.key, view.offset) == ("scenes/itself", 0)


def test_a_mirrored_right_camera_is_a_left_one():
    sample = sample_with_views(np.random.default_rng(0), 20, 30)
    x = [view.view_from_sample[0, 3].item() for s in (sample, mirror(sample)) for view in s.views]
    assert x == pytest.approx([0.1, -0.5, -0.1, 0.5])
    twice = mirror(mirror(sample))
    for view, again in zip(sample.views, twice.views, strict=True):
        assert torch.equal(view.view_from_sample, again.view_from_sample)


def test_a_view_of_another_size_is_refused(sample):
    small = View(key="scenes/small", image=sample.image[:, 1:], offset=1)
    for change in (mirror, lambda s: resize(s, height=9, width=9)):
        with pytest.raises(
            ValueError, match=r"room: \(48, 64\) pixels but scenes/small \(47, 64\)"
        ):
            change(replace(sample, views=(small,)))


@pytest.mark.parametrize("seed", range(10))
def test_everything_of_a_pixel_moves_with_it(seed):
    """Target, masks and confidence hold the pixel's own number; it names the place it came from."""
    rng = np.random.default_rng(seed)
    height, width = (int(side) for side in rng.integers(11, 40, size=2))
    number = torch.arange(height * width).reshape(height, width).float()
    sample: Any = Sample(
        key="a/b",
        image=torch.rand(3, height, width, generator=torch.Generator().manual_seed(seed)),
        target=number,
        valid=number % 2 == 0,
        far=number % 2 == 1,
        confidence=number / number.max(),
    )
    place = torch.stack([number % width, number // width], -1).double()
    change, of_pixels, _ = random_transform(rng, height, width)
    changed = change(sample)
    assert torch.equal(changed.valid, changed.target % 2 == 0)
    assert torch.equal(changed.far, ~changed.valid)
    torch.testing.assert_close(changed.confidence, changed.target / number.max())
    went = of_pixels(place.reshape(-1, 2))[changed.target.long().flatten()]
    h, w = changed.target.shape
    y, x = torch.meshgrid(torch.arange(h).double(), torch.arange(w).double(), indexing="ij")
    half = torch.tensor([max(1, w / width), max(1, h / height)]) / 2
    assert ((went.reshape(h, w, 2) - torch.stack([x, y], -1)).abs() <= half + 1e-6).all()


def test_views_are_pickled():
    one = sample_with_views(np.random.default_rng(0), 20, 30)
    copy = pickle.loads(pickle.dumps(one))
    for view, again in zip(one.views, copy.views, strict=True):
        assert torch.equal(view.image, again.image)
        assert torch.equal(view.view_from_sample, again.view_from_sample)
