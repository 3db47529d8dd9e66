"""The numbers that the recipes of Depth Anything share, each with its source.

V1 and V2 are Yang et al. 2024a and 2024b, DAD is Distill-Any-Depth (He et al. 2025); "issue n" is
an answer of the first author in the tracker of that version's code. Behind a source stands what
else has been done or read: where papers and authors contradict each other, or are silent, a recipe
takes the reading that comes first. A recipe fills these with its own values; on the command line
each is set by its name.

Left out, as no loss could tell: targets brought to 0 ... 1 (V1 section 3.1) before median and
deviation are taken out of them. `ls_mse` and `ls_mae` do bring them there.
"""

from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Literal

import numpy as np

from distill.alignment import least_squares_difference, normalised_difference
from distill.losses.affine_invariant import affine_invariant
from distill.losses.feature_alignment import feature_alignment
from distill.losses.gradient_matching import gradient_matching
from distill.models.dinov2 import FrozenDinov2
from distill.objectives.terms import Term
from distill.optim import adamw, polynomial
from distill.perturb import Perturbation, cutmix
from distill.transforms import resize_and_crop
from distill.types import Sample


@dataclass(frozen=True, kw_only=True)
class Length:
    """How much is learned from, where the authors count steps."""

    batch_size: Annotated[int, "V2 section 7.1: teachers 64, students 192; DAD section 4: 8"]
    steps: Annotated[int, "V2 section 7.1: teachers 160K, students 480K; DAD section 4: 20K"]


@dataclass(frozen=True, kw_only=True)
class Passes:
    """How much is learned from, where the authors count passes over the data."""

    batch_size: Annotated[
        int, "V1: unknown, V2's; metric: 4 on each of 8 GPUs", "metric train.py: 2"
    ]
    passes: Annotated[
        float,
        "V1 section 4.1: teacher 20, students 1; metric: dist_train.sh 120",
        "metric train.py: 40",
    ]
    images: Annotated[int, "V1 table 1; metric: lists of Hypersim and the released code"]

    def steps(self, share: float = 1.0) -> int:
        """Updates until all `images`, this share of each batch, were seen so often."""
        return max(1, round(self.passes * self.images / (share * self.batch_size)))


@dataclass(frozen=True, kw_only=True)
class Crop:
    """What the network sees of an image; called with a sample and a generator."""

    size: Annotated[int, "V1 supplement, V2 section 7.1: short side and crop"] = 518
    flip: Annotated[
        float, "V1 section 4.1: labelled images too", "metric: whole batches at once"
    ] = 0.5

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """A random square."""
        return resize_and_crop(sample, rng, size=self.size, flip=self.flip)


@dataclass(frozen=True, kw_only=True)
class Descent:
    """How the weights move."""

    encoder_rate: Annotated[float, "V1 section 4.1, V2 section 7.1"] = 5e-6
    head_rate: Annotated[float, "V1 section 4.1, V2 section 7.1, DAD section 4"] = 5e-5
    power: Annotated[
        float,
        "V1 section 4.1: linear, 1; V2: silent, 0.9 in its author's scripts",
        "1: linear; 0: constant",
    ] = 0.9
    warmup: Annotated[
        int, "none in papers and scripts", "a new head at ten times the rate may need it"
    ] = 0
    weight_decay: Annotated[
        float, "V1 section 4.1: AdamW; 0.01 in released scripts", "0: V2 section 7.1 says Adam"
    ] = 0.01
    betas: Annotated[tuple[float, float], "released scripts"] = (0.9, 0.999)
    max_grad_norm: Annotated[float | None, "none in papers and scripts", "1"] = None
    precision: Annotated[
        Literal["bf16", "fp32"], "ours; papers are silent", "fp32: released metric code"
    ] = "bf16"
    ema: Annotated[float | None, "none in papers and scripts", "0.999"] = None

    def fields(self) -> dict[str, Any]:
        """Of a `TrainJob`."""
        rates = {"encoder": self.encoder_rate, "head": self.head_rate}
        return {
            "lr": partial(polynomial, rates=rates, power=self.power, warmup=self.warmup),
            "optimizer": partial(adamw, weight_decay=self.weight_decay, betas=self.betas),
            "max_grad_norm": self.max_grad_norm,
            "precision": self.precision,
            "ema": self.ema,
        }


@dataclass(frozen=True, kw_only=True)
class Relative:
    """Losses up to scale and shift."""

    ssi: Annotated[
        Literal["mad_mae", "ls_mse", "ls_mae"],
        "V1 section 3.1, for V2 too: V2 issue 207",
        "ls_mse: the gist of V2 issue 137; ls_mae: V1 metric_depth, unused there",
    ] = "mad_mae"
    affine: Annotated[
        float,
        "V2 section 7.1: 1 (to 2); V1 section 3.3: 1/3",
        "half of it: Ranftl et al. 2020 and the gist divide by two",
    ] = 1.0
    trim: Annotated[
        float,
        "V2 section 5.2: 0.1 on pseudo-labels, as in V1, whose paper is silent",
        "0: nothing is left out",
    ] = 0.0
    trim_region: Annotated[
        int, "V2 issue 108: pixels, 1", "V2 section 5.2 says regions: 14 is a patch"
    ] = 1
    trim_mean: Annotated[
        Literal["kept", "valid"], "V2 issue 108", "valid: Ranftl et al. 2020 divide by all"
    ] = "kept"
    gradient: Annotated[
        float,
        "V2 section 7.1, students: V1 issue 198; V1: silent, 0",
        "0.5: Ranftl et al. 2020; V2 appendix B.7 tried 0.5 to 4",
    ] = 2.0
    scales: Annotated[int, "Ranftl et al. 2020"] = 4
    trim_gradient: Annotated[
        bool, "V2 issue 108 trims the data term alone", "true: no edge of what is left out"
    ] = False
    reduction: Annotated[
        Literal["images", "pixels"],
        "V1 section 3.1 defines the loss of an image",
        "pixels: the gist's default, one mean over the pixels of a batch",
    ] = "images"

    def terms(self) -> tuple[Term, ...]:
        """Of pseudo-labels, or of the only labels there are."""
        shape = {"trim": self.trim, "region": self.trim_region}
        data = partial(self._data, divide_by=self.trim_mean, **shape)
        edges = partial(self._edges, **shape) if self.trim_gradient else self._edges
        return self._weighted(("affine", self.affine, data), ("gradient", self.gradient, edges))

    def labelled_terms(self, weight: float) -> tuple[Term, ...]:
        """Of truth beside pseudo-labels: nothing is left out."""
        edges = ("labelled_gradient", self.gradient, self._edges)
        return self._weighted(("labelled", weight, self._data), edges)

    @property
    def _difference(self) -> Any:
        return normalised_difference if self.ssi == "mad_mae" else least_squares_difference

    @property
    def _data(self) -> partial[Any]:
        squared = self.ssi == "ls_mse"
        return partial(affine_invariant, difference=self._difference, squared=squared)

    @property
    def _edges(self) -> partial[Any]:
        return partial(gradient_matching, scales=self.scales, difference=self._difference)

    @staticmethod
    def _weighted(*terms: tuple[str, float, Any]) -> tuple[Term, ...]:
        return tuple(Term(*term) for term in terms if term[1] > 0)


@dataclass(frozen=True, kw_only=True)
class Features:
    """Alignment with the tokens of the frozen encoder that the student starts from.

    It sees what the student sees, colours and CutMix included, as V1 figure 2 draws it: in a clean
    image a token inside a box would be another image's.
    """

    feature: Annotated[
        float,
        "V1 section 3.3: students 1/3; V2 section 5.2, of weight 1 in DAD section 4",
        "0: V1 issue 198 and V2 issue 137 name two losses; V2 issue 324 asks of teachers",
    ] = 0.0
    tolerance: Annotated[
        float, "V1 issue 80: skipped where 1 - cosine is less; alpha 0.85", "V1 table 12: 0 to 0.3"
    ] = 0.15
    feature_mean: Annotated[
        Literal["kept", "all"], "V1: silent", "all: skipped tokens count as 0"
    ] = "kept"

    def term(self) -> Term | None:
        """None without weight."""
        loss = partial(feature_alignment, tolerance=self.tolerance, divide_by=self.feature_mean)
        return Term("feature", self.feature, loss) if self.feature > 0 else None

    def frozen(self, dinov2: str | None) -> partial[FrozenDinov2] | None:
        """Builds the encoder that is compared with; None without weight.

        Raises:
            ValueError: it is needed and `dinov2` is None.
        """
        if self.feature <= 0:
            return None
        if dinov2 is None:
            raise ValueError("feature alignment needs dinov2; learn from scratch with feature=0")
        return partial(FrozenDinov2, dinov2)


@dataclass(frozen=True, kw_only=True)
class Perturbed:
    """What makes a pseudo-labelled image harder than its teacher's."""

    perturb: Annotated[
        bool | None,
        "V1 section 3.2; V2 keeps it (issue 207), not necessary for S and B",
        "false leaves colour, blur and CutMix out",
    ] = True
    cutmix_p: Annotated[float, "V1 section 3.2"] = 0.5
    cutmix_area: Annotated[tuple[float, float], "UniMatch, named in V1 issue 240"] = (0.02, 0.4)
    cutmix_ratio: Annotated[float, "UniMatch, named in V1 issue 240"] = 0.3
    colour: Perturbation

    def boxes(self) -> Any:
        """What `Distillation` takes for `perturb`."""
        numbers = {"p": self.cutmix_p, "area": self.cutmix_area, "ratio": self.cutmix_ratio}
        return partial(cutmix, **numbers) if self.perturb else None
