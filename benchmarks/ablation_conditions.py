"""The conditions of `benchmarks.ablations`: the demo's student, one thing changed in each."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate

from distill.datasets.pseudo_labelled import PseudoLabelled
from distill.loading import Transform
from distill.objectives.terms import Term
from distill.shuffle import permuted
from distill.transforms import resize_and_crop
from distill.types import Dataset, Sample
from recipes import demo

QUESTIONS = {
    "A": "Rendered truth, pseudo-labels, or both (V2 table 5)",
    "B": "One part of the student's recipe changed at a time (V1 tables 9 and 13, V2 section 5.2)",
    "C": "The size of the teacher that labels (V2 section 3)",
    "D": "The number of labelled photographs (V2 section 4, table 11)",
    "E": "Wrong labels, and what the 10 % drop does about them (V2 section 5.2)",
}
CROPPED = partial(resize_and_crop, size=demo.SIZE, multiple=8)
_WRONG = 10  # one label, or one pixel of each label, in so many


def perturbed(sample: Sample, rng: np.random.Generator) -> Sample:
    """As the demo makes every sample."""
    return demo.PERTURB(CROPPED(sample, rng), rng)


@dataclass(frozen=True, kw_only=True)
class Condition:
    """How a student differs from `pseudo`, which is the demo's.

    Attributes:
        question: a key of `QUESTIONS`.
        differs: from `against`, in words.
        against: the condition that it is compared with.
        paper: what the papers found it to be, "better" or "worse" than `against`; None: nothing
            that these metrics would show.
        data: what is learned from: the photographs' labels, the rendered truth, or both.
        teacher: whose labels.
        share: of the photographs.
        spoil: makes labels wrong.
        transform: of each sample.
        terms: of the loss.
        mixes: whether with CutMix.
        aligns: whether with feature alignment.
        starts: whether from the encoder that features are compared with.
    """

    question: str
    differs: str
    against: str = "pseudo"
    paper: Literal["better", "worse"] | None = None
    data: Literal["labels", "truth", "both"] = "labels"
    teacher: str = "teacher"
    share: float = 1.0
    spoil: "Spoil | None" = None
    transform: Transform = perturbed
    terms: tuple[Term, ...] = demo.TRIMMED
    mixes: bool = False
    aligns: bool = False
    starts: bool = False

    @property
    def teachers(self) -> set[str]:
        """Which must be there before; whether they label or not."""
        labelling = {self.teacher} if self.data != "truth" else set()
        return labelling | ({"small"} if self.aligns or self.starts else set())


Spoil = Callable[["Noisy", int], Sample]


class Noisy(PseudoLabelled):
    """Labels some of which are wrong, the same ones at every reading."""

    def __init__(self, images: Dataset, store: Path, spoil: Spoil) -> None:
        super().__init__(images, store)
        self._spoil = spoil

    def __getitem__(self, index: int) -> Sample:
        """Read image and label, and spoil the label."""
        return self._spoil(self, index)

    def clean(self, index: int) -> Sample:
        """As the teacher said it."""
        return super().__getitem__(index)


def swapped(labels: Noisy, index: int) -> Sample:
    """One label in ten is that of the photograph half the set away."""
    sample = labels.clean(index)
    if permuted(index, len(labels), 0) % _WRONG:
        return sample
    other = labels.clean((index + len(labels) // 2) % len(labels))
    assert sample.target is not None
    assert other.target is not None
    size = tuple(sample.target.shape)
    return _labelled(sample, interpolate(other.target[None, None], size, mode="bilinear")[0, 0])


def speckled(labels: Noisy, index: int) -> Sample:
    """One pixel in ten is drawn uniformly from three times the label's range."""
    sample, rng = labels.clean(index), np.random.default_rng(index)
    assert sample.target is not None
    low, high = float(sample.target.min()), float(sample.target.max())
    size = tuple(sample.target.shape)
    where = torch.from_numpy(rng.random(size) < 1 / _WRONG)
    drawn = torch.from_numpy(rng.uniform(2 * low - high, 2 * high - low, size)).float()
    return _labelled(sample, torch.where(where, drawn, sample.target))


def _labelled(sample: Sample, target: Float[Tensor, "h w"]) -> Sample:
    assert sample.valid is not None
    valid = sample.valid & target.isfinite()
    return replace(sample, target=torch.where(valid, target, torch.nan), valid=valid)


CONDITIONS = {
    "pseudo": Condition(question="A", differs="the demo's student: the teacher's labels alone"),
    "truth": Condition(question="A", differs="rendered truth alone", data="truth", paper="worse"),
    "both": Condition(
        question="A", differs="truth and labels, 1:2 as in V1", data="both", paper="worse"
    ),
    "no drop": Condition(
        question="B", differs="the 10 % largest losses stay", terms=demo.TERMS, paper="worse"
    ),
    "no gradient": Condition(question="B", differs="no gradient matching", terms=demo.TRIMMED[:1]),
    "no perturbation": Condition(
        question="B", differs="no colour, no blur", transform=CROPPED, paper="worse"
    ),
    "cutmix": Condition(question="B", differs="CutMix too", mixes=True, paper="better"),
    "features": Condition(
        question="B",
        differs="feature alignment too, with the encoder of the small teacher, not DINOv2",
        aligns=True,
        paper="better",
    ),
    "started": Condition(
        question="B", differs="its encoder starts as that of the small teacher", starts=True
    ),
    "started, features": Condition(
        question="B",
        differs="feature alignment too, with the encoder that it started from",
        against="started",
        starts=True,
        aligns=True,
        paper="better",
    ),
    "small teacher": Condition(
        question="C", differs="labels of a teacher of its own size", teacher="small", paper="worse"
    ),
    "large teacher": Condition(
        question="C", differs="labels of a larger teacher", teacher="large", paper="better"
    ),
    "1/2": Condition(question="D", differs="half of the photographs", share=0.5, paper="worse"),
    "1/4": Condition(question="D", differs="a quarter of them", share=0.25, paper="worse"),
    "swapped": Condition(
        question="E", differs="1 label in 10 is another's", spoil=swapped, paper="worse"
    ),
    "swapped, no drop": Condition(
        question="E",
        differs="the 10 % largest losses stay",
        against="swapped",
        spoil=swapped,
        terms=demo.TERMS,
        paper="worse",
    ),
    "speckled": Condition(
        question="E", differs="1 pixel in 10 is wrong", spoil=speckled, paper="worse"
    ),
    "speckled, no drop": Condition(
        question="E",
        differs="the 10 % largest losses stay",
        against="speckled",
        spoil=speckled,
        terms=demo.TERMS,
        paper="worse",
    ),
}
