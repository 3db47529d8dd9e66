"""Protocols keep their meaning under their id, and say what their papers say."""

import pytest

from distill.evaluation import house, published
from distill.evaluation.metrics import METRICS
from distill.evaluation.protocols import Alignment, Protocol

EVERY = [
    *(p for module in (published, house) for p in vars(module).values() if isinstance(p, Protocol)),
    *(house.boundaries(rules) for rules in (house.SINTEL, house.IBIMS)),
    *(variant(house.NYU) for variant in (house.moge_affine, house.moge_scale)),
]

# a change of meaning needs a new id, and then a new line here
PINNED = {
    "nyu654.disp.v1": "bdf3c29f",
    "nyu654.depth.v1": "9aac618c",
    "nyu654.metric.v1": "9fe11239",
    "nyu.lineage.v1": "f23561de",
    "kitti652.garg.disp.v1": "ed5eea76",
    "kitti652.kb_eigen.depth.v1": "70f5b414",
    "kitti652.kb_garg.metric.v1": "34759167",
    "kitti652.full.median.v1": "169c4395",
    "kitti697.garg.median.v1": "6b65f342",
    "eth3d454.depth.v1": "9bee8043",
    "eth3d454.metric.v1": "16162034",
    "diode325in.disp.v1": "99e62211",
    "diode771.depth.v1": "2a0de88f",
    "scannet800.depth.v1": "ff7cba17",
    "sintel1064.metric.v1": "2849b626",
    "ddad3950.metric.v1": "ab32b0a6",
    "middlebury15.metric.v1": "83de70ea",
    "da2k.pairs.v1": "2f43a0cc",
    "photos.disp.v1": "eed09e80",
    "rgb-depth.disp.v1": "d0fd0e74",
    "rgb-depth.depth.v1": "d8803d27",
    "rgb-depth.metric.v1": "18c97e47",
    "sintel1064.disp70.v1": "dd5933ed",
    "ibims100.metric.v1": "f08ae0c2",
    "nyu654.gtmax.v1": "698b703e",
    "kitti652.gtmax.v1": "53dfadd2",
    "eth3d454.gtmax.v1": "2900d338",
    "diode771.gtmax.v1": "dd38ed81",
    "ddad3950.gtmax.v1": "6b0fe187",
    "middlebury15.gtmax.v1": "8f92c228",
    "sintel1064.gtmax.v1": "18f69aeb",
    "ibims100.gtmax.v1": "93964483",
    "bf1.sintel1064.metric.v1": "2dac2868",
    "bf1.ibims100.metric.v1": "e8144a11",
    "bf1.sintel1064.gtmax.v1": "d7a8c472",
    "bf1.ibims100.gtmax.v1": "9bd929c7",
    "nyu654.l1affine.v1": "09035f4b",
    "nyu654.l1scale.v1": "4fc8d619",
}


def test_no_id_changes_its_meaning():
    assert {p.id: p.as_json()["sha256"][:8] for p in EVERY} == PINNED


def test_numbers_are_of_what_is_measured_and_plausible():
    for number in (number for protocol in EVERY for number in protocol.published):
        assert number.metric in (*METRICS, "accuracy", "bf1")
        assert 0 < number.value < (3 if number.metric == "rmse" else 1)
        assert number.tolerance == 0.01 or 0.05 <= number.tolerance <= 0.07


@pytest.mark.parametrize("rules", [p for p in EVERY if p.expected_images], ids=lambda p: p.id)
def test_the_length_of_a_list_is_in_its_id_or_another_list_says_other(rules: Protocol):
    count = str(rules.expected_images)
    other = rules.on_other_images()
    assert count in rules.id or other.id.startswith("other.")
    assert count not in other.id


@pytest.mark.parametrize(
    ("rules", "limits", "alignment", "floor", "clip", "crop", "cut"),
    [
        (published.NYU_DISPARITY, (1e-3, 10), "DISPARITY", 0.1, (1e-3, 10), "nyu_eigen", None),
        (published.NYU_DEPTH, (1e-3, 10), "DEPTH", None, (1e-3, 10), "nyu_eigen", None),
        (published.NYU_METRIC, (1e-3, 10), "NONE", None, (1e-3, 10), "nyu_eigen", None),
        (published.NYU_LINEAGE, (0, None), "RATIO_OF_MEDIANS", None, None, None, None),
        (published.KITTI_DISPARITY, (1e-3, 80), "DISPARITY", 1 / 80, None, "garg", None),
        (published.KITTI_DEPTH, (1e-5, 80), "DEPTH", None, (1e-5, 80), "kitti_eigen", "kb"),
        (published.KITTI_METRIC, (1e-3, 80), "NONE", None, (1e-3, 80), "garg", "kb"),
        (published.KITTI_EIGEN_MEDIAN, (1e-3, 80), "RATIO_OF_MEDIANS", None, (1e-3, 80), "garg",
         None),
        (published.KITTI_FULL_MEDIAN, (0, None), "RATIO_OF_MEDIANS", None, (1e-3, 80), None, None),
        (published.ETH3D_DEPTH, (1e-5, None), "DEPTH", None, None, None, None),
        (published.ETH3D_METRIC, (0.1, 200), "NONE", None, None, None, None),
        (published.DIODE_INDOOR, (1e-3, 50), "DISPARITY", 0.02, (1e-3, 50), None, None),
        (published.DIODE_DEPTH, (0, None), "DEPTH", None, (0.6, 350), None, None),
        (published.SCANNET_DEPTH, (1e-3, 10), "DEPTH", None, (1e-3, 10), None, None),
        (house.SINTEL_DISPARITY, (1e-3, 70), "DISPARITY", 1 / 70, None, None, None),
        (published.SINTEL_METRIC, (0.01, 80), "NONE", None, None, None, None),
        (published.DDAD_METRIC, (1e-3, 120), "NONE", None, None, "garg", None),
        (house.NYU, (0, None), "DISPARITY", "1/max", None, None, None),
    ],
    ids=lambda value: value.id if isinstance(value, Protocol) else "",
)  # fmt: skip
def test_rules(rules: Protocol, limits, alignment, floor, clip, crop, cut):
    assert (rules.minimum, rules.maximum) == limits
    assert rules.alignment is Alignment[alignment]
    assert (rules.floor, rules.clip) == (floor, clip)
    assert (rules.crop.name if rules.crop else None) == crop
    assert (rules.pre_crop.name if rules.pre_crop else None) == cut


def test_reduced_fits():
    assert published.ETH3D_DEPTH.fit_grid == "nearest 1024"
    affine, scale = house.moge_affine(house.NYU), house.moge_scale(house.NYU)
    assert (affine.id, affine.alignment) == ("nyu654.l1affine.v1", Alignment.L1_DEPTH)
    assert (scale.id, scale.alignment) == ("nyu654.l1scale.v1", Alignment.L1_SCALE)
    assert affine.fit_grid == scale.fit_grid == "nearest 64 x 64"
    assert affine.floor is scale.floor is None
