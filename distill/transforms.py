"""Resizing, cropping and mirroring a sample; target, masks, K and views follow the image."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from distill.datasets.images import resized
from distill.geometry import crop_K, flip_K, resize_K
from distill.types import Sample, Space, View


def network_size(height: int, width: int, *, short_side: int, multiple: int) -> tuple[int, int]:
    """Size the official preprocessing gives an image: the short side reaches `short_side`.

    The aspect ratio is kept up to rounding each side to the nearest `multiple`, or to the next one
    above where that would fall below `short_side` (Depth Anything V2, `util/transform.py`,
    `lower_bound`).

    Raises:
        ValueError: a number is below 1.
    """
    if min(height, width, short_side, multiple) < 1:
        raise ValueError(
            f"network_size: {height} x {width} pixels, short side {short_side}, multiple "
            f"{multiple}; all must be at least 1"
        )
    scale = max(short_side / height, short_side / width)
    return (
        _constrained(scale * height, short_side, multiple),
        _constrained(scale * width, short_side, multiple),
    )


def resize(sample: Sample, *, height: int, width: int) -> Sample:
    """The sample at another size.

    The image is interpolated by OpenCV's bicubic kernel without antialiasing, as upstream does, and
    clipped to [0, 1]. Everything else takes the nearest pixel, all by one index map, so a target is
    always a number that was measured and never a mixture with an invalid one. Pixel centres are
    kept: the corners of the image stay corners, for the image, the index map and K.

    Raises:
        ValueError: a view differs in size from the sample.
    """
    old = _size(sample)
    if old == (height, width):
        return sample
    rows, columns = (_nearest(a, b) for a, b in zip(old, (height, width), strict=True))
    return _mapped(
        sample,
        image=lambda image: resized(image, height, width),
        pick=lambda values: values[rows][:, columns],
        K=lambda K: resize_K(K, old=old, new=(height, width)),
    )


def crop(sample: Sample, *, top: int, left: int, height: int, width: int) -> Sample:
    """The part of the sample from row `top` and column `left` on, and the same part of its views.

    Raises:
        ValueError: the part reaches beyond the sample, or a view differs from it in size.
    """
    full_height, full_width = _size(sample)
    if not (0 <= top <= full_height - height and 0 <= left <= full_width - width):
        raise ValueError(
            f"{sample.key}: crop of {height} x {width} at row {top}, column {left} reaches beyond "
            f"the image of {full_height} x {full_width}"
        )
    window = (..., slice(top, top + height), slice(left, left + width))
    return _mapped(
        sample,
        image=lambda image: image[window],
        pick=lambda values: values[window],
        K=lambda K: crop_K(K, top=top, left=left),
    )


def mirror(sample: Sample) -> Sample:
    """The sample as seen in a mirror, left and right exchanged: the mirrored world.

    A right camera becomes a left one: in `view_from_sample` the x of both cameras is turned.

    Raises:
        ValueError: a view differs in size from the sample.
    """
    width = _size(sample)[1]
    return _mapped(
        sample,
        image=lambda image: image.flip(-1),
        pick=lambda values: values.flip(-1),
        K=lambda K: flip_K(K, width=width),
        pose=_mirrored,
    )


def resize_and_crop(
    sample: Sample, rng: np.random.Generator, *, size: int, multiple: int = 14, flip: float = 0.5
) -> Sample:
    """A random square of the sample for training. Yang et al. 2024b (V2), section 7.1.

    The short side is brought to `size` by `network_size`, a window of `size` x `size` is drawn
    uniformly, and with probability `flip` it is mirrored.

    Raises:
        ValueError: `size` is not a multiple of `multiple`, or `flip` is outside [0, 1].
    """
    if size % multiple:
        raise ValueError(
            f"resize_and_crop: size is {size}, the network takes multiples of {multiple}; "
            f"take {math.ceil(size / multiple) * multiple}"
        )
    if not 0 <= flip <= 1:
        raise ValueError(f"resize_and_crop: flip is {flip}; it must lie in [0, 1]")
    height, width = network_size(*_size(sample), short_side=size, multiple=multiple)
    sample = resize(sample, height=height, width=width)
    top, left = int(rng.integers(height - size + 1)), int(rng.integers(width - size + 1))
    sample = crop(sample, top=top, left=left, height=size, width=size)
    return mirror(sample) if rng.random() < flip else sample


def sky(sample: Sample, seen: Literal["infinite", "farthest", "ignored"]) -> Sample:
    """What a network learns of the sky, `far`, of a sample whose target is depth.

    Args:
        sample: unchanged where its data set does not mark the sky.
        seen: `infinite`: `far` stays, and is disparity 0; `farthest`: as far as the farthest other
            pixel, which is what comes of a disparity that is brought to 0 ... 1 before the sky is
            set to 0; `ignored`: nothing is learned from it.

    Raises:
        ValueError: the target is no depth.
    """
    if sample.far is None or sample.target is None or sample.valid is None or seen == "infinite":
        return sample
    if seen == "ignored" or not sample.valid.any():
        return replace(sample, far=torch.zeros_like(sample.far))
    if sample.space is None or sample.space.is_inverse:
        raise ValueError(f"{sample.key}: sky can only be as far as other pixels where depth is")
    target = torch.where(sample.far, sample.target[sample.valid].max(), sample.target)
    valid = sample.valid | sample.far
    return replace(sample, target=target, valid=valid, far=torch.zeros_like(sample.far))


def within(sample: Sample, nearest: float, farthest: float) -> Sample:
    """The sample with only those pixels valid whose depth lies in this range, metres, both in.

    Raises:
        ValueError: it has no target in metres, or the range is empty.
    """
    if not 0 <= nearest < farthest:
        raise ValueError(f"within: {nearest} to {farthest} m is no range of depths")
    if sample.target is None or sample.valid is None or sample.space is not Space.METRIC_DEPTH:
        raise ValueError(f"{sample.key}: its target is not in metres; take a data set whose is")
    valid = sample.valid & (sample.target >= nearest) & (sample.target <= farthest)
    return replace(sample, target=torch.where(valid, sample.target, torch.nan), valid=valid)


def squeeze(
    sample: Sample,
    rng: np.random.Generator | None,
    *,
    size: int,
    least: float = 0.5,
    flip: float = 0.5,
) -> Sample:
    """The sample squeezed to a square, for networks that take one size alone.

    A random part of at least `least` of each side, of the sample's own aspect ratio, so that what
    is learned from is squeezed as whole pictures are later; with probability `flip` mirrored.
    Without `rng` the whole sample.

    Raises:
        ValueError: `least` is outside (0, 1], or `flip` outside [0, 1].
    """
    if not 0 < least <= 1 or not 0 <= flip <= 1:
        raise ValueError(f"squeeze: least {least} must lie in (0, 1] and flip {flip} in [0, 1]")
    if rng is None:
        return resize(sample, height=size, width=size)
    share = rng.uniform(least, 1)
    whole = _size(sample)
    height, width = (max(1, round(share * side)) for side in whole)
    top, left = int(rng.integers(whole[0] - height + 1)), int(rng.integers(whole[1] - width + 1))
    part = crop(sample, top=top, left=left, height=height, width=width)
    part = resize(part, height=size, width=size)
    return mirror(part) if rng.random() < flip else part


def presented(
    sample: Sample,
    rng: np.random.Generator | None = None,
    *,
    size: int,
    multiple: int,
    square: bool,
    flip: float = 0.5,
) -> Sample:
    """The sample as a network takes it: `squeeze` if `square`, else `resize_and_crop`.

    Without `rng` nothing is left to chance: the whole sample, its short side of `size`.
    """
    if square:
        return squeeze(sample, rng, size=size, flip=flip)
    if rng is not None:
        return resize_and_crop(sample, rng, size=size, multiple=multiple, flip=flip)
    height, width = network_size(*_size(sample), short_side=size, multiple=multiple)
    return resize(sample, height=height, width=width)


def _constrained(length: float, at_least: int, multiple: int) -> int:
    nearest = round(length / multiple) * multiple
    return nearest if nearest >= at_least else math.ceil(length / multiple) * multiple


def _size(sample: Sample) -> tuple[int, int]:
    height, width = sample.image.shape[-2:]
    return height, width


def _nearest(old: int, new: int) -> Tensor:
    """Which of `old` pixels each of `new` ones has its centre in, in exact arithmetic."""
    return (2 * torch.arange(new) + 1) * old // (2 * new)


def _mirrored(pose: Float[Tensor, "4 4"]) -> Float[Tensor, "4 4"]:
    turned = torch.tensor([-1, 1, 1, 1], dtype=pose.dtype)
    return turned[:, None] * pose * turned


def _mapped(
    sample: Sample,
    *,
    image: Callable[[Tensor], Tensor],
    pick: Callable[[Tensor], Tensor],
    K: Callable[[Tensor], Tensor],
    pose: Callable[[Tensor], Tensor] = lambda pose: pose,
) -> Sample:
    """Each part of the sample by its own function, and the same of each view."""

    def known(change: Callable[[Tensor], Tensor], values: Tensor | None) -> Tensor | None:
        return None if values is None else change(values)

    def moved(view: View) -> View:
        if view.image.shape != sample.image.shape:
            raise ValueError(
                f"{sample.key}: {tuple(sample.image.shape[1:])} pixels but {view.key} "
                f"{tuple(view.image.shape[1:])}; views follow a sample only at one size"
            )
        turned = known(pose, view.view_from_sample)
        return replace(view, image=image(view.image), K=known(K, view.K), view_from_sample=turned)

    names = ("target", "valid", "far", "confidence")
    picked = {name: known(pick, getattr(sample, name)) for name in names}
    views = tuple(moved(view) for view in sample.views)
    return replace(sample, image=image(sample.image), K=known(K, sample.K), views=views, **picked)
