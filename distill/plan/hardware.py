"""What a device does at best, by its maker, and what share of that was measured with this code."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

Kind = Literal["labelling", "training"]


@dataclass(frozen=True, kw_only=True)
class Point:
    """A measured speed.

    Attributes:
        flops: an image, as `counting` counts them; the tests count again.
        images_per_s: of the network alone, everything at hand.
        what: was measured.
    """

    flops: float
    images_per_s: float
    what: str


@dataclass(frozen=True, kw_only=True)
class Device:
    """One device.

    Attributes:
        name: by which it is asked for.
        peak: FLOP/s of dense matrix products in bf16 with float32 sums.
        memory: bytes.
        source: of both.
        points: measured speeds by kind of job; none: those of `H200` stand in, as shares.
    """

    name: str
    peak: float
    memory: float
    source: str
    points: Mapping[Kind, tuple[Point, ...]] = field(default_factory=dict[Kind, tuple[Point, ...]])


H200 = Device(
    name="h200",
    peak=989e12,
    memory=141e9,
    source="NVIDIA H200 data sheet (SXM, without sparsity)",
    points={
        "labelling": (
            Point(flops=115.27e9, images_per_s=653.8, what="ViT-S at 518x518"),
            Point(flops=1.3042e12, images_per_s=138.2, what="ViT-L at 518x518"),
        ),
        "training": (
            Point(flops=455.88e9, images_per_s=279.8, what="student S at 518x518"),
            Point(flops=5.0169e12, images_per_s=57.0, what="student L at 518x518"),
        ),
    },
)
DEVICES = (
    H200,
    Device(
        name="h100",
        peak=989e12,
        memory=80e9,
        source="NVIDIA H100 data sheet (SXM, without sparsity)",
    ),
    Device(
        name="a100",
        peak=312e12,
        memory=80e9,
        source="NVIDIA A100 data sheet (SXM 80 GB, without sparsity)",
    ),
)


@dataclass(frozen=True, kw_only=True)
class Utilisation:
    """A share of a device's peak.

    Attributes:
        share: in (0, 1].
        source: where it comes from.
    """

    share: float
    source: str


def find(name: str) -> Device:
    """The device of that name.

    Raises:
        ValueError: there is none; those that are there are listed.
    """
    for device in DEVICES:
        if device.name == name.lower():
            return device
    known = ", ".join(f"{d.name} ({d.peak / 1e12:.0f} TFLOP/s, {d.source})" for d in DEVICES)
    raise ValueError(f"no hardware {name!r} in the table: {known}; elsewhere use --probe 60")


def utilisation(device: Device, kind: Kind, flops: float) -> Utilisation:
    """The share of its peak that `device` will reach on images of `flops` each.

    Linear in the logarithm of `flops` between the measured points, and that of the nearest one
    beyond them: a larger network than any measured one is not assumed to do better.
    """
    measured = device if device.points else H200
    points = sorted(measured.points[kind], key=lambda point: point.flops)
    shares = [point.flops * point.images_per_s / measured.peak for point in points]
    share = shares[0] if flops <= points[0].flops else shares[-1]
    for (low, a), (high, b) in pairwise(zip(points, shares, strict=True)):
        if low.flops <= flops <= high.flops:
            done = math.log(flops / low.flops) / math.log(high.flops / low.flops)
            share = a + done * (b - a)
    told = " and ".join(f"{p.what} {p.images_per_s:g} images/s" for p in points)
    carried = "" if measured is device else f", carried over to {device.name}"
    outside = not points[0].flops <= flops <= points[-1].flops
    beyond = ", the nearest of them" if outside else ""
    source = f"measured on one {measured.name}, uncompiled: {told}{beyond}{carried}"
    return Utilisation(share=share, source=source)
