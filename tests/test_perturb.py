import itertools
import random
import subprocess
import sys
from dataclasses import replace

import albumentations
import numpy as np
import pytest
import torch

from distill.perturb import CutMix, Perturbation, cutmix
from distill.types import Sample

NOTHING = Perturbation(jitter_p=0.0, grayscale_p=0.0, blur_p=0.0)


@pytest.fixture
def sample():
    """Smooth colours and a hard edge, so that every perturbation has something to change."""
    y, x = torch.meshgrid(torch.linspace(0, 1, 40), torch.linspace(0, 1, 50), indexing="ij")
    image = torch.stack([x, y, 0.5 * (x + y)])
    image[:, 10:20, 15:40] = torch.tensor([0.9, 0.2, 0.1])[:, None, None]
    target = 1 + y
    return Sample(key="photos/a.png", image=image, target=target, valid=target > 0)


def times_changed(perturbation, sample, count=60):
    rng = np.random.default_rng(0)
    return sum(not torch.equal(perturbation(sample, rng).image, sample.image) for _ in range(count))


@pytest.mark.parametrize("name", ["jitter_p", "grayscale_p", "blur_p"])
def test_never_at_0_and_always_at_1(sample, name):
    # a blur narrower than 0.286 pixels has a kernel of one pixel
    always = replace(NOTHING, blur_sigma=(0.5, 2.0), **{name: 1.0})
    assert times_changed(NOTHING, sample) == 0
    assert times_changed(always, sample) == 60
    assert 15 < times_changed(replace(always, **{name: 0.5}), sample) < 45


@pytest.mark.parametrize("part", ["brightness", "contrast", "saturation", "hue"])
def test_each_part_of_the_jitter_has_an_effect_of_its_own(sample, part):
    still = {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0}
    without = replace(NOTHING, jitter_p=1.0, **still)
    torch.testing.assert_close(
        without(sample, np.random.default_rng(0)).image, sample.image, rtol=0, atol=1e-6
    )
    changed = replace(without, **{part: 0.25})(sample, np.random.default_rng(0)).image
    assert (changed - sample.image).abs().max() > 0.02


def test_jitter_equals_four_of_albumentations_in_the_drawn_order(sample):
    still = {"brightness": (1, 1), "contrast": (1, 1), "saturation": (1, 1), "hue": (0, 0)}
    for seed in range(10):
        ours = replace(NOTHING, jitter_p=1.0)(sample, np.random.default_rng(seed)).image
        rng = np.random.default_rng(seed)
        rng.random(3)
        ranges = np.array([0.5, 0.5, 0.5, 0.25])
        amounts = np.array([1, 1, 1, 0]) + rng.uniform(-ranges, ranges)
        pixels = sample.image.permute(1, 2, 0).numpy().copy()
        for which in rng.permutation(4):
            amount = float(amounts[which])
            alone = still | {list(still)[which]: (amount, amount)}
            pixels = albumentations.ColorJitter(**alone, p=1.0)(image=pixels)["image"]
        np.testing.assert_allclose(ours.permute(1, 2, 0), pixels.clip(0, 1), atol=1e-6)


def test_the_ranges_are_those_of_albumentations():
    theirs = albumentations.ColorJitter(brightness=0.5, contrast=0.5, saturation=0.5, hue=0.25)
    ours = Perturbation()
    for name in ("brightness", "contrast", "saturation"):
        assert getattr(theirs, name) == (1 - getattr(ours, name), 1 + getattr(ours, name))
    assert theirs.hue == (-ours.hue, ours.hue)


def test_blur_equals_albumentations_with_the_same_sigma(sample):
    pixels = sample.image.permute(1, 2, 0).numpy().copy()
    for sigma in (0.1, 0.5, 1.0, 2.0):
        blur = replace(NOTHING, blur_p=1.0, blur_sigma=(sigma, sigma))
        ours = blur(sample, np.random.default_rng(0)).image
        theirs = albumentations.GaussianBlur(blur_limit=0, sigma_limit=(sigma, sigma), p=1.0)
        np.testing.assert_array_equal(ours.permute(1, 2, 0), theirs(image=pixels)["image"])


def test_blur_has_its_standard_deviation():
    """The variance of what becomes of one bright pixel, on each axis."""
    image = torch.zeros(3, 41, 41)
    image[:, 20, 20] = 1
    blur = replace(NOTHING, blur_p=1.0, blur_sigma=(2.0, 2.0))
    spot = blur(Sample(key="a/b", image=image), np.random.default_rng(0)).image[0]
    place = torch.arange(41) - 20.0
    assert spot.sum().item() == pytest.approx(1, abs=1e-4)
    assert (spot.sum(0) @ place**2).item() == pytest.approx(4, rel=0.05)
    assert (spot.sum(1) @ place**2).item() == pytest.approx(4, rel=0.05)


def test_greyscale_has_one_value_per_pixel(sample):
    grey = replace(NOTHING, grayscale_p=1.0)(sample, np.random.default_rng(0)).image
    assert torch.equal(grey[0], grey[1])
    assert torch.equal(grey[0], grey[2])
    weights = torch.tensor([0.299, 0.587, 0.114])[:, None, None]
    torch.testing.assert_close(grey[0], (sample.image * weights).sum(0))


def test_colour_keeps_the_target_and_the_range(sample):
    rng = np.random.default_rng(0)
    for _ in range(40):
        perturbed = Perturbation()(sample, rng)
        assert perturbed.target is sample.target
        assert perturbed.image.dtype == torch.float32
        assert perturbed.image.is_contiguous()
        assert 0 <= perturbed.image.min() <= perturbed.image.max() <= 1


def test_the_image_given_is_not_written_to(sample):
    before = sample.image.clone()
    channels_last = sample.image.permute(1, 2, 0).contiguous().permute(2, 0, 1)
    for seed in range(20):
        Perturbation()(replace(sample, image=channels_last), np.random.default_rng(seed))
    assert torch.equal(channels_last, before)


def test_the_generator_alone_decides_and_globals_stay(sample):
    states = random.getstate(), torch.get_rng_state(), numpy_state()
    first, second = (Perturbation()(sample, np.random.default_rng(4)).image for _ in range(2))
    random.seed(0)
    third = Perturbation()(sample, np.random.default_rng(4)).image
    random.setstate(states[0])
    assert torch.equal(first, second)
    assert torch.equal(first, third)
    assert torch.equal(torch.get_rng_state(), states[1])
    assert numpy_state() == states[2]


def numpy_state():
    return np.random.get_state(legacy=False)["state"]["key"].tolist()  # noqa: NPY002 - to compare


def test_switching_one_part_off_leaves_the_others(sample):
    rng, other = np.random.default_rng(0), np.random.default_rng(0)
    for _ in range(10):
        Perturbation()(sample, rng)
        NOTHING(sample, other)
    assert rng.random() == other.random()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("jitter_p", 1.1),
        ("blur_p", -0.1),
        ("hue", 0.6),
        ("brightness", 1.5),
        ("blur_sigma", (0.0, 2.0)),
        ("blur_sigma", (2.0, 1.0)),
    ],
)
def test_fields_out_of_range_are_refused(field, value):
    with pytest.raises(ValueError, match=f"perturbation: {field} is "):
        Perturbation(**{field: value})


def test_importing_asks_no_network():
    """Without the switch albumentations looks for its latest version when it is imported."""
    program = (
        "import socket, sys\n"
        "asked = []\n"
        "def refuse(*args, **kwargs):\n"
        "    asked.append(args)\n"
        "    raise OSError('no network')\n"
        "socket.getaddrinfo = socket.create_connection = socket.socket.connect = refuse\n"
        "import distill.perturb\n"
        "print(len(asked))\n"
        "from albumentations.check_version import check_for_updates\n"
        "check_for_updates()\n"
        "print(len(asked) > 0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        capture_output=True,
        text=True,
        env={},
        timeout=120,
    )
    assert done.stdout.split() == ["0", "True"], done.stderr


def images(count=4, height=30, width=30):
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(0))


def boxes(count, **settings):
    """Share of the image and height by width of drawn boxes, which it checks to be boxes."""
    generator = torch.Generator().manual_seed(0)
    mask = cutmix(torch.zeros(count, 3, 100, 100), generator, **settings).mask
    found = []
    for one in mask:
        tall, wide = one.any(1).sum().item(), one.any(0).sum().item()
        assert one.sum().item() == tall * wide
        found.append((tall * wide / one.numel(), tall / max(wide, 1)))
    return found


def test_pixels_come_from_the_partner_in_the_box_and_from_the_image_elsewhere():
    image = images(5)
    mixed = cutmix(image, torch.Generator().manual_seed(0), p=1.0)
    assert isinstance(mixed, CutMix)
    assert mixed.partner.tolist() == [4, 3, 2, 1, 0]
    for i in range(5):
        inside = mixed.mask[i]
        assert inside.any()
        assert torch.equal(mixed.image[i][:, inside], image[mixed.partner[i]][:, inside])
        assert torch.equal(mixed.image[i][:, ~inside], image[i][:, ~inside])


def test_cutmix_never_at_0_and_always_at_1():
    image = images()
    never = cutmix(image, torch.Generator().manual_seed(0), p=0.0)
    assert torch.equal(never.image, image)
    assert not never.mask.any()
    assert all(share > 0 for share, _ in boxes(200, p=1.0))
    with_box = sum(share > 0 for share, _ in boxes(400, p=0.5))
    assert 150 < with_box < 250


def test_boxes_have_the_sizes_of_the_rule():
    shares, ratios = zip(*boxes(400, p=1.0), strict=True)
    assert 0.015 < min(shares) < 0.03
    assert 0.3 < max(shares) <= 0.4
    assert 0.29 < min(ratios) < 0.4
    assert 2.5 < max(ratios) < 3.7
    (share, ratio), *_ = boxes(1, p=1.0, area=(0.25, 0.25), ratio=1.0)
    assert (share, ratio) == (0.25, 1.0)


def test_boxes_reach_every_pixel():
    generator = torch.Generator().manual_seed(0)
    mask = cutmix(images(1000, 10, 10), generator, p=1.0).mask.any(dim=0)
    assert mask.all()


def test_a_wide_image_gets_boxes_as_well():
    mask = cutmix(images(20, 10, 400), torch.Generator().manual_seed(0), p=1.0).mask
    assert (mask.flatten(1).float().mean(1) < 0.41).all()
    assert mask.any()


def test_cutmix_depends_on_its_generator_alone():
    drawn = [cutmix(images(), torch.Generator().manual_seed(seed)).mask for seed in (1, 1, 2, 3)]
    assert torch.equal(drawn[0], drawn[1])
    assert any(not torch.equal(a, b) for a, b in itertools.combinations(drawn[1:], 2))


@pytest.mark.parametrize(
    "settings",
    [{"p": 1.1}, {"area": (0.0, 0.4)}, {"area": (0.4, 0.02)}, {"area": (0.1, 0.9)}, {"ratio": 3.0}],
)
def test_cutmix_out_of_range_is_refused(settings):
    with pytest.raises(ValueError, match=r"cutmix: p .*, area .*, ratio "):
        cutmix(images(), torch.Generator(), **settings)
