"""Protocols as data: everything that decides what a number means.

A protocol's id never changes its meaning: whatever changes, the id changes. `published` holds the
protocols of papers, `scoring` carries a protocol out.
"""

import dataclasses
import enum
import hashlib
import json
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from distill import masked, transforms
from distill.types import Sample

# fields that came after the first protocols: at their default they are left out of the digest, so
# that the digests of older ids stay what they were
_LATER = (
    *("pre_crop", "includes_minimum", "includes_maximum", "outliers", "fit_grid", "measures"),
)
_AT_TRUTH = "prediction at the size of the truth, in the model's own space, then aligned"
_HOW = {  # what is measured: how predictions reach its size; within and across images
    "depth": (_AT_TRUTH, "mean over pixels per image, then mean over images"),
    "boundaries": (_AT_TRUTH, "F1 per image, then mean over images"),
    "pairs": (
        "prediction at the size of the photograph",
        "share of all pairs; also per kind of scene, and the mean of those",
    ),
}


class Alignment(enum.Enum):
    """What is fitted per image before measuring, over the measured pixels only."""

    NONE = "none"
    ORDER = "none, only the order of two points counts"
    RATIO_OF_MEDIANS = "ratio of medians, in depth"
    MEDIAN_OF_RATIOS = "median of ratios, in depth"
    SCALE = "least-squares scale, in depth"
    DEPTH = "least-squares scale and shift, in depth"
    L1_SCALE = "scale of the least sum of |error| / true depth, in depth"
    L1_DEPTH = "scale and shift of the least sum of |error| / true depth, in depth"
    DISPARITY = "least-squares scale and shift, in disparity (1/depth)"


@dataclass(frozen=True, kw_only=True)
class Crop:
    """The part of an image that counts, as fractions of its height and width."""

    name: str
    rows: tuple[float, float]
    cols: tuple[float, float]

    def slices(self, height: int, width: int) -> tuple[slice, slice]:
        """Its rows and columns in an image of that size."""
        (top, bottom), (left, right) = self.rows, self.cols
        return (
            slice(int(top * height), int(bottom * height)),
            slice(int(left * width), int(right * width)),
        )


@dataclass(frozen=True, kw_only=True)
class Window:
    """The part of an image that counts, in pixels: the first that is in, the first that is not.

    Attributes:
        size: height and width of the images it is made for.
    """

    name: str
    size: tuple[int, int]
    rows: tuple[int, int]
    cols: tuple[int, int]

    def slices(self, height: int, width: int) -> tuple[slice, slice]:
        """Its rows and columns.

        Raises:
            ValueError: the image is of another size.
        """
        if (height, width) != self.size:
            raise ValueError(
                f"crop {self.name} is made for images of {self.size[0]} x {self.size[1]} pixels, "
                f"got {height} x {width}"
            )
        return slice(*self.rows), slice(*self.cols)


@dataclass(frozen=True, kw_only=True)
class PreCrop:
    """What is cut out of image and truth before the model sees them: bottom rows, middle columns.

    Attributes:
        height, width: of what remains, pixels.
    """

    name: str
    height: int
    width: int


@dataclass(frozen=True, kw_only=True)
class Published:
    """A number to compare with.

    Attributes:
        model: that was measured.
        metric: as in `means`.
        value: as published.
        tolerance: relative; a faithful measurement of that model lies within it.
        source: where it stands, and what differs.
    """

    model: str
    metric: str
    value: float
    tolerance: float
    source: str

    @property
    def text(self) -> str:
        """One line for people."""
        near = f"within {self.tolerance:.0%}"
        return f"published: {self.model} {self.metric} {self.value:g} ({near}; {self.source})"


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """How predictions become numbers.

    Attributes:
        id: names this protocol and no other.
        dataset: whose truth it is.
        minimum, maximum: metres; pixels outside are left out, never clamped. None: open.
        includes_minimum, includes_maximum: whether a pixel exactly there is measured.
        outliers: pixels deeper than so many times the image's 1% quantile are left out. None: none.
        pre_crop: what image and truth are cut to before the prediction. None: they are whole.
        crop: pixels outside are left out before the fit, counted after `pre_crop`. None: all count.
        alignment: what is fitted; the prediction's `Space` must allow it.
        fit_grid: the measured pixels that are fitted: all; or the nearest ones of the image reduced
            to a longer side of at most 1024 (Marigold); or of each cell of a 64 x 64 grid the
            measured pixel nearest to its middle (MoGe).
        floor: smallest aligned disparity, 1/m, before it is inverted, since 1/0 would decide every
            mean. A number is a constant of the data set (MiDaS: 1/cap); "1/max" is 1 over the
            largest measured true depth of the image (MoGe). Given exactly for a fit in disparity.
        clip: metres; aligned depth is clipped to it. None: not clipped.
        measures: depth (`metrics`), boundaries (`boundary`), or pairs of points (`pairs`).
        min_pixels: an image with fewer is skipped and counted.
        expected_images: the length of the published list. None: any list.
        source: where it comes from and what it compares with.
        published: numbers to compare with; they decide nothing and are not in the digest.
    """

    id: str
    dataset: str
    minimum: float = 1e-3
    maximum: float | None = None
    includes_minimum: bool = False
    includes_maximum: bool = False
    outliers: float | None = None
    pre_crop: PreCrop | None = None
    crop: Crop | Window | None = None
    alignment: Alignment
    fit_grid: Literal["full", "nearest 1024", "nearest 64 x 64"] = "full"
    floor: float | Literal["1/max"] | None = None
    clip: tuple[float, float] | None = None
    measures: Literal["depth", "boundaries", "pairs"] = "depth"
    min_pixels: int = 10
    expected_images: int | None = None
    source: str
    published: tuple[Published, ...] = ()

    def __post_init__(self) -> None:
        if (self.floor is None) == (self.alignment is Alignment.DISPARITY):
            raise ValueError(
                f"protocol {self.id}: floor is {self.floor} with alignment {self.alignment.name}; "
                "a fit in disparity needs a floor, another alignment takes none"
            )
        if (self.measures == "pairs") != (self.alignment is Alignment.ORDER):
            raise ValueError(
                f"protocol {self.id}: measures {self.measures} with alignment "
                f"{self.alignment.name}; pairs of points and ORDER go together"
            )

    @property
    def text(self) -> str:
        """One paragraph for people, printed beside every number."""
        how = "; ".join(_HOW[self.measures])
        if self.measures == "pairs":
            return (
                f"{self.id}: {self.dataset}; of each pair of points the closer one must be "
                f"predicted closer, a tie is wrong; {how}. {self.source}"
            )
        measured = "metrics in depth" if self.measures == "depth" else "boundaries of the depth"
        return (
            f"{self.id}: {self.dataset}; {self._text_of_pixels()}; {self._text_of_alignment()}; "
            f"{measured}; {how}; images with fewer than "
            f"{self.min_pixels} measured pixels are skipped and counted. {self.source}"
        )

    def _text_of_pixels(self) -> str:
        cut = self.pre_crop
        before = f"image and truth cut to {cut.width} x {cut.height} ({cut.name}), " if cut else ""
        least = "from" if self.includes_minimum else "above"
        most = "up to" if self.includes_maximum else "below"
        cap = "no upper limit" if self.maximum is None else f"{most} {self.maximum:g} m"
        drop = f", below {self.outliers:g} times its 1% quantile" if self.outliers else ""
        crop = "whole image" if self.crop is None else f"{self.crop.name} crop"
        return f"{before}true depth {least} {self.minimum:g} m, {cap}{drop}, {crop}"

    def _text_of_alignment(self) -> str:
        grid = "" if self.fit_grid == "full" else f" on {self.fit_grid} pixels"
        least = "1/(largest true depth)" if self.floor == "1/max" else f"{self.floor} 1/m"
        floor = f", floored at {least}, inverted" if self.floor else ""
        clip = f", depth clipped to {self.clip[0]:g}-{self.clip[1]:g} m" if self.clip else ""
        return f"alignment per image: {self.alignment.value}{grid}{floor}{clip}"

    def as_json(self) -> dict[str, Any]:
        """All fields that decide a number, the paragraph, and the sha256 of the fields."""
        told = dataclasses.asdict(self) | {"alignment": self.alignment.name}
        told |= zip(("resize", "aggregation"), _HOW[self.measures], strict=True)
        del told["published"]
        for field in dataclasses.fields(self):
            if field.name in _LATER and told[field.name] == field.default:
                del told[field.name]
        told = json.loads(json.dumps(told))  # as it is read back: lists, not tuples
        return told | {"text": self.text, "sha256": digest(told)}

    def on_other_images(self, dataset: str | None = None) -> "Protocol":
        """The same rules on a list that is not the published one, under an id that says so."""
        count = str(self.expected_images)
        name = self.id.replace(count, "", 1) if count in self.id else f"other.{self.id}"
        return dataclasses.replace(
            self,
            id=name,
            dataset=dataset or f"images that are not the list of {count}: {self.dataset}",
            expected_images=None,
            source=f"As {self.id} on other images: not comparable with published rows.",
            published=(),
        )


def measured_pixels(
    target: Float[Tensor, "h w"], valid: Bool[Tensor, "h w"], protocol: Protocol
) -> Bool[Tensor, "h w"]:
    """The pixels that are fitted and measured: valid, within the range, inside the crop.

    Raises:
        ValueError: the crop is made for images of another size.
    """
    low, high = protocol.minimum, protocol.maximum
    inside = valid & (target >= low if protocol.includes_minimum else target > low)
    if high is not None:
        inside &= target <= high if protocol.includes_maximum else target < high
    if protocol.outliers is not None:
        near = masked.quantile(target.double()[None], inside[None], 0.01)
        inside &= target <= protocol.outliers * near
    if protocol.crop is None:
        return inside
    window = torch.zeros_like(inside)
    window[protocol.crop.slices(*target.shape)] = True
    return inside & window


def pre_cropped(sample: Sample, protocol: Protocol) -> Sample:
    """What the protocol shows to a model, and the truth of exactly that.

    Raises:
        ValueError: the image is smaller than what is cut out of it.
    """
    cut = protocol.pre_crop
    if cut is None:
        return sample
    height, width = sample.image.shape[-2:]
    if height < cut.height or width < cut.width:
        raise ValueError(
            f"{sample.key}: image of {width} x {height} pixels, protocol {protocol.id} cuts "
            f"{cut.width} x {cut.height} out of it ({cut.name})"
        )
    return transforms.crop(
        sample,
        top=height - cut.height,
        left=(width - cut.width) // 2,
        height=cut.height,
        width=cut.width,
    )


def digest(value: object) -> str:
    """The sha256 of a value's canonical JSON."""
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()
