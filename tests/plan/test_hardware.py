"""Utilisation interpolates between measured points and never beyond them."""

import pytest

from distill.plan import hardware
from distill.plan.hardware import Device, Point

DEVICE = Device(
    name="toy",
    peak=1000.0,
    memory=1.0,
    source="test",
    points={
        "training": (
            Point(flops=10.0, images_per_s=10.0, what="small"),  # 10 %
            Point(flops=1000.0, images_per_s=0.5, what="large"),  # 50 %
        )
    },
)


@pytest.mark.parametrize(
    ("flops", "share"),
    [(10.0, 0.1), (1000.0, 0.5), (100.0, 0.3), (1.0, 0.1), (1e6, 0.5)],
)
def test_utilisation(flops: float, share: float):
    assert hardware.utilisation(DEVICE, "training", flops).share == pytest.approx(share)


def test_beyond_the_points_is_said():
    assert "nearest" in hardware.utilisation(DEVICE, "training", 1e6).source
    assert "nearest" not in hardware.utilisation(DEVICE, "training", 100.0).source


def test_a_device_without_points_takes_the_shares_of_the_measured_one():
    point = hardware.H200.points["labelling"][0]
    found = hardware.utilisation(hardware.find("a100"), "labelling", point.flops)
    assert found.share == pytest.approx(point.flops * point.images_per_s / 989e12)
    assert "carried over to a100" in found.source


def test_unknown_hardware_lists_the_table():
    with pytest.raises(ValueError, match=r"'tpu'.*h200 \(989 TFLOP/s.*--probe"):
        hardware.find("tpu")
