"""Edges of a map against those of its image: shifts, mirrors and strangers are told."""

import pytest
import torch
from torch.nn.functional import avg_pool2d

from distill.labels.edges import edge_match


def boxes(seed, *, height=96, width=128):
    """Boxes of their own depth and colour before a ramp, and texture that has no depth."""
    generator = torch.Generator().manual_seed(seed)

    def draw(low, high):
        return int(torch.randint(low, high, (1,), generator=generator))

    depth = torch.linspace(0.1, 0.5, height)[:, None].repeat(1, width)
    image = torch.rand(3, 1, 1, generator=generator).repeat(1, height, width)
    for _ in range(8):
        top, left, tall, wide = draw(0, 70), draw(0, 100), draw(10, 40), draw(10, 40)
        box = (..., slice(top, top + tall), slice(left, left + wide))
        depth[box] = float(torch.rand(1, generator=generator)) + 0.3
        image[box] = torch.rand(3, 1, 1, generator=generator)
    for _ in range(20):
        top, left = draw(0, 90), draw(0, 120)
        image[:, top : top + 6, left : left + 8] += 0.3 * torch.randn(3, 1, 1, generator=generator)
    return image + 0.02 * torch.randn(image.shape, generator=generator), depth


@pytest.fixture(scope="module")
def world():
    made = [boxes(seed) for seed in range(6)]
    return torch.stack([image for image, _ in made]), torch.stack([depth for _, depth in made])


def blurred(depth):
    return avg_pool2d(depth[:, None], 3, 1, 1, count_include_pad=False)[:, 0]


def test_a_map_in_its_place_fits_best_there(world):
    image, depth = world
    for values in (depth, blurred(depth)):
        match = edge_match(image, values)
        assert (match.score > 0.7).all()
        assert (match.score <= 1).all()
        torch.testing.assert_close(match.score, match.best)
        assert match.row.tolist() == match.column.tolist() == [0] * 6


@pytest.mark.parametrize("shift", [(4, 0), (0, -4), (3, 5)])
def test_a_shifted_map_scores_low_and_tells_by_how_much(world, shift):
    image, depth = world
    right = edge_match(image, depth)
    match = edge_match(image, depth.roll(shift, (1, 2)))
    # edges along the direction of the shift still coincide, and boxes have no others
    assert (match.score < (0.4 if all(shift) else 0.75) * right.score).all()
    assert match.row.tolist() == [-shift[0]] * 6
    assert match.column.tolist() == [-shift[1]] * 6
    torch.testing.assert_close(match.best, right.best, rtol=0.25, atol=0)


def test_another_images_map_and_a_mirrored_one_score_nothing(world):
    image, depth = world
    right = edge_match(image, depth).score
    for wrong in (depth.roll(1, 0), depth.flip(-1), torch.rand_like(depth)):
        match = edge_match(image, wrong)
        assert (match.score < 0.4 * right).all()
        assert (match.best < 0.7 * right).all()


def test_scale_shift_and_sign_mean_nothing(world):
    image, depth = world
    right = edge_match(image, depth)
    normalised = (image - 0.4) / torch.tensor([0.2, 0.3, 0.25])[:, None, None]
    for values in (1e3 * depth - 50, 1e-4 * depth, -depth):
        match = edge_match(normalised, values)
        torch.testing.assert_close(match.score, right.score, rtol=1e-3, atol=1e-4)


def test_maps_without_edges_match_nothing(world):
    image, depth = world
    for values in (torch.zeros_like(depth), torch.full_like(depth, 3.0)):
        match = edge_match(image, values)
        assert (match.score == 0).all()
        assert (match.row == 0).all()
    small = edge_match(image[:, :, :20, :20], depth[:, :20, :20])
    assert (small.score == 0).all()


def test_images_of_a_batch_do_not_mix(world):
    image, depth = world
    whole = edge_match(image, depth)
    alone = edge_match(image[2:3], depth[2:3])
    torch.testing.assert_close(whole.score[2:3], alone.score)
