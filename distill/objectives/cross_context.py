"""Learning from teachers asked anew: of the same picture, and of parts of it.

He et al. 2025 (Distill-Any-Depth), section 3.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.functional import interpolate

from distill import alignment
from distill.geometry import to_space
from distill.objectives.features import projection, tokens_of, with_projection
from distill.objectives.terms import Student, Term, check_names, report, share
from distill.types import Batch


@dataclass(frozen=True, kw_only=True)
class LocalCrops:
    """How the teacher is shown parts of what the student sees.

    Attributes:
        term: loss of (the student's map inside a part, the teacher's map of the part, valid).
        count: parts of each picture.
        side: smallest and largest, as a share of the picture's; one for a batch.

    Raises:
        ValueError: no parts, or sides outside (0, 1] or not in order.
    """

    term: Term
    count: int = 2
    side: tuple[float, float] = (0.5, 0.75)

    def __post_init__(self) -> None:
        if self.count < 1 or not 0 < self.side[0] <= self.side[1] <= 1:
            raise ValueError(
                f"LocalCrops: count {self.count}, side {self.side}; give at least one part, and "
                "the smallest and largest side in (0, 1]"
            )


class CrossContext(nn.Module):
    """Frozen teachers inside, so that every part of a picture is really predicted.

    Pictures come larger than the student sees them: both see them at `size` (shared context), and
    the teacher alone their parts, each at `size` again, out of the larger picture (local context).
    There the student's map of the whole is cut out and its own pixels are compared. Each batch has
    one teacher, drawn by `chances`. Labels, if there are any, are not looked at.

    Every image counts in every mean; one whose teacher says nothing adds 0.

    Args:
        student: builds the network; it declares its `space` and, for `feature`, its tokens.
        teachers: build networks of images in [0, 1] that declare their `space`.
        terms: losses of (pred, target, valid) in the shared context.
        size: pixels, side of what the networks see; the pictures' sides are multiples of it.
        local: the local context; None leaves it out.
        chances: of each teacher, in proportion; equal if not given.
        feature: a loss of (student's tokens, frozen tokens).
        encoder: builds the frozen encoder that `feature` compares with.

    Raises:
        ValueError: no terms, two of one name, no teachers or not a chance for each, one of
            `feature` and `encoder` without the other, or a `size` that the student cannot see.
            Later, of a batch: a side is no multiple of `size`.
    """

    def __init__(
        self,
        student: Callable[[], Student],
        teachers: Sequence[Callable[[], nn.Module]],
        terms: Sequence[Term],
        *,
        size: int,
        local: LocalCrops | None = None,
        chances: Sequence[float] | None = None,
        feature: Term | None = None,
        encoder: Callable[[], nn.Module] | None = None,
    ) -> None:
        super().__init__()
        if (feature is None) != (encoder is None):
            raise ValueError("feature and encoder go together: give the term and its network")
        self.chances = [1.0] * len(teachers) if chances is None else list(chances)
        if not teachers or len(self.chances) != len(teachers) or min(self.chances) <= 0:
            raise ValueError(
                f"cross_context: chances {self.chances} for {len(teachers)} teachers; give at "
                "least one teacher, and a chance above 0 for each"
            )
        self.shared, self.local, self.feature, self.size = tuple(terms), local, feature, size
        optional = [*([local.term] if local else []), *([feature] if feature else [])]
        self.terms = (*terms, *optional)
        check_names(self.terms)
        self.student: Student = student()
        if size < 1 or size % self.student.multiple:
            raise ValueError(
                f"cross_context: size is {size}; the student needs a multiple of "
                f"{self.student.multiple}"
            )
        self.frozen = nn.ModuleDict({f"teacher{i}": t() for i, t in enumerate(teachers)})
        if encoder is not None:
            self.frozen["encoder"] = encoder()
        self.frozen.eval().requires_grad_(False)
        self.projection = (
            nn.Identity() if encoder is None else projection(self.student, self.frozen["encoder"])
        )

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """What is trained, by the name its learning rate goes by; a projection is as new as a head.

        Raises:
            ValueError: a projection is needed and the student has no group "head".
        """
        return with_projection(self.student.parameter_groups(), self.projection)

    def train(self, mode: bool = True) -> "CrossContext":
        """As any module, but teachers and encoder stay as they are."""
        super().train(mode)
        self.frozen.eval()
        return self

    def counts(self, batch: Batch) -> dict[str, Float[Tensor, ""]]:
        """How many images the means of this batch run over."""
        return {"images": batch["image"].new_full((), len(batch["key"]))}

    @alignment.computed_once()
    def forward(
        self, batch: Batch, totals: dict[str, Tensor] | None = None
    ) -> dict[str, Float[Tensor, ""]]:
        """This batch's share of the loss and of each term.

        Args:
            batch: square pictures, with the `seed` from which teacher and parts are drawn.
            totals: `counts` summed over the update; this batch's own when None.
        """
        assert "seed" in batch, "the teacher and the parts are drawn from the batch's seed"
        draw = torch.Generator().manual_seed(batch["seed"])
        teacher = self.frozen[f"teacher{self._lot(draw)}"]
        large = batch["image"]
        images = (self.counts(batch) if totals is None else totals)["images"]
        image = self._seen(large, batch["key"])
        values: dict[str, Tensor] = {}
        if self.feature is None:
            pred = self.student(image).float()
        else:
            pred, tokens = self.student.forward_features(image)
            pred = pred.float()
            frozen = tokens_of(self.frozen["encoder"], image)
            differing = self.feature.loss(self.projection(tokens), frozen)
            values[self.feature.name] = share(differing, images)
        target, valid = self._labels(teacher, image)
        for term in self.shared:
            values[term.name] = share(term.loss(pred, target, valid), images)
        if self.local is not None:
            per_sample = self._parts(self.local, teacher, large, pred, draw)
            values[self.local.term.name] = share(per_sample, images)
        return report(values, self.terms, pred, images)

    def _lot(self, draw: torch.Generator) -> int:
        """Which teacher this batch has; section 3, 7 : 3 there."""
        chances = torch.tensor(self.chances, dtype=torch.float64)
        return int(torch.multinomial(chances, 1, generator=draw))

    def _seen(self, large: Tensor, key: Sequence[str]) -> Float[Tensor, "b 3 s s"]:
        height, width = large.shape[-2:]
        if height != width or height % self.size:
            raise ValueError(
                f"{key[0]}: {height} x {width} pixels; cross-context needs squares whose side is a "
                f"multiple of {self.size}, such as {2 * self.size}"
            )
        return _resized(large, self.size)

    def _labels(
        self, teacher: nn.Module, image: Float[Tensor, "b 3 s s"]
    ) -> tuple[Float[Tensor, "b s s"], Bool[Tensor, "b s s"]]:
        """What a teacher says, in the student's space, and where it is a number."""
        with torch.no_grad():
            found = cast(Tensor, teacher(image)).float()
        source = cast(Student, teacher).space
        return to_space(
            found, torch.isfinite(found), None, source=source, target=self.student.space
        )

    def _parts(
        self,
        local: LocalCrops,
        teacher: nn.Module,
        large: Float[Tensor, "b 3 h w"],
        pred: Float[Tensor, "b s s"],
        draw: torch.Generator,
    ) -> Float[Tensor, " b"]:
        """The mean loss over the parts; section 3."""
        zoom = large.shape[-1] // self.size
        low, high = (round(share_ * self.size) for share_ in local.side)
        side = low + int(torch.randint(high - low + 1, (1,), generator=draw))
        losses: list[Tensor] = []
        for _ in range(local.count):
            corners = torch.randint(self.size - side + 1, (len(large), 2), generator=draw).tolist()
            seen = _resized(_cut(large, corners, side, zoom), self.size)
            target, valid = self._labels(teacher, seen)
            mine = _cut(pred[:, None], corners, side, 1)[:, 0]
            losses.append(local.term.loss(mine, *_reduced(target, valid, side)))
        return torch.stack(losses).mean(0)


def _cut(
    maps: Float[Tensor, "b c h w"], corners: Sequence[Sequence[int]], side: int, zoom: int
) -> Float[Tensor, "b c s s"]:
    """A square of each map; corners and side in units of `zoom` pixels."""
    length = side * zoom
    return torch.stack(
        [
            map_[:, top * zoom : top * zoom + length, left * zoom : left * zoom + length]
            for map_, (top, left) in zip(maps, corners, strict=True)
        ]
    )


def _reduced(
    target: Float[Tensor, "b s s"], valid: Bool[Tensor, "b s s"], side: int
) -> tuple[Float[Tensor, "b t t"], Bool[Tensor, "b t t"]]:
    """The teacher's map of a part on the student's pixels; invalid where anything in it is."""
    values = _resized(torch.where(valid, target, 0.0)[:, None], side)[:, 0]
    whole = _resized(valid[:, None].float(), side)[:, 0] > 1 - 1e-4
    return torch.where(whole, values, torch.nan), whole


def _resized(maps: Float[Tensor, "b c h w"], side: int) -> Float[Tensor, "b c s s"]:
    """Averaged where they shrink, linear between pixels where they grow."""
    if maps.shape[-1] == side:
        return maps
    return interpolate(maps, (side, side), mode="bilinear", align_corners=False, antialias=True)
