"""Learning from pseudo-labels, alone (Depth Anything V2) or beside truth (V1)."""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from distill import alignment
from distill.objectives.features import projection, tokens_of, with_projection
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
from distill.perturb import CutMix
from distill.types import Batch, Space


class Distillation(nn.Module):
    """The weighted sum of losses against pseudo-labels, truth and a frozen encoder's features.

    V2 section 5.2: `terms` and `feature` over pseudo-labels alone. V1 section 3.3: labelled
    samples in the same batch, each part a mean of its own, every weight 1/3; labelled images stay
    out of CutMix. Without `labelled_terms` all samples are treated alike, as pseudo-labelled ones:
    truth in place of labels is then the only difference between two runs.

    With CutMix each pseudo-labelled sample has two regions whose normalisation and trimming are
    their own; its loss is their mean weighted by area (V1 section 3.2). A region that says too
    little is dropped and the weights are renormalised.

    Args:
        student: builds the network; it declares its `space` and, for `feature`, its tokens.
        terms: losses of (pred, target, valid) on pseudo-labelled samples.
        labelled_terms: the same on labelled samples, if they are to be treated apart.
        perturb: `perturb.cutmix`.
        feature: a loss of (student's tokens, frozen tokens) on pseudo-labelled samples.
        frozen: builds the encoder that `feature` compares with; it sees the student's tensor.
        min_confidence: pixels of pseudo-labels that are less sure are not learned from.
        weighted: pixels of pseudo-labels weigh in `terms` as they are sure (`weight=` of a loss).
        by_pixels: samples weigh in each mean as they have valid pixels, instead of equally.

    Raises:
        ValueError: no terms, two of one name, one of `feature` and `frozen` without the other,
            `min_confidence` outside [0, 1], or a loss that cannot be `weighted`. Later, of a batch:
            confidence is asked for and the labels have none.
    """

    def __init__(
        self,
        student: Callable[[], Student],
        terms: Sequence[Term],
        *,
        labelled_terms: Sequence[Term] = (),
        perturb: Callable[[Tensor, torch.Generator], CutMix] | None = None,
        feature: Term | None = None,
        frozen: Callable[[], nn.Module] | None = None,
        min_confidence: float = 0.0,
        weighted: bool = False,
        by_pixels: bool = False,
    ) -> None:
        super().__init__()
        if (feature is None) != (frozen is None):
            raise ValueError("feature and frozen go together: give the term and its encoder")
        self.pseudo_terms, self.labelled_terms = tuple(terms), tuple(labelled_terms)
        self.feature, self.perturb = feature, perturb
        self.min_confidence, self.weighted, self.by_pixels = min_confidence, weighted, by_pixels
        _check_confidence(min_confidence, self.pseudo_terms if weighted else ())
        self.terms = (*terms, *labelled_terms, *([feature] if feature else []))
        check_names(self.terms)
        self.student: Student = student()
        self.frozen = frozen().eval().requires_grad_(False) if frozen else None
        self.projection = projection(self.student, self.frozen) if self.frozen else nn.Identity()

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """What is trained, by the name its learning rate goes by; a projection is as new as a head.

        Raises:
            ValueError: a projection is needed and the student has no group "head".
        """
        return with_projection(self.student.parameter_groups(), self.projection)

    def train(self, mode: bool = True) -> "Distillation":
        """As any module, but the frozen encoder stays as it is."""
        super().train(mode)
        if self.frozen is not None:
            self.frozen.eval()
        return self

    def counts(self, batch: Batch) -> dict[str, Float[Tensor, ""]]:
        """How many samples each mean of this batch runs over."""
        return self._count(self._view(batch))

    @alignment.computed_once()
    def forward(
        self, batch: Batch, totals: dict[str, Tensor] | None = None
    ) -> dict[str, Float[Tensor, ""]]:
        """This batch's share of the loss and of each term.

        Args:
            batch: samples with targets; with `perturb` its `seed`, from which boxes are drawn.
            totals: `counts` summed over the update; this batch's own when None.
        """
        view = self._view(batch)
        totals = self._count(view) if totals is None else totals
        if self.feature is None or self.frozen is None:
            pred, values = self.student(view.image).float(), {}
        else:
            pred, tokens = self.student.forward_features(view.image)
            pred = pred.float()
            frozen = tokens_of(self.frozen, view.image[view.pseudo])
            differing = self.feature.loss(self.projection(tokens[view.pseudo]), frozen)
            values = {self.feature.name: share(differing, totals["pseudo_images"])}
        pseudo, labelled = self._votes(view)
        mine, theirs = pred[view.pseudo], pred[view.labelled]
        for term in self.pseudo_terms:
            per_sample = _over_regions(term, mine, view)
            values[term.name] = share(pseudo * per_sample, totals["pseudo"])
        for term in self.labelled_terms:
            per_sample = term.loss(theirs, view.truth, view.known)
            values[term.name] = share(labelled * per_sample, totals["labelled"])
        return report(values, self.terms, pred, totals["images"])

    def _view(self, batch: Batch) -> "_View":
        """What the student sees and the labels that belong to it."""
        image, space = batch["image"], self.student.space
        target, valid = targets(batch, space)
        pseudo, labelled = self._parts(batch)
        sure = self._confidence(batch, pseudo)
        if sure is not None:
            valid[pseudo] &= (sure >= self.min_confidence) & (sure > 0)
        parts = [torch.ones_like(valid[pseudo])]
        if self.perturb is not None and len(parts[0]) > 0:
            assert "seed" in batch, "CutMix draws its boxes from the batch's seed"
            mixed = self.perturb(image[pseudo], torch.Generator().manual_seed(batch["seed"]))
            inside = mixed.mask
            whole = isinstance(pseudo, slice)
            image = mixed.image if whole else image.index_copy(0, pseudo, mixed.image)
            for map_ in (target, valid):
                own = map_[pseudo]
                map_[pseudo] = torch.where(inside, own[mixed.partner], own)
            if sure is not None:
                sure = torch.where(inside, sure[mixed.partner], sure)
            if mixed.boxes:
                parts = [inside, ~inside]
        label, truth, known = target[pseudo], target[labelled], valid[labelled]
        regions = [_region(label, valid[pseudo] & of, of, space) for of in parts]
        keep = usable(truth, known, space)
        weight = sure if self.weighted else None
        return _View(image, pseudo, label, regions, weight, labelled, truth, known, keep)

    def _confidence(self, batch: Batch, pseudo: "_Samples") -> Float[Tensor, "p h w"] | None:
        """Of the pseudo-labels, where it is used."""
        count = len(batch["key"]) if isinstance(pseudo, slice) else len(pseudo)
        if not (self.weighted or self.min_confidence) or not count:
            return None
        if "confidence" not in batch:
            first = 0 if isinstance(pseudo, slice) else int(pseudo[0])
            raise ValueError(
                f"{batch['key'][first]}: its label has no confidence to choose or weigh "
                "pixels by; label with a strategy that compares (recipes.labels:flip, :council), "
                "or learn with min_confidence=0 and weighted=False"
            )
        return batch["confidence"][pseudo]

    def _parts(self, batch: Batch) -> "tuple[_Samples, _Samples]":
        """Where pseudo-labelled and labelled samples stand; slices, which copy nothing, of all."""
        flags = batch["labelled"] if self.labelled_terms and "labelled" in batch else []
        if not any(flags):
            return slice(None), slice(0, 0)
        pseudo, labelled = (
            torch.tensor([n for n, flag in enumerate(flags) if flag is truth], dtype=torch.int64)
            for truth in (False, True)
        )
        device = batch["image"].device
        return pseudo.to(device, non_blocking=True), labelled.to(device, non_blocking=True)

    def _votes(self, view: "_View") -> tuple[Float[Tensor, " p"], Float[Tensor, " l"]]:
        """How much each pseudo-labelled and each labelled sample weighs."""
        parts = [votes(r.valid, r.weight > 0, by_pixels=self.by_pixels) for r in view.regions]
        pseudo = torch.stack(parts).sum(0)
        if not self.by_pixels:  # a sample of two regions is one sample
            pseudo = pseudo.clamp(max=1)
        return pseudo, votes(view.known, view.keep, by_pixels=self.by_pixels)

    def _count(self, view: "_View") -> dict[str, Tensor]:
        pseudo, labelled = self._votes(view)
        ones = view.label.new_ones(())
        return {
            "pseudo": pseudo.sum(),
            "labelled": labelled.sum(),
            "pseudo_images": ones * len(view.label),
            "images": ones * len(view.image),
        }


_Samples = slice | Int64[Tensor, "_"]


@dataclass(frozen=True)
class _Region:
    """A part of each pseudo-labelled sample: its valid pixels, and its area or 0 when useless."""

    valid: Bool[Tensor, "p h w"]
    weight: Float[Tensor, " p"]


@dataclass(frozen=True)
class _View:
    image: Float[Tensor, "b 3 h w"]
    pseudo: _Samples
    label: Float[Tensor, "p h w"]
    regions: Sequence[_Region]
    weight: Float[Tensor, "p h w"] | None
    labelled: _Samples
    truth: Float[Tensor, "l h w"]
    known: Bool[Tensor, "l h w"]
    keep: Bool[Tensor, " l"]


def _region(
    label: Float[Tensor, "p h w"],
    valid: Bool[Tensor, "p h w"],
    where: Bool[Tensor, "p h w"],
    space: Space,
) -> _Region:
    return _Region(valid, where.flatten(1).float().mean(1) * usable(label, valid, space))


def _over_regions(term: Term, pred: Float[Tensor, "p h w"], view: _View) -> Float[Tensor, " p"]:
    """The mean of the regions' losses, weighted by area; V1 section 3.2."""
    target = view.label
    if view.weight is None:
        losses = [term.loss(pred, target, region.valid) for region in view.regions]
    else:
        losses = [term.loss(pred, target, r.valid, weight=view.weight) for r in view.regions]
    weights = [region.weight for region in view.regions]
    total = torch.stack(weights).sum(0)
    summed = torch.stack([loss * weight for loss, weight in zip(losses, weights, strict=True)])
    return summed.sum(0) / torch.where(total > 0, total, torch.ones_like(total))


def _check_confidence(least: float, weighted: Sequence[Term]) -> None:
    if not 0 <= least <= 1:
        raise ValueError(f"min_confidence is {least}; it must lie in [0, 1]")
    for term in weighted:
        if "weight" not in inspect.signature(term.loss).parameters:
            raise ValueError(f"term {term.name}: its loss takes no weight; learn unweighted")
