"""One teacher on the whole image and on parts of it: the order of the whole, the detail of parts.

He et al. 2025 (Distill-Any-Depth), section 3.3, whose local and global contexts meet in a student's
loss; here they meet in the label.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from distill import masked
from distill.labels.robust_fit import robust_fit, sampled
from distill.types import Space
from pseudo_labels.predictor import Answer, Asker, Predictor, Strategy, only
from pseudo_labels.resizing import resized_maps
from pseudo_labels.strategies.multi_scale import mean_agreement
from pseudo_labels.strategies.plain import plain

_SCALE_ONLY = {  # a part may be nearer or farther as a whole, but its zero stays
    Space.METRIC_DEPTH: Space.SCALE_INVARIANT_DEPTH,
    Space.METRIC_INVERSE_DEPTH: Space.SCALE_INVARIANT_DISPARITY,
}


class CrossContext:
    """Parts that overlap by half, each brought to the whole and blended by smooth windows.

    Attributes:
        asker: asked for the whole and for each part.
        grid: parts in a row and in a column; the map is (grid + 1) / 2 as large as the asker's.
    """

    def __init__(self, asker: Asker, grid: int) -> None:
        self.asker, self.grid = asker, grid

    @property
    def space(self) -> Space:
        """The teacher's."""
        return self.asker.space

    def views(self, image: Image.Image) -> tuple[Float[Tensor, "3 _ _"], ...]:
        """Those of each part, row by row, then those of the whole."""
        n, image = self.grid + 1, image.convert("RGB")
        parts = [_part(image, row, column, n) for row in range(n - 1) for column in range(n - 1)]
        return tuple(view for part in [*parts, image] for view in self.asker.views(part))

    def ask(self, views: Sequence[Float[Tensor, "b 3 _ _"]]) -> Answer:
        """The blended maps, the confidence of each pixel, and the agreement "crop".

        Confidence is that of `tta.flip_agreement`, between the whole and the parts at the size of
        the whole, where detail that only the parts have does not count as disagreement.
        """
        each = len(views) // (self.grid**2 + 1)
        answers = [self.asker.ask(views[i : i + each]) for i in range(0, len(views), each)]
        whole = _even(answers.pop().values.float())
        height, width = whole.shape[1:]
        half = (height // 2, width // 2)
        size = (half[0] * (self.grid + 1), half[1] * (self.grid + 1))
        large = resized_maps(whole, size)
        blend, parts = torch.zeros_like(large), torch.zeros_like(large)
        for place, answer in enumerate(answers):
            top, left = (i * step for i, step in zip(divmod(place, self.grid), half, strict=True))
            region = (..., slice(top, top + height), slice(left, left + width))
            values = resized_maps(answer.values, (height, width))
            aligned, trust = self._aligned(values, large[region])
            window = _window(height, width, place, self.grid).to(large)
            blend[region] += window * (trust * aligned + (1 - trust) * large[region])
            parts[region] += window * aligned
        confidence = _confidence(resized_maps(parts, (height, width)), whole)
        return Answer(
            values=blend,
            confidence=resized_maps(confidence, size).clamp(0, 1),
            agreement={**mean_agreement(answers), "crop": confidence.flatten(1).mean(1)},
        )

    def _aligned(
        self, part: Float[Tensor, "b h w"], whole: Float[Tensor, "b h w"]
    ) -> tuple[Float[Tensor, "b h w"], Float[Tensor, "b 1 1"]]:
        """A part in the scale and shift of the whole; how far it is to be trusted, in [0, 1].

        They are compared at the size in which the whole was seen: detail is no disagreement.
        """
        height, width = part.shape[1:]
        seen = (2 * height // (self.grid + 1), 2 * width // (self.grid + 1))
        pred, target = sampled(resized_maps(part, seen)), sampled(resized_maps(whole, seen))
        valid = torch.isfinite(pred) & torch.isfinite(target)
        space = _SCALE_ONLY.get(self.space, self.space)
        fit = robust_fit(pred, target, valid, space=space)
        trust = (2 * (1 - fit.distance)).clamp(max=1)  # half of it may be seen otherwise
        scale, shift, trust = (m[:, None, None] for m in (fit.scale, fit.shift, trust))
        return part * scale + shift, trust


def cross_context(
    teachers: Sequence[Predictor], *, grid: int = 3, inner: Strategy = plain
) -> CrossContext:
    """Ask the one teacher for the whole image and for `grid` x `grid` overlapping parts.

    Args:
        teachers: one.
        grid: parts in a row and in a column; 3 doubles the size of the map for ten looks.
        inner: how the teacher is asked each time.

    Raises:
        ValueError: there are several teachers, or `grid` < 2.
    """
    if grid < 2:
        raise ValueError(f"cross_context: grid is {grid}; it must be at least 2")
    return CrossContext(inner([only(teachers, "cross_context")]), grid)


def _part(image: Image.Image, row: int, column: int, n: int) -> Image.Image:
    """Two n-ths of the image down and across from `row` and `column` on, exact within a pixel."""
    across, down = image.width / n, image.height / n
    box = (column * across, row * down, (column + 2) * across, (row + 2) * down)
    size = max(1, round(2 * across)), max(1, round(2 * down))
    return image.resize(size, Image.Resampling.BICUBIC, box=box)


def _even(values: Float[Tensor, "b h w"]) -> Float[Tensor, "b _ _"]:
    height, width = values.shape[1:]
    return resized_maps(values, (height + height % 2, width + width % 2))


def _window(height: int, width: int, place: int, grid: int) -> Float[Tensor, "h w"]:
    """Squared cosines that add up to 1 over all parts, flat where no other part reaches."""
    row, column = divmod(place, grid)
    return _slope(height, row, grid)[:, None] * _slope(width, column, grid)


def _slope(length: int, place: int, grid: int) -> Float[Tensor, " n"]:
    rise = torch.sin((torch.arange(length) + 0.5) * torch.pi / length).square()
    half = length // 2
    if place == 0:
        rise[:half] = 1
    if place == grid - 1:
        rise[half:] = 1
    return rise


def _confidence(
    parts: Float[Tensor, "b h w"], whole: Float[Tensor, "b h w"]
) -> Float[Tensor, "b h w"]:
    finite = torch.isfinite(parts) & torch.isfinite(whole)
    spread = masked.mad(whole, finite)[:, None, None]
    difference = torch.where(finite, (parts - whole).abs(), torch.inf)
    return torch.where(spread > 0, spread / (spread + difference), 0.0)
