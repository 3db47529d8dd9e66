from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from samples import sample_of
from scenes import pinhole, room

from distill import geometry, transforms
from distill.transforms import network_size
from distill.types import Sample, Space

# what comes back may lack a target; these samples do not
resize: Any = transforms.resize
crop: Any = transforms.crop
mirror: Any = transforms.mirror
resize_and_crop: Any = transforms.resize_and_crop


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


def test_sky_is_infinite_or_as_far_as_the_farthest_or_not_there(sample):
    def disparity(seen):
        made: Any = transforms.sky(sample, seen)
        return geometry.to_space(
            made.target, made.valid, made.far, source=made.space, target=Space.AFFINE_DISPARITY
        )

    assert sample.far.any()
    farthest = 1 / sample.target[sample.valid].max()
    for seen, number in (("infinite", 0.0), ("farthest", farthest)):
        values, valid = disparity(seen)
        assert torch.equal(valid, sample.valid | sample.far)
        assert (values[sample.far] == number).all()
        torch.testing.assert_close(values[sample.valid], 1 / sample.target[sample.valid])
    assert torch.equal(disparity("ignored")[1], sample.valid)
    nothing = replace(sample, valid=sample.valid & False, target=sample.target * torch.nan)
    assert not transforms.sky(nothing, "farthest").valid.any()  # type: ignore[union-attr]  # it has a target
    unmarked = replace(sample, far=None)
    assert transforms.sky(unmarked, "ignored") is unmarked
    with pytest.raises(ValueError, match="scenes/room: sky can only be"):
        transforms.sky(replace(sample, space=Space.AFFINE_DISPARITY), "farthest")


def test_depth_outside_a_range_is_not_valid(sample):
    low, high = sample.target[sample.valid].sort().values[[100, 900]].tolist()
    made: Any = transforms.within(sample, low, high)
    assert torch.equal(made.valid, (sample.target >= low) & (sample.target <= high))
    assert 700 < made.valid.sum() < sample.valid.sum()
    assert torch.equal(made.target[made.valid], sample.target[made.valid])
    assert made.target[~made.valid].isnan().all()
    with pytest.raises(ValueError, match=r"within: 3.0 to 2.0 m"):
        transforms.within(sample, 3.0, 2.0)
    with pytest.raises(ValueError, match="scenes/room: its target is not in metres"):
        transforms.within(replace(sample, space=Space.SCALE_INVARIANT_DEPTH), 0.0, 2.0)
