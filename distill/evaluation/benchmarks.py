"""Protocols as data: everything that decides what a number means, and the benchmarks under them.

A benchmark is a reader and a protocol; a new one is a row in `BENCHMARKS`. A protocol's id never
changes its meaning: whatever changes, the id changes.
"""

import dataclasses
import enum
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from distill.datasets.rgb_depth_folder import RgbDepthFolder
from distill.types import Dataset


class Alignment(enum.Enum):
    """What is fitted per image before measuring, over the measured pixels only."""

    NONE = "none"
    RATIO_OF_MEDIANS = "ratio of medians, in depth"
    SCALE = "least-squares scale, in depth"
    DEPTH = "least-squares scale and shift, in depth"
    DISPARITY = "least-squares scale and shift, in disparity (1/depth)"


@dataclass(frozen=True, kw_only=True)
class Crop:
    """The part of an image that counts, as fractions of its height and width."""

    name: str
    rows: tuple[float, float]
    cols: tuple[float, float]


GARG = Crop(name="garg", rows=(0.40810811, 0.99189189), cols=(0.03594771, 0.96405229))
KITTI_EIGEN = Crop(name="kitti_eigen", rows=(0.3324324, 0.91351351), cols=(0.0359477, 0.96405229))


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """How predictions become numbers.

    Attributes:
        id: names this protocol and no other.
        dataset: whose truth it is.
        minimum, maximum: metres, exclusive; pixels outside are left out, never clamped. None: open.
        crop: pixels outside are left out before the fit. None: all count.
        alignment: what is fitted; the prediction's `Space` must allow it.
        floor: smallest aligned disparity, 1/m, before it is inverted, since 1/0 would decide every
            mean. A number is a constant of the data set (MiDaS: 1/cap); "1/max" is 1 over the
            largest measured true depth of the image (MoGe). Given exactly for a fit in disparity.
        clip: metres; aligned depth is clipped to it. None: not clipped.
        resize: how predictions reach the truth's size.
        aggregation: within and across images.
        min_pixels: an image with fewer is skipped and counted.
        expected_images: the length of the published list. None: any list.
        source: where it comes from and what it compares with.
    """

    id: str
    dataset: str
    minimum: float = 1e-3
    maximum: float | None = None
    crop: Crop | None = None
    alignment: Alignment
    floor: float | Literal["1/max"] | None = None
    clip: tuple[float, float] | None = None
    resize: str = "prediction at the size of the truth, in the model's own space, then aligned"
    aggregation: str = "mean over pixels per image, then mean over images"
    min_pixels: int = 10
    expected_images: int | None = None
    source: str

    def __post_init__(self) -> None:
        if (self.floor is None) == (self.alignment is Alignment.DISPARITY):
            raise ValueError(
                f"protocol {self.id}: floor is {self.floor} with alignment {self.alignment.name}; "
                "a fit in disparity needs a floor, another alignment takes none"
            )

    @property
    def text(self) -> str:
        """One paragraph for people, printed beside every number."""
        cap = "no upper limit" if self.maximum is None else f"below {self.maximum:g} m"
        crop = "whole image" if self.crop is None else f"{self.crop.name} crop"
        least = "1/(largest true depth)" if self.floor == "1/max" else f"{self.floor} 1/m"
        floor = f", floored at {least}, inverted" if self.floor else ""
        clip = f", depth clipped to {self.clip[0]:g}-{self.clip[1]:g} m" if self.clip else ""
        return (
            f"{self.id}: {self.dataset}; true depth above {self.minimum:g} m, {cap}, {crop}; "
            f"alignment per image: {self.alignment.value}{floor}{clip}; metrics in depth; "
            f"{self.resize}; {self.aggregation}; images with fewer than {self.min_pixels} measured "
            f"pixels are skipped and counted. {self.source}"
        )

    def as_json(self) -> dict[str, Any]:
        """All fields, the paragraph, and the sha256 of the fields' canonical JSON."""
        fields = dataclasses.asdict(self) | {"alignment": self.alignment.name}
        fields = json.loads(json.dumps(fields))  # as it is read back: lists, not tuples
        return fields | {"text": self.text, "sha256": digest(fields)}


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """A protocol and the reader of the images it is measured on.

    Attributes:
        name: what `--benchmark` takes.
        open: the data folder to its data set; targets are metric depth.
        protocol: for the list it names.
        other_list: the protocol when the data is not the published list. None: any list is meant.
        home: where the data lies when no folder is given. None: a folder must be given.
        layout: what the folder holds, for messages.
    """

    name: str
    open: Callable[[Path], Dataset]
    protocol: Protocol
    other_list: Protocol | None = None
    home: Path | None = None
    layout: str = (
        "rgb/NAME.jpg|png and depth/NAME.png, uint16 of 1/256 m, 0 where nothing was measured"
    )

    def folder(self, data: Path | None) -> Path:
        """`data`, or where the benchmark's data lies.

        Raises:
            ValueError: no folder was given and the benchmark has no place of its own.
            FileNotFoundError: there is no such folder.
        """
        chosen = data or self.home
        if chosen is None:
            raise ValueError(f"benchmark {self.name}: give --data DIR holding {self.layout}")
        if not chosen.is_dir():
            raise FileNotFoundError(
                f"benchmark {self.name}: no folder {chosen}; it should hold {self.layout}"
            )
        return chosen

    def protocol_for(self, images: int) -> Protocol:
        """The protocol under its own id only where the number of images is the published one."""
        if self.other_list is None or images == self.protocol.expected_images:
            return self.protocol
        return self.other_list


def measured_pixels(
    target: Float[Tensor, "h w"], valid: Bool[Tensor, "h w"], protocol: Protocol
) -> Bool[Tensor, "h w"]:
    """The pixels that are fitted and measured: valid, within the range, inside the crop."""
    inside = valid & (target > protocol.minimum)
    if protocol.maximum is not None:
        inside &= target < protocol.maximum
    if protocol.crop is None:
        return inside
    h, w = target.shape
    (top, bottom), (left, right) = protocol.crop.rows, protocol.crop.cols
    window = torch.zeros_like(inside)
    window[int(top * h) : int(bottom * h), int(left * w) : int(right * w)] = True
    return inside & window


def digest(value: object) -> str:
    """The sha256 of a value's canonical JSON."""
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def find(name: str) -> Benchmark:
    """The benchmark called `name`.

    Raises:
        ValueError: there is none; the message lists them.
    """
    for benchmark in BENCHMARKS:
        if benchmark.name == name:
            return benchmark
    known = ", ".join(benchmark.name for benchmark in BENCHMARKS)
    raise ValueError(f"no benchmark named {name!r}; there are {known}")


_PHOTOS = Protocol(
    id="photos.disp.v1",
    dataset="held-out photos of the demo world (distill/worlds), rendered truth",
    alignment=Alignment.DISPARITY,
    floor="1/max",
    source="Fit as MiDaS, floor as MoGe. A house number: compare only with itself.",
)
_KITTI = Protocol(
    id="kitti652.garg.disp.v1",
    dataset="KITTI, the 652 Eigen test images with annotated lidar truth",
    maximum=80.0,
    crop=GARG,
    alignment=Alignment.DISPARITY,
    floor=1 / 80,
    expected_images=652,
    source="Fit and floor as MiDaS; compare with Depth Anything V2, Table 2 (ViT-S 0.078).",
)
_FOLDER = Protocol(
    id="rgb-depth.disp.v1",
    dataset="a folder of images and 16-bit depth PNGs",
    alignment=Alignment.DISPARITY,
    floor="1/max",
    source="Fit as MiDaS, floor as MoGe. Compare only on the same images.",
)

BENCHMARKS: tuple[Benchmark, ...] = (
    Benchmark(
        name="photos",
        open=partial(RgbDepthFolder, name="photos"),
        protocol=_PHOTOS,
        home=Path("runs/demo/worlds/photos/evaluation"),
    ),
    Benchmark(
        name="kitti",
        open=partial(RgbDepthFolder, name="kitti"),
        protocol=_KITTI,
        other_list=dataclasses.replace(
            _KITTI,
            id="kitti.garg.disp.v1",
            dataset="KITTI images that are not the list of 652, lidar truth",
            expected_images=None,
            source="As kitti652.garg.disp.v1 on other images: not comparable with published rows.",
        ),
    ),
    Benchmark(
        name="rgb-depth",
        open=partial(RgbDepthFolder, name="rgb-depth"),
        protocol=_FOLDER,
    ),
    Benchmark(
        name="rgb-depth-affine",
        open=partial(RgbDepthFolder, name="rgb-depth"),
        protocol=dataclasses.replace(
            _FOLDER,
            id="rgb-depth.depth.v1",
            alignment=Alignment.DEPTH,
            floor=None,
            clip=(1e-3, 1e3),
            source="For models that predict affine-invariant depth, as Marigold's tables.",
        ),
    ),
    Benchmark(
        name="rgb-depth-metric",
        open=partial(RgbDepthFolder, name="rgb-depth"),
        protocol=dataclasses.replace(
            _FOLDER,
            id="rgb-depth.metric.v1",
            alignment=Alignment.NONE,
            floor=None,
            clip=(1e-3, 1e3),
            source="For models that predict metres; nothing is aligned.",
        ),
    ),
)
