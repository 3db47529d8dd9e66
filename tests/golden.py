"""Twenty updates of every objective, whose numbers are kept: `tests/golden/*.json`.

`python tests/golden.py` writes them again. A change that moves one says so in its commit, with the
numbers before and after; `python tests/golden.py --rounding` says how far rounding moves them.

Rounding must not grow, or no tolerance fits two processors. It grew by up to a million for three
reasons. A fresh head's map varies by 0.6 % around its mean; what the losses normalise it to is then
rounded 200 times as coarsely, and pixels change sides at medians, signs and thresholds. Adam takes
a full step where a gradient is rounding alone. And one median that moves to another pixel turns
the gradient by up to 10 %, which long steps make much of. So students start with more contrast,
Adam's steps are in proportion to gradients below `EPSILON`, which is nearly all of them, and short.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from runs import rows
from scenes import nearest, pinhole, plane, sphere
from torch import nn
from transformers import Dinov2Config, Dinov2Model

from distill.loading import Batches, Mixture, batches
from distill.losses.affine_invariant import affine_invariant
from distill.losses.feature_alignment import feature_alignment
from distill.losses.gradient_matching import gradient_matching
from distill.losses.silog import silog
from distill.models.depth_anything import DepthAnything, depth_anything
from distill.models.dinov2 import FrozenDinov2
from distill.objectives.cross_context import CrossContext, LocalCrops
from distill.objectives.distillation import Distillation
from distill.objectives.supervised import Supervised
from distill.objectives.terms import Term
from distill.optim import adamw, polynomial
from distill.perturb import Perturbation, cutmix
from distill.train import TrainJob
from distill.transforms import resize_and_crop
from distill.types import Sample, Space

FOLDER = Path(__file__).parent / "golden"
STEPS, SIZE = 20, 32
CONTRAST, LEVEL, EPSILON = 50.0, 3.0, 0.1


@dataclass
class Scenes:
    """Balls before walls, metric and sky around them; or as a teacher labels them."""

    name: str
    labelled: bool
    length: int = 12

    def __len__(self) -> int:
        return self.length

    def key(self, index: int) -> str:
        return f"{self.name}/{index:02d}"

    def __getitem__(self, index: int) -> Sample:
        x, y, z = np.random.default_rng((index, self.labelled)).uniform(-1, 1, 3).tolist()
        K = pinhole(40, 48)
        wall = plane(40, 48, K, normal=(0.4 * x, 0.5 * y - 0.6, -1.0), distance=6.0 + z)
        scene = nearest(sphere(40, 48, K, centre=(x, y, 3.0 + z), radius=0.8), wall)
        texture = 0.25 * (1 + (9 * scene.points[:2].sum(0)).sin().nan_to_num(0.0))
        target = scene.depth if self.labelled else 3 / scene.depth + 0.1 * scene.image[1]
        valid = scene.valid & (scene.image[0] > 0.15)
        return Sample(
            key=self.key(index),
            image=(0.5 * scene.image + texture).float(),
            target=torch.where(valid, target, torch.nan).float(),
            valid=valid,
            far=~scene.valid if self.labelled else None,
            space=Space.METRIC_DEPTH if self.labelled else Space.AFFINE_DISPARITY,
            pseudo_label=not self.labelled,
        )


def drawn(kinds: Sequence[bool], size: int, **where: Any) -> Batches:
    """Scenes of these kinds, in equal shares, perturbed as a student sees them."""
    sets = [(Scenes("labelled" if kind else "photos", kind), 1.0) for kind in kinds]
    return batches(Mixture(sets), transform=partial(_perturbed, size=size), **where)


def _perturbed(sample: Sample, rng: np.random.Generator, *, size: int) -> Sample:
    return Perturbation()(resize_and_crop(sample, rng, size=size, multiple=8), rng)


def student(size: str, **shape: Any) -> DepthAnything:
    """From scratch, of disparity that varies by an eighth of its mean and stays above 0."""
    made = depth_anything(size, **shape)
    last = cast(Any, made.network.head).conv3
    with torch.no_grad():
        last.weight.mul_(CONTRAST)
        last.bias.fill_(LEVEL)
    return made


def encoder(folder: Path) -> FrozenDinov2:
    """A DINOv2 of random weights, of other width than the student."""
    config = Dinov2Config(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, patch_size=8, image_size=SIZE
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)  # noqa: TID251 - the fork ends with the block
        Dinov2Model(config).save_pretrained(folder)
    return FrozenDinov2(folder)


def _terms(suffix: str = "", **more: Any) -> list[Term]:
    affine = partial(affine_invariant, **more)
    return [
        Term(f"affine{suffix}", 1.0, affine),
        Term(f"gradient{suffix}", 2.0, gradient_matching),
    ]


def _v1(folder: Path) -> nn.Module:
    return Distillation(
        partial(student, "tiny", version=1),
        [Term("affine", 1 / 3, affine_invariant)],
        labelled_terms=[Term("labelled", 1 / 3, affine_invariant)],
        perturb=cutmix,
        feature=Term("feature", 1 / 3, partial(feature_alignment, tolerance=0.15)),
        frozen=partial(encoder, folder),
    )


def _cross_context(folder: Path) -> nn.Module:
    return CrossContext(
        partial(student, "tiny"),
        [partial(student, "tiny"), partial(student, "tiny_teacher")],
        _terms(),
        size=SIZE,
        local=LocalCrops(term=Term("local", 1.0, affine_invariant)),
        chances=(0.7, 0.3),
        feature=Term("feature", 0.5, feature_alignment),
        encoder=partial(encoder, folder),
    )


METRIC = partial(depth_anything, "tiny", max_depth=20.0)
OBJECTIVES: dict[str, tuple[Callable[[Path], nn.Module], Callable[..., Batches]]] = {
    "supervised": (
        lambda _: Supervised(partial(student, "tiny"), _terms()),
        partial(drawn, [True], SIZE),
    ),
    "supervised_metric": (
        lambda _: Supervised(METRIC, [Term("silog", 1.0, silog)]),
        partial(drawn, [True], SIZE),
    ),
    "distillation_v1": (_v1, partial(drawn, [True, False], SIZE)),
    "distillation_v2": (
        lambda _: Distillation(partial(student, "tiny"), _terms(trim=0.1)),
        partial(drawn, [False], SIZE),
    ),
    "cross_context": (_cross_context, partial(drawn, [False], 2 * SIZE)),
}


def curve(name: str, **changes: Any) -> dict[str, list[float]]:
    """Every number of every update, by its name."""
    objective, open_ = OBJECTIVES[name]
    with tempfile.TemporaryDirectory() as temporary:
        made = TrainJob(
            objective=partial(objective, Path(temporary) / "encoder"),
            batches=open_,
            batch_size=4,
            steps=STEPS,
            lr=partial(polynomial, rates={"encoder": 5e-6, "head": 5e-5}),
            optimizer=gentle,
            precision="fp32",
            threads=1,
            workers=0,
            log_every=1,
        )
        replace(made, **changes).run(Path(temporary) / "run")
        found = [row for row in rows(Path(temporary) / "run") if "loss" in row]
    names = [key for key in found[0] if key not in {"step", "drift"} and "/" not in key]
    return {key: [row[key] for row in found] for key in names}


def difference(ours: dict[str, list[float]], theirs: dict[str, list[float]]) -> float:
    """The largest, as a share of the largest size of that number.

    Of the gradient's norm it is the median over the updates: a median pixel that is another one
    changes a single norm by several per cent.
    """
    assert ours.keys() == theirs.keys()
    gaps = {
        key: np.abs(np.subtract(ours[key], theirs[key])) / max(np.abs(theirs[key]).max(), 1e-3)
        for key in theirs
    }
    return float(max(np.median(g) if key == "grad_norm" else g.max() for key, g in gaps.items()))


def gentle(groups: Any, *, rounded: int | None = None) -> torch.optim.Optimizer:
    """AdamW that makes no full step of rounding.

    Args:
        groups: parameters by name.
        rounded: seed with which weights are first moved by one part in 2**23, up, down or not.
    """
    if rounded is not None:
        draw = torch.Generator().manual_seed(rounded)
        with torch.no_grad():
            for weights in (p for group in groups.values() for p in group):
                weights.mul_(1 + (torch.randint(3, weights.shape, generator=draw) - 1) * 2.0**-23)
    made = adamw(groups)
    for group in made.param_groups:
        group["eps"] = EPSILON
    return made


def main() -> None:
    """Write the curves, or say how far they move."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounding", action="store_true")
    rounding = parser.parse_args().rounding
    for name in OBJECTIVES:
        path = FOLDER / f"{name}.json"
        if rounding:
            kept = json.loads(path.read_text())
            curves = [curve(name, optimizer=partial(gentle, rounded=seed)) for seed in range(3)]
            moved = [f"{difference(found, kept):.1e}" for found in curves]
            sys.stdout.write(f"{name} {' '.join(moved)}\n")
        else:
            FOLDER.mkdir(exist_ok=True)
            path.write_text(json.dumps(curve(name), indent=1) + "\n")


if __name__ == "__main__":
    main()
