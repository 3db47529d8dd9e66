"""Learning from measured or rendered truth: the teacher's objective, and metric fine-tuning."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from distill import alignment
from distill.objectives.terms import (
    Student,
    Term,
    check_names,
    report,
    share,
    targets,
    usable,
    votes,
)
from distill.types import Batch


class Supervised(nn.Module):
    """The weighted sum of `terms` between the student's output and the truth in its space.

    Depth Anything V2 section 7.1 with affine-invariant 1 and gradient matching 2; metric
    fine-tuning with SILog.

    Args:
        student: builds the network; it declares its `space`.
        terms: losses of (pred, target, valid).
        by_pixels: samples weigh in the mean as they have valid pixels, instead of equally.

    Raises:
        ValueError: no terms, or two of one name.
    """

    def __init__(
        self, student: Callable[[], Student], terms: Sequence[Term], *, by_pixels: bool = False
    ) -> None:
        super().__init__()
        check_names(terms)
        self.by_pixels = by_pixels
        self.student: Student = student()
        self.terms = tuple(terms)

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """What is trained, by the name its learning rate goes by."""
        return self.student.parameter_groups()

    def counts(self, batch: Batch) -> dict[str, Float[Tensor, ""]]:
        """How many samples, or pixels, the mean of this batch runs over."""
        target, valid = targets(batch, self.student.space)
        samples = usable(target, valid, self.student.space)
        samples = votes(valid, samples, by_pixels=self.by_pixels).sum()
        return {"samples": samples, "images": torch.ones_like(samples) * len(batch["key"])}

    @alignment.computed_once()
    def forward(
        self, batch: Batch, totals: dict[str, Tensor] | None = None
    ) -> dict[str, Float[Tensor, ""]]:
        """This batch's share of the loss and of each term.

        Args:
            batch: labelled samples.
            totals: `counts` summed over the update; this batch's own when None.
        """
        space = self.student.space
        target, valid = targets(batch, space)
        samples = usable(target, valid, space)
        totals = self.counts(batch) if totals is None else totals
        pred = self.student(batch["image"]).float()
        weight = votes(valid, samples, by_pixels=self.by_pixels)
        values = {
            term.name: share(weight * term.loss(pred, target, valid), totals["samples"])
            for term in self.terms
        }
        return report(values, self.terms, pred, totals["images"])
