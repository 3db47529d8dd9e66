"""A training run small enough to be killed: two convolutions learn planes.

`python tests/training.py OUT [--resume] [name=value ...]` runs it in a process of its own.
"""

import ast
import dataclasses
import logging
import multiprocessing
import os
import sys
import time
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float
from safetensors.torch import save_file
from torch import Tensor, nn

from distill import masked
from distill.evaluation.validation import HeldOut
from distill.loading import Batches, Mixture, batches
from distill.losses.affine_invariant import affine_invariant
from distill.losses.gradient_matching import gradient_matching
from distill.objectives.supervised import Supervised
from distill.objectives.terms import Term
from distill.optim import polynomial
from distill.train import TrainJob
from distill.types import Sample, Space


class Planes:
    """Tilted planes, their image a function of disparity; every fifth is too sparse to count.

    `broken` is the index of a sample whose image holds a NaN, `near` of one a thousand times
    nearer, those of `unreadable` raise; `slow` seconds pass with each.
    """

    name = "planes"

    def __init__(
        self,
        *,
        length: int = 24,
        size: int = 16,
        broken: int = -1,
        near: int = -1,
        unreadable: tuple[int, ...] = (),
        slow: float = 0.0,
    ):
        self._length, self._size, self._broken, self._slow = length, size, broken, slow
        self._near, self._unreadable = near, unreadable

    def __len__(self) -> int:
        return self._length

    def key(self, index: int) -> str:
        return f"{self.name}/{index:03d}.png"

    def __getitem__(self, index: int) -> Sample:
        time.sleep(self._slow)
        if index in self._unreadable:
            raise ValueError(f"{self.key(index)}: damaged")
        tilt = torch.rand(3, generator=torch.Generator().manual_seed(index))
        y, x = torch.meshgrid(*[torch.linspace(0, 1, self._size)] * 2, indexing="ij")
        depth = 1 + tilt[0] * x + tilt[1] * y
        image = torch.stack([1 / depth, x * tilt[2], 0.5 * y])
        if index == self._broken:
            image[0, 0, 0] = torch.nan
        if index == self._near:
            depth = depth / 1000
        valid = torch.ones_like(depth) > 0
        if index % 5 == 4:
            valid = valid & (torch.arange(depth.numel()).reshape(depth.shape) < 4)
        return Sample(
            key=self.key(index),
            image=image,
            target=torch.where(valid, depth, torch.nan),
            valid=valid,
            space=Space.METRIC_DEPTH,
        )


class Student(nn.Module):
    """Disparity from two convolutions, with dropout so that training draws random numbers."""

    def __init__(self, width: int = 8, *, dropout: float = 0.1, dead: bool = False) -> None:
        super().__init__()
        self.space, self.multiple = Space.AFFINE_DISPARITY, 4
        self.encoder = nn.Conv2d(3, width, 4, stride=4)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.ConvTranspose2d(width, 1, 4, stride=4)
        # the losses ignore a shift: its gradient would be rounding, which Adam makes a full step of
        shift = torch.full((1,), -100.0 if dead else 1.0)
        self.head.bias = nn.Parameter(shift, requires_grad=False)

    def forward(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b h w"]:
        return self.forward_features(image)[0]

    def forward_features(
        self, image: Float[Tensor, "b 3 h w"]
    ) -> tuple[Float[Tensor, "b h w"], Float[Tensor, "b n d"]]:
        features = self.encoder(image).tanh()
        pred = self.head(self.dropout(features)).relu()[:, 0]
        return pred, features.flatten(2).transpose(1, 2)

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        groups = {"encoder": self.encoder, "head": self.head}
        return {name: list(module.parameters()) for name, module in groups.items()}

    def save_pretrained(self, folder: Path) -> None:
        save_file(self.state_dict(), folder / "model.safetensors")


def planes(*, data: dict[str, Any], **numbers: Any) -> Batches:
    return batches(Mixture([(Planes(**data), None)]), **numbers)


def supervised(**student: Any) -> Supervised:
    affine, gradient = (
        Term("affine", 1.0, affine_invariant),
        Term("gradient", 2.0, gradient_matching),
    )
    return Supervised(partial(Student, **student), [affine, gradient])


def absolute(
    pred: Float[Tensor, "b h w"], target: Float[Tensor, "b h w"], valid: Bool[Tensor, "b h w"]
) -> Float[Tensor, " b"]:
    """A loss that one sample can make as large as it likes; those of depth normalise each."""
    return masked.mean((pred - target).abs(), valid)


def supervised_by_size(**student: Any) -> Supervised:
    return Supervised(partial(Student, **student), [Term("absolute", 1.0, absolute)])


def count_pixels(student: nn.Module) -> dict[str, float]:
    """A validation that draws random numbers and trains nothing."""
    batch = next(planes(data={}, batch_size=6, seed=1))
    assert not student.training
    return {"mean": float((student(batch["image"]) + torch.rand(()) * 0).mean())}


def job(
    *,
    data: dict[str, Any] | None = None,
    student: dict[str, Any] | None = None,
    rate: float = 0.01,
    **fields: Any,
) -> TrainJob:
    """The run, with these fields changed."""
    made = TrainJob(
        objective=partial(supervised, **(student or {})),
        batches=partial(planes, data=data or {}),
        batch_size=4,
        steps=12,
        lr=partial(polynomial, rates={"encoder": rate, "head": rate}),
        precision="fp32",
        ema=0.9,
        workers=0,
        log_every=1,
        checkpoint_every=5,
        validate_every=6,
        validation=count_pixels,
    )
    return dataclasses.replace(made, **fields)


def watched() -> TrainJob:
    """Two epochs with a real validation and nothing random, for the command line."""
    held_out = HeldOut(open=partial(Planes, length=7), size=16)
    return job(student={"dropout": 0.0}, validation=held_out, validate_every=4, threads=1)


def on_hosts(*, dropout: float = 0.1) -> TrainJob:
    """Slow enough to lose a host in mid-run, for the command line."""
    return job(student={"dropout": dropout}, data={"slow": 0.05}, validate_every=20, threads=1)


def spoilt() -> TrainJob:
    """A sample without a number in its image comes after checkpoints, for the command line."""
    return job(data={"broken": 7}, max_quarantined=0.0, checkpoint_every=1, threads=1)


def run(out: Path, log: Path, environment: dict[str, str], resume: bool, fields: dict) -> None:
    """The whole life of a process: the run, everything it says in `log`."""
    os.environ.update(environment)
    with log.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    logging.basicConfig(level=logging.INFO)
    torch.set_num_threads(1)
    # only a machine that loses power needs it, not a process that is killed; disks may be busy
    os.fsync = lambda _descriptor: None
    job(**fields).run(out, resume=resume)


def forking() -> Any:
    """Forks of a server that has imported what is slow; modules of tests are not on its path."""
    context = multiprocessing.get_context("forkserver")
    slow = ("distill.train", "distill.evaluation.validation", "distill.models.depth_anything")
    context.set_forkserver_preload([*slow, "tensorboard.compat", "torch.utils.tensorboard"])
    return context


def start(
    out: Path, *, resume: bool = False, environment: dict[str, str] | None = None, **fields: Any
) -> BaseProcess:
    """Run the job in another process, forked from one that has imported everything already."""
    context = forking()
    rank = (environment or {}).get("RANK", "0")
    log = out.with_name(f"{out.name}-{rank}.log")
    process = context.Process(target=run, args=(out, log, environment or {}, resume, fields))
    process.start()
    return process


if __name__ == "__main__":
    settings = dict(text.split("=", 1) for text in sys.argv[2:] if "=" in text)
    typed = {name: ast.literal_eval(text) for name, text in settings.items()}
    job(**typed).run(Path(sys.argv[1]), resume="--resume" in sys.argv)
