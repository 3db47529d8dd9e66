"""The whole and its parts: detail that no single look has, and no seams."""

import pytest
import torch
from analytic_teacher import Seer, asked, fitted, picture
from scenes import pinhole, plane, room
from torch.nn.functional import interpolate

from distill.types import Space
from pseudo_labels.strategies.cross_context import cross_context
from pseudo_labels.strategies.plain import plain
from pseudo_labels.strategies.tta import flip


def unit(x):
    return (x - x.min()) / (x.max() - x.min())


def scene(kind, height=168, width=252):
    K = pinhole(height, width)
    made = (
        room(height, width, K)
        if kind == "room"
        else plane(height, width, K, normal=(0.3, -0.4, -1.0), distance=4.0)
    )
    return unit((1 / made.depth).float())


def at_size(values, size):
    return interpolate(values[None, None], size, mode="area")[0]


@pytest.mark.parametrize("grid", [2, 3])
def test_the_map_is_larger_and_true(grid):
    truth = scene("room")
    answer = asked(cross_context([Seer(side=56)], grid=grid), picture(truth))
    assert answer.values.shape == (1, 28 * (grid + 1), 42 * (grid + 1))
    small = at_size(truth, answer.values.shape[1:])
    assert (fitted(answer.values, small) - small).abs().mean() < 0.01
    assert answer.agreement["crop"].item() > 0.9


def test_detail_that_one_look_cannot_see():
    """Bars of 2 pixels in a picture that one look averages 3 to 1, and parts 1.5 to 1."""
    truth = scene("plane")
    bars = ((torch.arange(252) // 2) % 2 * 0.4 - 0.2) * (torch.arange(168)[:, None] > 84)
    detailed = (0.25 + 0.5 * truth + bars).clamp(0, 1)

    def lost(strategy):
        values = asked(strategy, picture(detailed)).values
        values = interpolate(values[:, None], (168, 252), mode="bilinear")[:, 0]
        return (fitted(values, detailed[None]) - detailed)[:, 90:].abs().mean().item()

    assert lost(cross_context([Seer(side=56)], grid=5)) < 0.35 * lost(plain([Seer(side=56)]))


def test_no_seams_on_a_plane():
    """The curvature of a plane's disparity is 0; a seam would be the largest there is."""
    truth = scene("plane")
    answer = asked(cross_context([Seer(side=56)], grid=3), picture(truth))
    assert ((answer.values[0, 5:-5, 5:-5] - _fit_of(truth, answer)[0, 5:-5, 5:-5]).abs()).max() < (
        0.012
    )
    residual = answer.values[0] - _fit_of(truth, answer)[0]
    steps = (residual[:, 1:] - residual[:, :-1]).abs()
    seams = steps[:, [41, 83, 125]].mean()
    assert seams < 1.5 * steps.mean()


def _fit_of(truth, answer):
    small = at_size(truth, answer.values.shape[1:])
    return fitted(small, answer.values)


def test_a_part_gone_wrong_is_left_to_the_whole():
    """A teacher that inverts what it sees of the darker parts of a room."""
    truth = scene("room")

    def moody(seen):
        wrong = (seen.mean((1, 2)) < 0.2)[:, None, None]
        return torch.where(wrong, -seen, seen)

    sound = asked(cross_context([Seer(side=56)]), picture(truth))
    answer = asked(cross_context([Seer(side=56, change=moody)]), picture(truth))
    small = at_size(truth, answer.values.shape[1:])
    assert (fitted(answer.values, small) - small).abs().mean() < 0.03
    assert answer.agreement["crop"] < sound.agreement["crop"]


def test_windows_add_up():
    from pseudo_labels.strategies.cross_context import _window

    for grid in (2, 3, 4):
        total = torch.zeros(10 * (grid + 1), 6 * (grid + 1))
        for place in range(grid**2):
            row, column = divmod(place, grid)
            total[10 * row : 10 * row + 20, 6 * column : 6 * column + 12] += _window(
                20, 12, place, grid
            )
        torch.testing.assert_close(total, torch.ones_like(total))


def test_parts_are_placed_to_a_fraction_of_a_pixel():
    """Sides that no grid divides: a shift would show as a residual that follows the gradient."""
    ramp = torch.linspace(0, 1, 101).repeat(67, 1)
    answer = asked(cross_context([Seer(side=28)], grid=2), picture(ramp))
    width = answer.values.shape[2]
    true = (torch.arange(width) + 0.5) / width
    rest = fitted(answer.values, true.expand(1, answer.values.shape[1], -1))[0].mean(0) - true
    assert rest[3:-3].abs().max() < 0.006


def test_metric_maps_keep_their_metres():
    truth = 0.3 + 0.5 * scene("room")
    teacher = Seer(side=56, space=Space.METRIC_DEPTH)
    answer = asked(cross_context([teacher]), picture(truth))
    small = at_size(truth, answer.values.shape[1:])
    assert (answer.values - small).abs().mean() < 0.01


def test_a_sky_of_one_value_stays_where_it_is():
    truth = scene("room")
    truth[:100] = 0.0
    answer = asked(cross_context([Seer(side=56)]), picture(truth))
    assert answer.values.isfinite().all()
    small = at_size(truth, answer.values.shape[1:])
    assert (fitted(answer.values, small) - small).abs().mean() < 0.02


def test_a_flip_inside_and_images_that_do_not_mix():
    pictures = picture(scene("room")), picture(scene("plane"), seed=1)
    asker = cross_context([Seer(side=28)], grid=2, inner=flip)
    both = asked(asker, *pictures)
    assert set(both.agreement) == {"flip", "crop"}
    torch.testing.assert_close(both.values[1:], asked(asker, pictures[1]).values)


def test_what_is_wrong_is_said():
    with pytest.raises(ValueError, match="grid is 1; it must be at least 2"):
        cross_context([Seer()], grid=1)
    with pytest.raises(ValueError, match="cross_context asks one teacher and got 2"):
        cross_context([Seer(), Seer()])
