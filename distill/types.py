"""The words every part shares: what a sample holds and what a pixel's number means."""

import enum
from dataclasses import dataclass
from typing import NotRequired, Protocol, TypedDict, runtime_checkable

from jaxtyping import Bool, Float
from torch import Tensor


class Space(enum.Enum):
    """What a pixel's number means and what stays unknown about it."""

    METRIC_DEPTH = "metric depth"  # metres along the optical axis
    SCALE_INVARIANT_DEPTH = "scale-invariant depth"  # depth times an unknown scale > 0
    AFFINE_DEPTH = "affine-invariant depth"  # scale > 0 and shift unknown
    METRIC_INVERSE_DEPTH = "metric inverse depth"  # 1/m
    SCALE_INVARIANT_DISPARITY = "scale-invariant disparity"  # inverse depth times an unknown scale
    AFFINE_DISPARITY = "affine-invariant disparity"  # scale > 0 and shift unknown
    ORDINAL = "ordinal"  # only the order is known: larger is closer

    @property
    def is_inverse(self) -> bool:
        """Whether larger numbers are closer to the camera."""
        return self not in {Space.METRIC_DEPTH, Space.SCALE_INVARIANT_DEPTH, Space.AFFINE_DEPTH}


@dataclass(frozen=True, kw_only=True)
class View:
    """Another look at what a sample shows: a neighbour in time, or a stereo pair's other camera.

    Attributes:
        key: of its image, as a sample's.
        image: RGB in [0, 1], of the sample's size.
        offset: frames after the sample, negative before it; 0 is the same moment, another camera.
        K: of this image, as a sample's.
        view_from_sample: `x_view = view_from_sample @ x_sample` for points (x, y, z, 1), metres or
            the unit of `target`. None where nobody knows how the camera moved.
    """

    key: str
    image: Float[Tensor, "3 h w"]
    offset: int
    K: Float[Tensor, "3 3"] | None = None
    view_from_sample: Float[Tensor, "4 4"] | None = None


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One image and what is known about its depth.

    Attributes:
        key: `"<data set>/<relative path>"`, the same in store, metrics, report and errors.
        image: RGB in [0, 1].
        target: numbers in `space`; NaN exactly where not `valid`. None for an unlabelled image.
        valid: finite truth. None exactly when `target` is.
        far: at infinity (sky); never in `valid`. None where the data set does not say.
        confidence: in [0, 1], larger is surer.
        space: what `target` means.
        pseudo_label: the target came from a store; False for rendered or measured truth.
        K: pinhole intrinsics in pixels, OpenCV axes, integer coordinates are pixel centres.
        views: other looks at the same scene, for learning without labels.
    """

    key: str
    image: Float[Tensor, "3 h w"]
    target: Float[Tensor, "h w"] | None = None
    valid: Bool[Tensor, "h w"] | None = None
    far: Bool[Tensor, "h w"] | None = None
    confidence: Float[Tensor, "h w"] | None = None
    space: Space | None = None
    pseudo_label: bool = False
    K: Float[Tensor, "3 3"] | None = None
    views: tuple[View, ...] = ()


class ViewBatch(TypedDict):
    """The n-th view of each sample of a batch; NaN in `K` and `view_from_sample` where unknown."""

    image: Float[Tensor, "b 3 h w"]
    K: Float[Tensor, "b 3 3"]
    view_from_sample: Float[Tensor, "b 4 4"]
    offset: list[int]


class Batch(TypedDict):
    """Samples of one size, stacked; what an objective receives.

    `target`, `valid` and `far` are absent when no sample is labelled; `far` is all False where a
    data set does not mark the sky. `confidence` is absent when no sample has one, and 1 for those
    that have none. `space` and `key` have one entry per sample. `labelled` is True
    for samples with rendered or measured truth and False for pseudo-labels. `seed` is for what is
    drawn for the batch as a whole (CutMix). `set_aside` names samples that could not be read and
    why; others stand in their place. `K` is there when every sample has one, `views` when they have
    any: one entry for each view of a sample.
    """

    key: list[str]
    image: Float[Tensor, "b 3 h w"]
    space: list[Space | None]
    target: NotRequired[Float[Tensor, "b h w"]]
    valid: NotRequired[Bool[Tensor, "b h w"]]
    far: NotRequired[Bool[Tensor, "b h w"]]
    confidence: NotRequired[Float[Tensor, "b h w"]]
    labelled: NotRequired[list[bool]]
    seed: NotRequired[int]
    set_aside: NotRequired[dict[str, str]]
    K: NotRequired[Float[Tensor, "b 3 3"]]
    views: NotRequired[list[ViewBatch]]


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """A depth map and what its numbers mean.

    Attributes:
        values: in `space`, at the size its producer documents.
        space: what `values` mean.
        confidence: one number for the image in [0, 1], larger is surer; None when not estimated.
    """

    values: Float[Tensor, "h w"]
    space: Space
    confidence: float | None = None


@runtime_checkable
class Dataset(Protocol):
    """Map-style and cheap to construct; heavy files open lazily, once per worker."""

    name: str

    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> Sample: ...
    def key(self, index: int) -> str:
        """The key of sample `index`, without reading it."""
        ...


@runtime_checkable
class Encoded(Protocol):
    """A data set whose images lie somewhere as files, or as bytes that were files."""

    def encoded(self, index: int) -> bytes:
        """The bytes of image `index`, as they lie there."""
        ...
