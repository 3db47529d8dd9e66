"""One teacher at several sizes: what it sees of the whole, and of the details."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from distill.labels.fuse import fuse
from pseudo_labels.predictor import Answer, AroundAsker, Asker, Predictor, Strategy, only
from pseudo_labels.resizing import resized_maps, resized_views
from pseudo_labels.strategies.plain import plain


class MultiScale(AroundAsker):
    """The weighted median of the maps of an image at several sizes; see `labels.fuse`.

    The asker's views are brought to their sizes on the device.

    Attributes:
        scales: of the sides of the prepared input.
        multiple: of which each side is one, to the nearest.
    """

    def __init__(self, asker: Asker, scales: Sequence[float], multiple: int) -> None:
        super().__init__(asker)
        self.scales, self.multiple = tuple(scales), multiple

    def ask(self, views: Sequence[Float[Tensor, "b 3 _ _"]]) -> Answer:
        """Maps at the prepared size, the confidence of each pixel, and the agreement "scale"."""
        answers = [self.asker.ask([self._scaled(view, s) for view in views]) for s in self.scales]
        size = (views[0].shape[-2], views[0].shape[-1])
        sure = [answer.confidence for answer in answers]
        fused = fuse(
            [resized_maps(answer.values, size) for answer in answers],
            [self.space] * len(answers),
            weights=[None if c is None else resized_maps(c, size).clamp(min=1e-3) for c in sure],
        )
        return Answer(
            values=fused.values,
            confidence=fused.confidence,
            agreement={**mean_agreement(answers), "scale": fused.agreement},
        )

    def _scaled(self, view: Tensor, scale: float) -> Tensor:
        height, width = (
            max(1, round(side * scale / self.multiple)) * self.multiple for side in view.shape[-2:]
        )
        return view if scale == 1 else resized_views(view, (height, width))


def multi_scale(
    teachers: Sequence[Predictor],
    *,
    scales: tuple[float, ...] = (0.75, 1.0, 1.25),
    multiple: int | None = None,
    inner: Strategy = plain,
) -> MultiScale:
    """Ask the one teacher at several sizes.

    The larger ones enlarge the prepared input: they hold no more detail of the image, but the
    network spends more of its patches on what there is.

    Args:
        teachers: one.
        scales: of the sides of its prepared input, two or more.
        multiple: what its sides must be multiples of; None asks its preprocessing.
        inner: how it is asked at each size.

    Raises:
        ValueError: there are several teachers, fewer than two scales or one not above 0, or its
            preprocessing tells no multiple.
    """
    teacher = only(teachers, "multi_scale")
    if len(scales) < 2 or min(scales) <= 0:
        raise ValueError(f"multi_scale: scales {scales}; give two or more above 0")
    if multiple is None:
        multiple = teacher.preprocessing.get("ensure_multiple_of")
    if not multiple:
        raise ValueError(
            f"multi_scale: the preprocessing of {teacher.name} does not tell of what its sides are "
            "multiples; give multiple="
        )
    return MultiScale(inner([teacher]), scales, multiple)


def mean_agreement(answers: Sequence[Answer]) -> dict[str, Float[Tensor, " b"]]:
    """The mean of each agreement over the answers that have it."""
    names = {name for answer in answers for name in answer.agreement}
    return {
        name: torch.stack([a.agreement[name] for a in answers if name in a.agreement]).mean(0)
        for name in sorted(names)
    }
