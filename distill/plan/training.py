"""What a `TrainJob` computes and holds, counted on one update of shapes alone."""

import contextlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from distill.models import blocks
from distill.plan.counting import Cost, cost, shadows, size
from distill.plan.load import Load
from distill.plan.networks import weightless
from distill.plan.spread import Spread
from distill.types import Batch, Dataset, Encoded, Space

_LOOKED_AT = 32  # samples of the data
_FULL = 0.9  # share of a device's memory that may be planned: the rest goes to gaps and kernels


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """What the job's own loader told, or what stands in for it.

    Attributes:
        sides: height and width of the network's input.
        space: of the targets.
        image_bytes: mean over some images; None where not known.
        label_bytes: likewise.
        notes: what was assumed.
    """

    sides: tuple[int, int]
    space: Space
    image_bytes: float | None
    label_bytes: float | None
    notes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class _Update:
    """One update of one batch: costs of both passes and of the optimizer's step."""

    passes: Cost
    step: Cost
    weights: int
    frozen: int
    gradients: int
    state: int
    average: int


def of_training(job: Any, spread: Spread, *, reads_data: bool, memory: float | None) -> Load:
    """The load of a `TrainJob`.

    Args:
        job: to be planned.
        spread: over devices.
        reads_data: the job's data may be opened; the input's size is then the loader's.
        memory: bytes of a device; batches are divided until they fit. None: as the job says.

    Raises:
        ValueError: the batch cannot be spread over the devices, not even one image fits, or the
            objective cannot be counted.
    """
    drawn = _drawn(job) if reads_data else _assumed(job)
    whole, rest = divmod(job.batch_size, job.accumulate * spread.devices)
    if rest:
        raise ValueError(
            f"plan: batch_size={job.batch_size} is not a multiple of accumulate={job.accumulate} "
            f"times {spread.devices} devices; choose other --gpus"
        )
    with shadows():
        objective = _objective(job)
        exchange = spread.beside(objective)
        room = None if memory is None else _FULL * memory - sum(exchange.values())
        fits, update = _fitting(job, drawn, spread, whole, room)
        passes = job.accumulate * whole // fits
        sent = spread.sent(objective, passes)
    parts = _memory(update, spread, passes) | exchange
    return Load(
        kind="training",
        images=job.steps * job.batch_size,
        together=job.batch_size,
        size=f"{drawn.sides[1]}x{drawn.sides[0]}",
        precision=job.precision,
        flops=update.passes.flops / fits,
        flops_apart=update.step.flops,
        memory=parts,
        accumulate=passes,
        sent=sent if spread.devices > 1 else 0.0,
        image_bytes=drawn.image_bytes,
        label_bytes=drawn.label_bytes,
        written=_written(job, update),
        events=_events(job),
        notes=drawn.notes,
    )


def _objective(job: Any) -> Any:
    objective = weightless(job.objective)()
    if job.activation_checkpointing:
        blocks.checkpoint_activations(objective.student)
    return objective.train()


def _update(job: Any, images: int, drawn: Drawn) -> _Update:
    objective = _objective(job)
    optimizer = job.optimizer(objective.parameter_groups())
    batch = _batch(images, drawn)

    def passes() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=job.precision == "bf16"):
            loss = objective(batch)["loss"]
        loss.backward()

    both = _counted(passes)
    step = cost(optimizer.step)
    return _Update(
        passes=both,
        step=step,
        weights=size(objective, trained=True),
        frozen=size(objective, trained=False),
        gradients=size(objective, trained=True),
        state=_state(optimizer),
        average=size(objective.student) if job.ema is not None else 0,
    )


def _counted(passes: Any) -> Cost:
    try:
        return cost(passes)
    except (RuntimeError, NotImplementedError) as error:  # of many kinds, one for each operation
        raise ValueError(
            f"plan: this objective looks at numbers while it computes ({error}), so its work cannot"
            " be counted ahead; `distill doctor` measures it"
        ) from error


def _batch(images: int, drawn: Drawn) -> Batch:
    height, width = drawn.sides
    return {
        "key": [""] * images,
        "image": torch.empty(images, 3, height, width),
        "space": [drawn.space] * images,
        "target": torch.empty(images, height, width),
        "valid": torch.empty(images, height, width, dtype=torch.bool),
        "seed": 0,
    }


def _state(optimizer: torch.optim.Optimizer) -> int:
    kept = (value for entry in optimizer.state.values() for value in entry.values())
    return sum(v.numel() * v.element_size() for v in kept if isinstance(v, torch.Tensor))


def _memory(update: _Update, spread: Spread, passes: int) -> dict[str, float]:
    """What a device holds when it holds most: at the turn of the passes, or in the step."""
    beyond = max(update.passes.peak, update.gradients + update.step.peak - update.state)
    parts = {
        "weights": spread.share(float(update.weights)),
        "frozen weights": float(update.frozen),
        "gradients": spread.gradients(float(update.gradients), passes),
        "optimizer": spread.share(float(update.state)),
        "moving average": spread.share(float(update.average)),
        "activations": float(max(0, beyond - update.gradients)),
    }
    return {name: amount for name, amount in parts.items() if amount}


def _fitting(
    job: Any, drawn: Drawn, spread: Spread, whole: int, room: float | None
) -> tuple[int, _Update]:
    """Images of one batch on one device, all of them or the largest part that fits; their update.

    Raises:
        ValueError: not even one image fits into `room`.
    """
    held, state, an_image = 0.0, 0.0, 0.0  # bytes; unknown before the first count
    for images in range(whole, 0, -1):
        if whole % images or (an_image and room and state + an_image * images > room):
            continue
        update = _update(job, images, drawn)
        memory = _memory(update, spread, job.accumulate * whole // images)
        held = sum(memory.values())
        if room is None or held <= room:
            return images, update
        an_image = memory.get("activations", 0.0) / images
        state = held - an_image * images
    raise ValueError(
        f"plan: {held / 1e9:.2g} GB for one image at a time, {(room or 0.0) / 1e9:.2g} GB are "
        "there; cut the weights into pieces (--launch recipes/clusters/teacher_vitg_4x8.yaml), or "
        "--set activation_checkpointing=true"
    )


def _written(job: Any, update: _Update) -> float:
    """Bytes of the checkpoints that stay and of the exported student."""
    kept = min(job.keep_checkpoints, -(-job.steps // job.checkpoint_every))
    return float(kept * (update.weights + update.average + update.state) + update.weights)


def _events(job: Any) -> int:
    """Steps after which the loop validates or writes a checkpoint."""
    first, second, steps = job.validate_every, job.checkpoint_every, job.steps
    both = steps // first + steps // second - steps // math.lcm(first, second)
    return both + (steps % first > 0 and steps % second > 0)


def _assumed(job: Any) -> Drawn:
    """Square inputs of the side that the network was made for."""
    with shadows():
        student = weightless(job.objective)().student
    side = getattr(student, "image_size", None)
    if not isinstance(side, int):
        raise ValueError(
            f"plan: {type(student).__name__} does not say for which size it is made; give --data"
        )
    return Drawn(
        sides=(side, side),
        space=student.space,
        image_bytes=None,
        label_bytes=None,
        notes=("square crops of the size that the network is made for; with --data its own",),
    )


def _drawn(job: Any) -> Drawn:
    draw = {"batch_size": 1, "seed": job.seed, "workers": 0}
    with contextlib.closing(job.batches(**draw)) as found:
        batch = next(found)
        places = [found.mixture.locate(n, job.seed) for n in range(_LOOKED_AT)]
    if "target" not in batch:
        raise ValueError(f"plan: {batch['key'][0]} has no target to learn from; see --data")
    return Drawn(
        sides=(batch["image"].shape[2], batch["image"].shape[3]),
        space=batch["space"][0] or Space.AFFINE_DISPARITY,
        image_bytes=_image_bytes(places),
        label_bytes=_label_bytes({id(d): d for d, _ in places}),
        notes=(),
    )


def _image_bytes(places: Sequence[tuple[Dataset, int]]) -> float | None:
    try:
        read = [len(d.encoded(n)) for d, n in places if isinstance(d, Encoded)]
    except AssertionError:  # labels of images that have no files
        return None
    return sum(read) / len(read) if len(read) == len(places) else None


def _label_bytes(datasets: Mapping[int, Dataset]) -> float | None:
    """Of the one label store that is read, as its index has it."""
    stores = [store for d in datasets.values() if (store := getattr(d, "store", None)) is not None]
    if len(stores) != 1 or len(datasets) != 1:
        return None
    return sum(stores[0].index["size"].to_pylist()) / max(1, len(stores[0]))
