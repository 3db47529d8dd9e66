import pickle
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own abbreviation
from moving_camera import moved, pose, room_from
from scenes import pinhole, room

from distill import geometry, transforms
from distill.transforms import network_size
from distill.types import Sample, Space, View

# what comes back may lack a target; these samples do not
resize: Any = transforms.resize
crop: Any = transforms.crop
mirror: Any = transforms.mirror
resize_and_crop: Any = transforms.resize_and_crop


def sample_of(scene) -> Any:
    """The scene as a sample: its blue is replaced by noise, so that nothing is smooth."""
    image = scene.image.float()
    image[2] = torch.rand(image.shape[1:], generator=torch.Generator().manual_seed(0))
    valid = scene.valid & (image[2] > 0.1)
    return Sample(
        key="scenes/room",
        image=image,
        target=torch.where(valid, scene.depth, torch.nan).float(),
        valid=valid,
        far=~valid & (image[2] > 0.05),
        confidence=image[2],
        space=Space.METRIC_DEPTH,
        K=scene.K.float(),
    )


@pytest.fixture
def sample():
    return sample_of(room(48, 64, pinhole(48, 64)))


@pytest.mark.parametrize(
    ("old", "new"),
    [  # test vector T7, width x height
        ((640, 480), (686, 518)),
        ((480, 640), (518, 686)),
        ((1242, 375), (1722, 518)),
        ((1216, 352), (1792, 518)),
        ((1024, 436), (1218, 518)),
        ((1920, 1080), (924, 518)),
        ((6048, 4032), (770, 518)),
        ((300, 500), (518, 868)),
        ((518, 518), (518, 518)),
    ],
)
def test_network_size_vectors(old, new):
    height, width = network_size(old[1], old[0], short_side=518, multiple=14)
    assert (width, height) == new
    assert network_size(height, width, short_side=518, multiple=14) == (height, width)


def test_network_size_reaches_the_short_side_at_any_shape():
    rng = np.random.default_rng(0)
    for height, width in rng.integers(1, 3000, size=(2000, 2)):
        size = network_size(int(height), int(width), short_side=518, multiple=14)
        assert min(size) == 518
        assert all(side % 14 == 0 for side in size)


def test_network_size_of_nothing_is_refused():
    with pytest.raises(ValueError, match="0 x 4 pixels, short side 518, multiple 14"):
        network_size(0, 4, short_side=518, multiple=14)


@pytest.mark.parametrize("size", [(24, 32), (48, 64), (70, 98), (31, 201)])
def test_resized_image_is_opencv_bicubic_clipped(sample, size):
    resized = resize(sample, height=size[0], width=size[1])
    pixels = sample.image.permute(1, 2, 0).numpy()
    theirs = cv2.resize(pixels, size[::-1], interpolation=cv2.INTER_CUBIC).clip(0, 1)
    np.testing.assert_array_equal(resized.image.permute(1, 2, 0).numpy(), theirs)
    assert resized.image.is_contiguous()


@pytest.mark.parametrize("size", [(24, 32), (70, 98), (31, 201)])
def test_targets_are_picked_together_and_never_mixed(sample, size):
    resized = resize(sample, height=size[0], width=size[1])
    assert torch.equal(resized.valid, resized.target.isfinite())
    assert not (resized.far & resized.valid).any()
    known = set(sample.target[sample.valid].tolist())
    assert set(resized.target[resized.valid].tolist()) <= known
    # far, valid and the noise were made from one another, pixel by pixel
    assert torch.equal(resized.far, ~resized.valid & (resized.confidence > 0.05))


def test_nearest_pixel_is_the_one_under_the_centre():
    rows = torch.arange(4.0)[:, None].expand(4, 4)
    sample = Sample(key="a/b", image=rows.expand(3, 4, 4) / 4, target=rows, valid=rows >= 0)
    twice = resize(sample, height=8, width=4)
    assert twice.target[:, 0].tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    third = resize(sample, height=3, width=4)
    assert third.target[:, 0].tolist() == [0, 2, 3]
    doubled = cv2.resize(rows.numpy(), (4, 9), interpolation=cv2.INTER_NEAREST_EXACT)
    assert resize(sample, height=9, width=4).target.tolist() == doubled.tolist()


def displacement(sample, scene_of):
    """How far each backprojected pixel lies from the scene's surface seen through the same K."""
    points = geometry.backproject(sample.target.double(), sample.K.double())
    height, width = sample.target.shape
    exact = scene_of(height, width, sample.K.double()).points
    return (points - exact).norm(dim=0)[sample.valid]


def test_every_third_pixel_is_exactly_where_the_scene_put_it():
    """The centre of three pixels is a pixel: half a pixel off in image, target or K would show."""
    smaller = resize(sample_of(room(48, 63, pinhole(48, 63))), height=16, width=21)
    assert displacement(smaller, room).max() < 1e-5


def test_resized_points_lie_near_where_the_scene_put_them(sample):
    """Half a source pixel off at most: on an oblique wall 6 metres away, a few centimetres."""
    for size in [(96, 128), (24, 32), (70, 98), (31, 201)]:
        resized = resize(sample, height=size[0], width=size[1])
        assert displacement(resized, room).median() < 0.03, size


def test_cropped_points_lie_where_the_scene_put_them(sample):
    cropped = crop(sample, top=5, left=11, height=30, width=40)
    assert displacement(cropped, room).max() < 1e-5
    assert torch.equal(cropped.image, sample.image[:, 5:35, 11:51])


def test_mirrored_points_are_the_mirrored_points(sample):
    turned = mirror(sample)
    ours = geometry.backproject(turned.target, turned.K)
    exact = (
        geometry.backproject(sample.target, sample.K).flip(-1)
        * torch.tensor([-1, 1, 1])[:, None, None]
    )
    torch.testing.assert_close(ours, exact, equal_nan=True, rtol=0, atol=1e-5)
    again = mirror(turned)
    assert torch.equal(again.image, sample.image)
    torch.testing.assert_close(again.K, sample.K)


@pytest.mark.parametrize(("top", "left"), [(-1, 0), (0, -1), (19, 0), (0, 25)])
def test_a_crop_beyond_the_image_is_refused(sample, top, left):
    with pytest.raises(
        ValueError, match=r"scenes/room: crop of 30 x 40 at row .* beyond the image"
    ):
        crop(sample, top=top, left=left, height=30, width=40)


def test_resize_and_crop_draws_every_window_and_both_sides(sample):
    rng = np.random.default_rng(0)
    seen = set()
    for _ in range(200):
        drawn = resize_and_crop(sample, rng, size=42, multiple=14)
        assert drawn.image.shape == (3, 42, 42)
        assert drawn.target.shape == drawn.valid.shape == drawn.far.shape == (42, 42)
        assert displacement_of_mirrored(drawn) < 0.05
        seen.add((round(drawn.K[0, 2].item(), 2), bool(increases(drawn.image[0]))))
    # 42 x 56 after resizing: 15 windows, each also mirrored
    assert len(seen) == 30
    assert {side for _, side in seen} == {True, False}


def increases(red):
    return red[:, -1].mean() > red[:, 0].mean()


def displacement_of_mirrored(sample):
    unturned = sample if increases(sample.image[0]) else mirror(sample)
    return displacement(unturned, room).median()


@pytest.mark.parametrize(("flip", "turned"), [(0.0, False), (1.0, True)])
def test_flip_never_and_always(sample, flip, turned):
    rng = np.random.default_rng(0)
    drawn = [resize_and_crop(sample, rng, size=42, flip=flip) for _ in range(20)]
    assert {not bool(increases(x.image[0])) for x in drawn} == {turned}


def test_resize_and_crop_depends_on_the_generator_alone(sample):
    first, second = (
        resize_and_crop(sample, np.random.default_rng(3), size=42, multiple=14) for _ in range(2)
    )
    assert torch.equal(first.image, second.image)
    assert torch.equal(first.K, second.K)


def test_an_image_alone_passes():
    sample = Sample(key="a/b", image=torch.rand(3, 20, 30, generator=torch.Generator()))
    drawn = resize_and_crop(sample, np.random.default_rng(0), size=14)
    assert drawn.image.shape == (3, 14, 14)
    assert (drawn.target, drawn.valid, drawn.far, drawn.confidence, drawn.K) == (None,) * 5


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": 40}, "size is 40, the network takes multiples of 14; take 42"),
        ({"size": 42, "flip": 1.5}, r"flip is 1\.5; it must lie in \[0, 1\]"),
    ],
)
def test_settings_out_of_bounds_are_refused(sample, settings, message):
    with pytest.raises(ValueError, match=message):
        resize_and_crop(sample, np.random.default_rng(0), **settings)


# views: the same window, the same K, the same world

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


@pytest.mark.parametrize("old", [(375, 1241), (481, 639), (333, 517), (1, 3), (519, 517)])
def test_odd_photographs_are_prepared_as_upstream_does(old):
    """`lower_bound` in its authors' arithmetic, then OpenCV on float64.

    1e-4 is a fortieth of an 8-bit step.
    """
    height, width = old
    scale = np.float64(max(518 / height, 518 / width))
    new = []
    for side in old:
        rounded = int(np.round(scale * side / 14) * 14)
        new.append(rounded if rounded >= 518 else int(np.ceil(scale * side / 14) * 14))
    assert network_size(height, width, short_side=518, multiple=14) == tuple(new)
    pixels = np.random.default_rng(0).integers(256, size=(*old, 3), dtype=np.uint8)
    theirs = cv2.resize(pixels / 255.0, (new[1], new[0]), interpolation=cv2.INTER_CUBIC)
    image = torch.from_numpy(pixels).permute(2, 0, 1).float() / 255
    ours = resize(Sample(key="a/b", image=image), height=new[0], width=new[1]).image
    np.testing.assert_allclose(ours.permute(1, 2, 0).numpy(), theirs.clip(0, 1), atol=1e-4)


def test_views_are_pickled():
    one = sample_with_views(np.random.default_rng(0), 20, 30)
    copy = pickle.loads(pickle.dumps(one))
    for view, again in zip(one.views, copy.views, strict=True):
        assert torch.equal(view.image, again.image)
        assert torch.equal(view.view_from_sample, again.view_from_sample)
