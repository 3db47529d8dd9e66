"""Figures of training: whole runs, and the same work as a plain loop would do it.

Ours is a `TrainJob` from sampler to metrics, its rows the clock. The plain loop has transformers'
own networks in float32 as they come, a full sort for the trimming, each term normalising for
itself, torch's default AdamW, and a frozen DINOv2 under `no_grad`. Both see the same batches, each
run in a process of its own, for how memory is kept is the whole process'.
"""

import json
import multiprocessing
import os
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from benchmarks.inputs import Figure
from distill import host_memory
from distill.loading import Batches, Mixture, batches
from distill.losses.affine_invariant import affine_invariant
from distill.losses.feature_alignment import feature_alignment
from distill.losses.gradient_matching import gradient_matching
from distill.models.depth_anything import depth_anything
from distill.models.dinov2 import FrozenDinov2, dinov2_encoder
from distill.objectives.distillation import Distillation
from distill.objectives.supervised import Supervised
from distill.objectives.terms import Term
from distill.optim import polynomial
from distill.perturb import cutmix
from distill.train import TrainJob
from distill.types import Sample, Space

_SIDE, _WARM, _STEPS = 518, 2, 6
_TERMS = (
    Term("affine", 1.0, partial(affine_invariant, trim=0.1)),
    Term("gradient", 2.0, gradient_matching),
)


def student_step(folder: Path) -> Figure:
    """Steps/s of V2's student S at 518 px, batch 2, frozen encoder and CutMix; and plainly."""
    ours = partial(train, partial(student_job, "vits", folder / "encoder"))
    return _turns(folder, ours, partial(_plain, "vits", 2, folder / "encoder"), repeats=5)


def teacher_step(folder: Path) -> Figure:
    """Steps/s of a teacher L at 518 px, batch 1; and plainly."""
    ours = partial(train, teacher_job)
    return _turns(folder, ours, partial(_plain, "vitl", 1, None), repeats=1)


def loss_share(folder: Path) -> Figure:
    """Milliseconds a step that the student's losses take, both ways, CutMix with them; and all."""
    step = apart(partial(train, partial(student_job, "vits", folder / "encoder")), folder / "run")
    return 1e3 * apart(_losses, folder), 1e3 * step, "ms"


def student_job(size: str, encoder: Path, *, side: int = 518, batch_size: int = 2) -> TrainJob:
    """V2's student on made-up labels; the frozen encoder is written to `encoder`."""
    # before processes meet: transformers writes on the first one alone
    networks = partial(depth_anything, size), partial(FrozenDinov2, _encoder(size, encoder))
    return _job(partial(_distillation, *networks), side, batch_size=batch_size)


def teacher_job() -> TrainJob:
    """V2's teacher, size L, on made-up truth."""
    terms = (Term("affine", 1.0, affine_invariant), Term("gradient", 2.0, gradient_matching))
    objective = partial(Supervised, partial(depth_anything, "vitl"), terms)
    return _job(objective, _SIDE, batch_size=1)


def _encoder(size: str, folder: Path) -> Path:
    """An encoder of this size with random weights, on the disk, of each process its own."""
    mine = folder / os.environ.get("RANK", "0")
    if not mine.is_dir():
        depth_anything(size).network.backbone.save_pretrained(mine)
    return mine


def _distillation(student: Any, frozen: Any) -> Distillation:
    feature = Term("feature", 1.0, partial(feature_alignment, tolerance=0.15))
    return Distillation(student, _TERMS, perturb=cutmix, feature=feature, frozen=frozen)


class _Noise:
    """Pictures and labels that cost what real ones cost once they are decoded."""

    name = "noise"

    def __init__(self, side: int) -> None:
        self._side = side

    def __len__(self) -> int:
        return 8

    def key(self, index: int) -> str:
        return f"{self.name}/{index}"

    def __getitem__(self, index: int) -> Sample:
        image, target = _noise(index, self._side)
        valid = torch.ones_like(target, dtype=torch.bool)
        key, space = self.key(index), Space.AFFINE_DISPARITY
        return Sample(
            key=key, image=image, target=target, valid=valid, space=space, pseudo_label=True
        )


def _noise(index: int, side: int = _SIDE) -> tuple[Tensor, Tensor]:
    maps = torch.rand(4, side, side, generator=torch.Generator().manual_seed(index))
    return maps[:3], maps[3]


def _batches(side: int, **where: Any) -> Batches:
    return batches(Mixture([(cast(Any, _Noise(side)), None)]), **where)


def _job(objective: Callable[[], nn.Module], side: int, *, batch_size: int) -> TrainJob:
    return TrainJob(
        objective=objective,
        batches=partial(_batches, side),
        batch_size=batch_size,
        steps=_WARM + _STEPS,
        lr=partial(polynomial, rates={"encoder": 5e-6, "head": 5e-5}),
        workers=0,
        log_every=1,
    )


def train(job: Callable[[], TrainJob], out: Path) -> float:
    """Seconds of an update, as the run's own rows tell them."""
    made = job()
    made.run(out)
    return median_step(out, made.batch_size)


def median_step(out: Path, batch_size: int) -> float:
    """Median seconds of an update of a run that wrote a row for each."""
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    speeds = [row["images_per_s"] for row in rows if row.get("images_per_s") and row["step"]]
    return batch_size / float(np.median(speeds[_WARM:]))


def _plain(size: str, batch_size: int, encoder: Path | None, _: Path) -> float:
    """Median seconds of an update of the plain loop."""
    student = depth_anything(size)
    network = student.network.to(memory_format=torch.contiguous_format)  # pyright: ignore[reportCallIssue] - overload of nn.Module.to
    network.backbone.set_attn_implementation("sdpa")  # transformers' default
    frozen = dinov2_encoder(_encoder(size, encoder)).eval() if encoder else None
    optimizer = torch.optim.AdamW(p for p in network.parameters() if p.requires_grad)
    image, target = (
        torch.stack(maps) for maps in zip(*map(_noise, range(batch_size)), strict=True)
    )
    times = []
    for _step in range(_WARM + 3):
        start = time.perf_counter()
        pixels = (image - student.mean) / student.std
        maps = network.backbone(pixels).feature_maps
        grid = _SIDE // student.multiple
        pred = network.head(network.neck(list(maps), grid, grid), grid, grid)
        loss = _ssi(pred, target, 0.1 if frozen else 0.0) + 2 * _gradients(pred, target)
        if frozen is not None:
            with torch.no_grad():
                tokens = frozen(pixels).last_hidden_state[:, 1:]
            distance = 1 - cosine_similarity(maps[-1][:, 1:], tokens, dim=-1)
            loss = loss + distance[distance >= 0.15].mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        times.append(time.perf_counter() - start)
    return float(np.median(times[_WARM:]))


def _normalised(maps: Tensor) -> Tensor:
    flat = maps.flatten(1)
    centred = flat - flat.median(dim=1, keepdim=True).values
    return (centred / centred.abs().mean(dim=1, keepdim=True)).view_as(maps)


def _ssi(pred: Tensor, target: Tensor, trim: float) -> Tensor:
    residual = (_normalised(pred) - _normalised(target)).abs().flatten(1)
    kept = residual.sort(dim=1).values[:, : int((1 - trim) * residual.shape[1])]
    return kept.mean()


def _gradients(pred: Tensor, target: Tensor) -> Tensor:
    difference, total = _normalised(pred) - _normalised(target), pred.new_zeros(())
    for stride in (1, 2, 4, 8):
        level = difference[:, ::stride, ::stride]
        total = total + level.diff(dim=1).abs().sum() / level.numel()
        total = total + level.diff(dim=2).abs().sum() / level.numel()
    return total


class _Given(nn.Module):
    """A network whose outputs are there already, so that what it costs is the losses alone."""

    space, multiple = Space.AFFINE_DISPARITY, 14

    def __init__(self) -> None:
        super().__init__()
        self.pred = nn.Parameter(torch.rand(2, _SIDE, _SIDE))
        self.tokens = nn.Parameter(torch.randn(2, (_SIDE // self.multiple) ** 2, 384))

    def forward(self, _: Tensor) -> Tensor:
        return self.tokens

    def forward_features(self, image: Tensor) -> tuple[Tensor, Tensor]:
        return (self.pred, self.tokens) if len(image) == 2 else (self.pred[:1], self.tokens[:1])

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        return {"head": list(self.parameters())}


def _losses(_: Path) -> float:
    """Mean seconds of the student's losses over batches of which half have boxes."""
    host_memory.keep()
    objective = _distillation(_Given, _Given)
    drawn = _batches(_SIDE, batch_size=2, seed=0)
    times = []
    for _step in range(22):
        batch = next(drawn)
        start = time.perf_counter()
        objective(batch)["loss"].backward()
        times.append(time.perf_counter() - start)
    return float(np.mean(times[2:]))


def _turns(
    folder: Path, ours: Callable[[Path], float], plain: Callable[[Path], float], *, repeats: int
) -> Figure:
    """Steps/s of both, which take turns; medians."""
    times = [(apart(ours, folder / f"run{turn}"), apart(plain, folder)) for turn in range(repeats)]
    first, second = np.median(times, axis=0)
    return 1 / float(first), 1 / float(second), "steps/s"


def apart(work: Callable[[Path], float], folder: Path) -> float:
    """What `work` returns in a process of its own."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(work, folder).result()
