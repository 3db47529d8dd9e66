"""A protocol says everything that decides a number; which pixels it measures, on which picture."""

import dataclasses

import pytest
import torch

from distill.evaluation import published
from distill.evaluation.protocols import (
    Alignment,
    Crop,
    PreCrop,
    Protocol,
    Published,
    Window,
    measured_pixels,
    pre_cropped,
)
from distill.types import Sample, Space

PLAIN = Protocol(id="plain.v1", dataset="none", alignment=Alignment.NONE, source="A test.")


def changed(**settings) -> Protocol:
    return dataclasses.replace(PLAIN, **settings)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "true depth above 0.001 m, no upper limit, whole image"),
        ({"maximum": 80.0}, "true depth above 0.001 m, below 80 m"),
        ({"maximum": 80.0, "includes_maximum": True}, "above 0.001 m, up to 80 m"),
        ({"minimum": 0.1, "includes_minimum": True}, "true depth from 0.1 m"),
        ({"outliers": 1000.0}, "below 1000 times its 1% quantile"),
        ({"pre_crop": published.KITTI_BENCHMARK}, "image and truth cut to 1216 x 352 (kb), true"),
        ({"crop": published.NYU_EIGEN}, "nyu_eigen crop"),
        ({"alignment": Alignment.DISPARITY, "floor": 0.0125}, "disparity (1/depth), floored at 0."),
        ({"alignment": Alignment.DISPARITY, "floor": "1/max"}, "at 1/(largest true depth), inve"),
        ({"fit_grid": "nearest 1024"}, "none on nearest 1024 pixels"),
        ({"clip": (1e-3, 80.0)}, "depth clipped to 0.001-80 m"),
        ({}, "in the model's own space, then aligned; mean over pixels per image, then mean over"),
        ({"measures": "boundaries"}, "boundaries of the depth"),
        ({"measures": "boundaries"}, "then aligned; F1 per image, then mean over images; images"),
        ({"min_pixels": 3}, "images with fewer than 3 measured pixels are skipped"),
        (
            {"alignment": Alignment.ORDER, "measures": "pairs"},
            "a tie is wrong; prediction at the "
            "size of the photograph; share of all pairs; also per kind of scene",
        ),
    ],
)
def test_the_text_says_what_decides_the_number(settings, said):
    protocol = changed(**settings)
    assert said in protocol.text
    assert protocol.text.startswith("plain.v1: none; ")
    assert protocol.as_json()["text"] == protocol.text
    different = not settings or protocol.as_json()["sha256"] != PLAIN.as_json()["sha256"]
    assert different, "a change of meaning that the digest does not see"


def test_numbers_to_compare_with_are_not_in_the_digest():
    number = Published(model="m", metric="abs_rel", value=0.05, tolerance=0.07, source="Table 1")
    with_number = changed(published=(number,))
    assert with_number.as_json() == PLAIN.as_json()
    assert number.text == "published: m abs_rel 0.05 (within 7%; Table 1)"


def test_a_floor_belongs_to_a_fit_in_disparity_and_order_to_pairs():
    with pytest.raises(ValueError, match="needs a floor"):
        changed(alignment=Alignment.DISPARITY)
    with pytest.raises(ValueError, match="takes none"):
        changed(floor=0.1)
    with pytest.raises(ValueError, match="pairs of points and ORDER go together"):
        changed(alignment=Alignment.ORDER)
    with pytest.raises(ValueError, match="measures pairs with alignment NONE"):
        changed(measures="pairs")


def test_another_list_has_another_id_and_no_numbers():
    number = Published(model="m", metric="abs_rel", value=1.0, tolerance=1.0, source="")
    named = changed(id="set654.disp.v1", expected_images=654, published=(number,))
    other = named.on_other_images()
    assert (other.id, other.expected_images, other.published) == ("set.disp.v1", None, ())
    assert "images that are not the list of 654: none" in other.text
    assert "not comparable with published rows" in other.text
    assert changed(expected_images=5).on_other_images().id == "other.plain.v1"
    assert named.on_other_images("others").dataset == "others"


def rows_and_columns(protocol: Protocol, height: int, width: int) -> tuple:
    everywhere = torch.ones(height, width, dtype=torch.bool)
    measured = measured_pixels(torch.full((height, width), 5.0), everywhere, protocol)
    return tuple(
        (int(found.min()), int(found.max()) + 1)
        for found in (measured.any(1).nonzero(), measured.any(0).nonzero())
    )


@pytest.mark.parametrize(
    ("crop", "size", "rows", "cols"),
    [
        pytest.param(published.GARG, (375, 1242), (153, 371), (44, 1197), id="garg"),
        pytest.param(published.GARG, (352, 1216), (143, 349), (43, 1172), id="garg after kb"),
        pytest.param(published.KITTI_EIGEN, (375, 1242), (124, 342), (44, 1197), id="eigen"),
        pytest.param(published.KITTI_EIGEN, (352, 1216), (117, 321), (43, 1172), id="kb, eigen"),
        pytest.param(published.NYU_EIGEN, (480, 640), (45, 471), (41, 601), id="nyu"),
    ],
)
def test_crops(crop: Crop | Window, size, rows, cols):
    assert rows_and_columns(changed(crop=crop), *size) == (rows, cols)


def test_a_crop_in_pixels_is_for_one_size():
    with pytest.raises(ValueError, match=r"nyu_eigen is made for images of 480 x 640 .* 240 x 320"):
        rows_and_columns(changed(crop=published.NYU_EIGEN), 240, 320)


def test_limits_are_exclusive_unless_the_protocol_says_otherwise():
    target = torch.tensor([[1.0, 2.0, 3.0]])
    valid = torch.ones_like(target, dtype=torch.bool)

    def measured(**settings) -> list[bool]:
        rules = changed(minimum=1.0, maximum=3.0, **settings)
        return measured_pixels(target, valid, rules)[0].tolist()

    assert measured() == [False, True, False]
    assert measured(includes_minimum=True) == [True, True, False]
    assert measured(includes_maximum=True) == [False, True, True]


def test_what_is_far_beyond_the_nearest_is_an_outlier():
    near = [2.0] * 4 + [4.0] * 196  # the 1% quantile is 2, the 2% quantile 4
    target = torch.tensor([[*near, 2000.0, 2001.0, torch.nan]])
    rules = changed(outliers=1000.0)
    measured = measured_pixels(target, target.isfinite(), rules)
    assert measured[0, -3:].tolist() == [True, False, False]
    assert measured[0, :200].all()


def test_a_pre_crop_cuts_image_truth_and_camera_alike():
    height, width = 375, 1242
    numbers = torch.arange(height * width, dtype=torch.float32).view(height, width)
    sample = Sample(
        key="k/a",
        image=(numbers / numbers.numel()).expand(3, height, width),
        target=numbers + 1,
        valid=torch.ones(height, width, dtype=torch.bool),
        space=Space.METRIC_DEPTH,
        K=torch.tensor([[700.0, 0, 600], [0, 700, 180], [0, 0, 1]]),
    )
    cut = pre_cropped(sample, changed(pre_crop=published.KITTI_BENCHMARK))
    assert cut.target is not None
    assert cut.K is not None
    assert cut.image.shape == (3, 352, 1216)
    assert cut.target[0, 0] == 1 + 23 * width + 13
    assert torch.equal(cut.image, sample.image[:, 23:, 13:1229])
    assert cut.K[:2, 2].tolist() == [600 - 13, 180 - 23]
    assert pre_cropped(sample, PLAIN) is sample
    with pytest.raises(ValueError, match=r"k/a: image of 1242 x 375 pixels, protocol plain.v1 cut"):
        pre_cropped(sample, changed(pre_crop=PreCrop(name="big", height=376, width=8)))
