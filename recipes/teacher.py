"""Teachers: large networks trained on synthetic sets with exact depth. Yang et al. 2024b (V2)."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from distill.datasets.blended_mvs import BlendedMvs
from distill.datasets.hypersim import Hypersim
from distill.datasets.irs import Irs
from distill.datasets.opening import open_all
from distill.datasets.tartanair import TartanAir
from distill.datasets.virtual_kitti2 import VirtualKitti2
from distill.evaluation.validation import HeldOut, pictures
from distill.loading import Batches, Mixture, batches
from distill.losses.affine_invariant import affine_invariant
from distill.losses.gradient_matching import gradient_matching
from distill.models.depth_anything import depth_anything
from distill.objectives.supervised import Supervised
from distill.objectives.terms import Term
from distill.optim import polynomial
from distill.train import TrainJob
from distill.transforms import resize_and_crop
from distill.types import Dataset

TERMS = (
    Term("affine", 1.0, affine_invariant),  # V2 section 7.1: 1 to 2
    Term("gradient", 2.0, gradient_matching),
)
RATES = {"encoder": 5e-6, "head": 5e-5}  # V2 section 7.1
DATA = Path("data")


def vitg(
    data: Path = DATA,
    *,
    dinov2: Annotated[str, "V2 section 5.1: DINOv2-G, without registers"] = "facebook/dinov2-giant",
) -> TrainJob:
    """Depth Anything V2's teacher on Hypersim and Virtual KITTI 2.

    `data` holds `hypersim/` and `virtual_kitti2/` as distributed. 160 000 steps of 64 at 518 px,
    watched on a hundred images of Hypersim's validation split;
    on a cluster: recipes/clusters/teacher_vitg_4x8.yaml.

    distill run recipes.teacher:vitg --data data --out runs/teacher
    """
    return _teacher("vitg", dinov2, data)


def vitl(data: Path = DATA, *, dinov2: str = "facebook/dinov2-large") -> TrainJob:
    """The same with DINOv2-L, for one machine.

    distill run recipes.teacher:vitl --data data --out runs/teacher
    """
    return _teacher("vitl", dinov2, data)


def vits(data: Path = DATA, *, dinov2: str = "facebook/dinov2-small") -> TrainJob:
    """The same with DINOv2-S: V2 table 5's "synthetic only" baseline, and a quick first try.

    distill run recipes.teacher:vits --data data --out runs/teacher
    """
    return _teacher("vits", dinov2, data)


def vitg_five(data: Path = DATA, *, dinov2: str = "facebook/dinov2-giant") -> TrainJob:
    """Depth Anything V2's teacher on all five synthetic sets of the paper, V2 table 7.

    `data` holds `hypersim/`, `virtual_kitti2/`, `tartanair/`, `irs/` and `blended_mvs/` as
    distributed, IRS and BlendedMVS with their authors' lists: 60, 20, 306, 103 and 115 thousand
    images, so every second one is TartanAir's. Steps, batch and validation as `vitg`.

    distill run recipes.teacher:vitg_five --data data --out runs/teacher
    """
    return replace(_teacher("vitg", dinov2, data), batches=partial(_five_sets, data))


def vitl_five(data: Path = DATA, *, dinov2: str = "facebook/dinov2-large") -> TrainJob:
    """The same with DINOv2-L, for one machine.

    distill run recipes.teacher:vitl_five --data data --out runs/teacher
    """
    return replace(_teacher("vitl", dinov2, data), batches=partial(_five_sets, data))


def _teacher(size: str, dinov2: str, data: Path) -> TrainJob:
    held_out = HeldOut(open=partial(Hypersim, data / "hypersim", split="val"))
    return TrainJob(
        objective=partial(Supervised, partial(depth_anything, size, encoder=dinov2), TERMS),
        batches=partial(_two_sets, data),
        batch_size=64,  # V2 section 7.1
        steps=160_000,  # V2 section 7.1
        lr=partial(polynomial, rates=RATES, power=0.9),
        validation=held_out,
        pictures=partial(pictures, held_out),
        activation_checkpointing=size == "vitg",
        workers=8,
    )


def _two_sets(data: Path, **where: Any) -> Batches:
    """Hypersim and Virtual KITTI 2 concatenated without balancing. V2 section 7.1."""
    rooms, streets = data / "hypersim", data / "virtual_kitti2"
    return _batches([partial(Hypersim, rooms), partial(VirtualKitti2, streets)], **where)


def _five_sets(data: Path, **where: Any) -> Batches:
    """The five sets of V2 table 7 concatenated without balancing. V2 section 7.1.

    Of IRS both lists, as the paper's 103 thousand images are: its test frames are of the same
    scenes. Depth is in metres, BlendedMVS's up to scale; the losses need no more.
    """
    irs = data / "irs"
    return _batches(
        [
            partial(Hypersim, data / "hypersim"),
            partial(VirtualKitti2, data / "virtual_kitti2"),
            partial(TartanAir, data / "tartanair"),
            *(partial(Irs, irs, split=split) for split in ("train", "test")),
            partial(BlendedMvs, data / "blended_mvs"),
        ],
        **where,
    )


def _batches(openers: Sequence[Callable[[], Dataset]], **where: Any) -> Batches:
    mixture = Mixture([(dataset, None) for dataset in open_all(openers)])
    return batches(mixture, transform=partial(resize_and_crop, size=518), **where)
