"""`distill data check`: a recipe's data before step 1; everything that is wrong, at once."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from distill.datasets import published
from distill.geometry import to_space
from distill.inspection.findings import named
from distill.inspection.inspect import spread
from distill.inspection.job_data import Opened, Use, uses
from distill.loading import Transform
from distill.objectives.terms import usable
from distill.types import Dataset, Sample

_NAMED = 20  # samples that are named
_FEW = 0.5  # of the samples of a set; more without enough truth are worth a warning
_COARSE = 1.5  # times as large as it was; then an image has visibly less detail than the network's
_SEED = 0  # of the crops that are tried


@dataclass(kw_only=True)
class Checked:
    """What was found.

    Attributes:
        facts: what was looked at, and how much there is.
        warnings: what may be meant so.
        errors: what a run would stop at, or learn wrongly from.
    """

    facts: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """For people."""
        kinds = (("data", self.facts), ("warning", self.warnings), ("error", self.errors))
        lines = [f"{kind:<10} {said}" for kind, entries in kinds for said in entries]
        return "\n".join(lines if self.errors else [*lines, f"{'good':<10} nothing stops a run"])

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def check(job: Any, *, samples: int = 100, complete: bool = False) -> Checked:
    """Open every data set of `job` and read some samples of each as the job would.

    Wrong paths, empty sets, samples that are unreadable beyond the job's budget, images without the
    truth that they need, or of several sizes, are errors. Other counts than the published ones
    are warnings, for a part of a set is a set; `complete` makes them errors.

    Args:
        job: a training, labelling or evaluation job.
        samples: read of each data set, spread evenly, its first and last among them.
        complete: the sets are meant to be whole.

    Raises:
        ValueError: the job reads no data that is known, or `samples` is below 1.
    """
    if samples < 1:
        raise ValueError(f"check: samples={samples}; read one of each set at least")
    checked = Checked()
    opened: dict[str, Opened] = {}
    for use in uses(job):
        try:
            opened[use.role] = use.open()
        except (ValueError, OSError, ImportError) as error:
            checked.errors.append(f"{use.role}: {error}")
            continue
        sizes: Counter[tuple[int, ...]] = Counter()
        for dataset in opened[use.role].datasets:
            _count(checked, use, dataset, complete)
            if len(dataset):
                _read(checked, use, dataset, opened[use.role].transform, samples, sizes)
        if use.role == "training" and len(sizes) > 1:
            found = ", ".join(f"{h} x {w}" for h, w in sizes)
            checked.errors.append(f"training: samples of several sizes, {found}; crop them")
    if "training" in opened and "validation" in opened:
        _disjoint(checked, opened["training"].datasets, opened["validation"].datasets)
    return checked


def _count(checked: Checked, use: Use, dataset: Dataset, complete: bool) -> None:
    reader, length = type(dataset).__name__, len(dataset)
    same, said = published.compared(reader, length)
    checked.facts.append(
        f"{use.role}: {dataset.name}, {length} samples by {reader}{said and '; '}{said}"
    )
    if not length:
        checked.errors.append(f"{use.role}: {dataset.name} has no samples")
    elif use.expected not in (None, length):
        checked.warnings.append(
            f"{use.role}: {length} images, the protocol's list has {use.expected}; scores are "
            "reported as of other images"
        )
    elif not same:
        where = checked.errors if complete else checked.warnings
        where.append(f"{use.role}: {dataset.name} has {length} samples; {said}")


def _read(
    checked: Checked,
    use: Use,
    dataset: Dataset,
    transform: Transform | None,
    samples: int,
    sizes: Counter[tuple[int, ...]],
) -> None:
    places = spread(len(dataset), samples)
    unreadable: list[str] = []
    wrong: list[str] = []
    poor: list[str] = []
    coarse: list[str] = []
    here: Counter[tuple[int, ...]] = Counter()
    for place in places:
        key = dataset.key(place)
        try:
            whole = sample = dataset[place]
            if transform is not None:
                sample = transform(whole, np.random.default_rng((_SEED, place)))
        except (ValueError, OSError, ImportError) as error:
            unreadable.append(named(key, str(error)))
            continue
        here[tuple(sample.image.shape[1:])] += 1
        old, new = (tuple(one.image.shape[1:]) for one in (whole, sample))
        if min(new) > _COARSE * min(old):
            coarse.append(f"{key}: {old[0]} x {old[1]} for {new[0]} x {new[1]}")
        reasons = [f"{key}: {said}" for said in _wrong(sample, use)]
        wrong += reasons
        if not reasons and not _says_enough(sample, use):
            poor.append(key)
    sizes += here
    told = f"{use.role}: {dataset.name}, of {len(places)} samples read"
    over = len(unreadable) > use.budget * len(places)
    allowed = f" (allowed: {use.budget:.2%})"
    where = checked.errors if over else checked.warnings
    _tell(where, unreadable, f"{told}, unreadable", allowed)
    _tell(checked.errors, wrong, f"{told}, of no use")
    remedy = " (take a smaller crop, or larger labels)"
    _tell(checked.warnings, coarse, f"{told}, enlarged", remedy)
    too_poor = checked.errors if len(poor) == len(places) else checked.warnings
    if len(poor) > _FEW * len(places):
        _tell(too_poor, poor, f"{told}, without enough valid pixels")
    elif not unreadable and not wrong:
        shapes = ", ".join(f"{h} x {w}" for h, w in list(here)[:3])
        checked.facts.append(f"{told}: all good, {shapes}{', ...' if len(here) > 3 else ''}")


def _wrong(sample: Sample, use: Use) -> Iterator[str]:
    """What keeps a sample from being used."""
    height, width = sample.image.shape[1:]
    short, long = sorted((height, width))
    if not sample.image.isfinite().all():
        yield "its image has numbers that are not finite"
    if short < use.min_side:
        yield f"{height} x {width} pixels, less than {use.min_side}"
    if long > use.max_aspect * short:
        yield f"{height} x {width} pixels, longer than {use.max_aspect:g} to 1"
    if sample.target is None or sample.valid is None or sample.space is None:
        if use.needs_target:
            yield "no depth to learn from or to measure by"
        return
    if use.space is None:
        return
    try:
        to_space(sample.target, sample.valid, sample.far, source=sample.space, target=use.space)
    except ValueError as error:
        yield str(error)


def _says_enough(sample: Sample, use: Use) -> bool:
    """Whether losses and scores see it at all."""
    if sample.target is None or sample.valid is None or sample.space is None:
        return True
    space = use.space or sample.space
    target, valid = to_space(
        sample.target, sample.valid, sample.far, source=sample.space, target=space
    )
    return bool(usable(target[None], valid[None], space).all())


def _tell(where: list[str], entries: Sequence[str], told: str, allowed: str = "") -> None:
    if not entries:
        return
    lines = "\n".join(f"{'':<10}   {entry}" for entry in entries[:_NAMED])
    more = f"\n{'':<10}   ... and {len(entries) - _NAMED} more" if len(entries) > _NAMED else ""
    where.append(f"{told}: {len(entries)}{allowed}\n{lines}{more}")


def _disjoint(checked: Checked, training: Sequence[Dataset], held_out: Sequence[Dataset]) -> None:
    """Warn of held-out images that are trained on; only sets of one name can share keys."""
    for dataset in held_out:
        keys = {dataset.key(i) for i in range(len(dataset))}
        same = [d for d in training if d.name == dataset.name]
        both = sum(d.key(i) in keys for d in same for i in range(len(d)))
        if both:
            checked.warnings.append(
                f"validation: {both} of {len(keys)} images of {dataset.name} are trained on, too"
            )
