"""Several maps into one: no minority moves it, no order matters, and it says where they differ."""

import itertools

import pytest
import torch
from scenes import pinhole, room

from distill.labels.fuse import common_space, fuse, weighted_median
from distill.types import Space

AFFINE = Space.AFFINE_DISPARITY


@pytest.fixture(scope="module")
def scene():
    return (1 / room(48, 64, pinhole(48, 64)).depth).float()[None]


def unit(x):
    return (x - x.min()) / (x.max() - x.min())


def junk_maps(scene):
    noise = torch.rand(scene.shape, generator=torch.Generator().manual_seed(0))
    region = scene.clone()
    region[:, :20] = 3 * noise[:, :20]
    spike = scene.clone()
    spike[:, 10:14, 10:14] = 1e6
    return {
        "inverted": -scene,
        "mirrored": scene.flip(-1),
        "region": region,
        "spike": spike,
        "noise": noise,
        "constant": torch.full_like(scene, 7.0),
        "nan": torch.full_like(scene, torch.nan),
    }


@pytest.mark.parametrize("junk", list(junk_maps(torch.zeros(1, 48, 64))))
@pytest.mark.parametrize("good", [2, 3])
def test_a_minority_does_not_move_the_result(scene, junk, good):
    bad = [junk_maps(scene)[junk]] * (good - 1)
    maps = [*bad, *[k * scene + 3 - k for k in (1.0, 4.0, 0.1)[:good]]]
    fused = fuse(maps, [AFFINE] * len(maps))
    torch.testing.assert_close(fused.values, unit(scene), rtol=0, atol=1e-3)
    assert fused.space is AFFINE
    assert (fused.weights[len(bad) :] == 1).all()


def test_half_of_the_maps_is_too_many(scene):
    """The bound above is tight: the test can fail."""
    fused = fuse([scene, 2 * scene, -scene, 1 - 3 * scene], [AFFINE] * 4)
    assert (fused.values - unit(scene)).abs().max() > 0.05


def test_each_map_may_be_wrong_somewhere_else(scene):
    a, b, c = scene.clone(), 2 * scene + 1, 5 * scene - 3
    a[:, :, :10], b[:, :, 20:30], c[:, :, -10:] = 0.0, 1.1, 8.0
    fused = fuse([a, b, c], [AFFINE] * 3)
    torch.testing.assert_close(fused.values, unit(scene), rtol=0, atol=1e-3)
    assert fused.confidence[0, :, :10].max() < fused.confidence[0, :, 11:20].min()
    assert fused.confidence[0, :, 12].min() > 0.99


def test_order_means_nothing(scene):
    generator = torch.Generator().manual_seed(1)
    noise = 0.01 * torch.randn(4, *scene.shape, generator=generator)
    maps = [k * (scene + n) + k for k, n in zip((1.0, 2.0, 0.3, 9.0), noise, strict=True)]
    for count in (2, 3, 4):
        first = fuse(maps[:count], [AFFINE] * count)
        for order in itertools.permutations(range(count)):
            again = fuse([maps[i] for i in order], [AFFINE] * count)
            torch.testing.assert_close(again.values, first.values, rtol=0, atol=1e-4)
            torch.testing.assert_close(again.confidence, first.confidence, rtol=0, atol=1e-3)
            torch.testing.assert_close(again.weights, first.weights[list(order)])


def test_fusing_lessens_noise(scene):
    generator = torch.Generator().manual_seed(1)
    maps = [scene + 0.01 * torch.randn(scene.shape, generator=generator) for _ in range(5)]

    def error(pred):
        x, y = pred.flatten() - pred.mean(), scene.flatten() - scene.mean()
        return (y - x * (x @ y) / (x @ x)).abs().mean()

    assert error(fuse(maps, [AFFINE] * 5).values) < 0.65 * min(map(error, maps))


def test_disagreement_by_hand_knows_no_scale():
    """Median 2, mean deviation 1.2, and one pixel of one map off by 2.4: two spreads in two of
    three pairs."""
    row = torch.tensor([0.0, 1.0, 2.0, 3.0, 4.0] * 40)
    good = row.repeat(40, 1)[None]
    off = good.clone()
    off[0, 5, 7] += 2.4
    fused = fuse([good, 3 * good + 1, 10 * off], [AFFINE] * 3)
    assert fused.disagreement[0, 5, 7].item() == pytest.approx(4 / 3, rel=1e-2)
    assert fused.confidence[0, 5, 7].item() == pytest.approx(3 / 7, rel=1e-2)
    assert fused.disagreement[0, 6].max() < 1e-2
    assert fused.agreement.item() == pytest.approx(1, abs=1e-2)


def test_scale_and_shift_lead_from_each_map_to_the_values(scene):
    maps = [scene, 3 * scene + 2]
    fused = fuse(maps, [AFFINE] * 2)
    for n, map_ in enumerate(maps):
        moved = map_ * fused.scale[n].item() + fused.shift[n].item()
        torch.testing.assert_close(moved, fused.values, rtol=0, atol=1e-3)


def test_depth_and_disparity_of_one_scene_agree(scene):
    spaces = [Space.METRIC_DEPTH, AFFINE, Space.SCALE_INVARIANT_DISPARITY]
    fused = fuse([1 / scene, 3 * scene + 1, 7 * scene], spaces)
    torch.testing.assert_close(fused.values, unit(scene), rtol=0, atol=1e-3)
    assert fused.space is AFFINE
    assert fused.agreement.item() > 0.99


def test_metric_maps_stay_metric(scene):
    depth = 1 / scene
    fused = fuse([depth, depth + 0.1, depth * 3], [Space.METRIC_DEPTH] * 3)
    torch.testing.assert_close(fused.values, depth + 0.05)
    assert fused.weights[:, 0].tolist() == [1, 1, 0], "the third is three times as far"
    assert fused.space is Space.METRIC_DEPTH
    assert (fused.scale == 1).all()


def test_scale_invariant_maps_keep_their_zero(scene):
    fused = fuse([scene, 5 * scene, 2 * scene], [Space.SCALE_INVARIANT_DISPARITY] * 3)
    torch.testing.assert_close(fused.values, scene / scene.max(), rtol=1e-4, atol=0)


def test_pixels_without_a_value(scene):
    a, b = scene.clone(), 2 * scene
    a[0, :2], b[0, 1:3] = torch.nan, torch.inf
    fused = fuse([a, b], [AFFINE] * 2)
    assert fused.values[0, 1].isnan().all()
    assert fused.values[0, [0, 2, 3]].isfinite().all()
    assert (fused.confidence[0, :3] == 0).all()
    assert (fused.confidence[0, 3:] > 0.9).all()


def test_member_weights_decide_between_two(scene):
    other = scene.clone()
    other[:, :10] += 0.3
    sure = torch.full_like(scene, 1e-6)
    fused = fuse([scene, other], [AFFINE] * 2, weights=[None, sure])
    torch.testing.assert_close(fused.values, unit(scene), rtol=0, atol=1e-2)


def test_constant_maps_say_nothing(scene):
    flat = torch.ones_like(scene)
    fused = fuse([flat, 2 * flat], [AFFINE] * 2)
    assert (fused.confidence == 0).all()
    assert fused.agreement.item() == 0
    assert fused.values.isfinite().all()


def test_images_of_a_batch_do_not_mix(scene):
    first = [scene, 2 * scene, -scene]
    second = [scene.flip(1) ** 2, scene.flip(1) ** 2 + 1, scene]
    both = fuse([torch.cat(pair) for pair in zip(first, second, strict=True)], [AFFINE] * 3)
    alone = fuse(second, [AFFINE] * 3)
    torch.testing.assert_close(both.values[1:], alone.values)
    torch.testing.assert_close(both.weights[:, 1:], alone.weights)


@pytest.mark.parametrize(
    ("weight", "median"),
    [
        ((1.0, 1.0, 1.0), 2.0),
        ((1.0, 0.0, 1.0), 5.5),
        ((0.0, 0.0, 1.0), 10.0),
        ((3.0, 1.0, 1.0), 1.0 + 0.2 / 0.4),
        ((0.0, 0.0, 0.0), float("nan")),
    ],
)
def test_weighted_median_by_hand(weight, median):
    """Of 1, 2, 10; of weights 3 1 1 they stand at .3, .7 and .9."""
    value = weighted_median(torch.tensor([[1.0], [2.0], [10.0]]), torch.tensor(weight)[:, None])
    assert value.item() == pytest.approx(median, nan_ok=True)


@pytest.mark.parametrize(
    ("spaces", "common"),
    [
        ((Space.METRIC_DEPTH, Space.METRIC_INVERSE_DEPTH), Space.METRIC_INVERSE_DEPTH),
        ((Space.METRIC_DEPTH, Space.SCALE_INVARIANT_DEPTH), Space.SCALE_INVARIANT_DEPTH),
        ((Space.METRIC_DEPTH, Space.AFFINE_DEPTH), Space.AFFINE_DEPTH),
        ((Space.METRIC_DEPTH, AFFINE), AFFINE),
    ],
)
def test_common_space(spaces, common):
    assert common_space(spaces) is common


def test_what_cannot_be_fused_is_refused(scene):
    with pytest.raises(ValueError, match="affine-invariant depth cannot be fused with affine-inv"):
        fuse([scene, scene], [Space.AFFINE_DEPTH, AFFINE])
    with pytest.raises(ValueError, match="ordinal maps cannot be fused"):
        fuse([scene, scene], [Space.ORDINAL, Space.ORDINAL])
    with pytest.raises(ValueError, match="give two or more of one size"):
        fuse([scene], [AFFINE])
    with pytest.raises(ValueError, match="give two or more of one size"):
        fuse([scene, scene[:, 1:]], [AFFINE] * 2)
