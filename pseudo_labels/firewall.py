"""The firewall: labels that contradict a second opinion of their image, by name and reason.

Nothing is removed: `suspects.jsonl` beside the store names them, and whoever trains leaves them
out. Limits come from labels that are trusted (`calibrate`), or from the store's own middle.
"""

import collections
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional
from torchvision.transforms.functional import to_pil_image

from distill import atomic
from distill.datasets.pseudo_labelled import PseudoLabelled
from distill.labels.suspicion import contradictions, equalised, quantised
from distill.types import Dataset, Sample, Space
from pseudo_labels.predictor import Predictor
from pseudo_labels.store_witness import store_witness

Witness = Callable[[Sample], Float[Tensor, "_ _"]]
"""A second opinion: larger is closer, at any size that covers the whole image."""

QUANTISED = 0.5
"""Limit of `suspicion.quantised`: 256 levels give 0.75 or more, others stay near 0."""

_DEVIATIONS = 6.0  # robust ones above the store's median, where nothing else is known
_LEARNT = 2000  # labels, spread over the store, from which a witness and limits are made
_AHEAD = 16  # images that are decoded before their turn


@dataclass(frozen=True, order=True)
class Suspicion:
    """A label that is probably wrong.

    Attributes:
        key: of the image.
        reason: one of `suspicion.REASONS`, the one that exceeds its limit most.
        score: see `suspicion`.
        limit: what the score exceeds.
    """

    key: str
    reason: str
    score: float
    limit: float


def asked(predictor: Predictor) -> Witness:
    """A network as witness: the student that was trained on the labels, or a smaller teacher."""

    @torch.no_grad()
    def witness(sample: Sample) -> Float[Tensor, "_ _"]:
        pixels = predictor.prepare(to_pil_image(sample.image.clamp(0, 1)))
        values = predictor.predict_network(pixels[None])[0].float().cpu()
        return values if predictor.space.is_inverse else -values

    return witness


def read_ahead(images: Dataset, *, every: int = 1, workers: int = 2) -> Iterator[Sample]:
    """Each `every`-th sample; some are decoded by other threads before they are asked for."""
    with ThreadPoolExecutor(workers, "read") as pool:
        pending: collections.deque[Future[Sample]] = collections.deque()
        for index in range(0, len(images), every):
            pending.append(pool.submit(images.__getitem__, index))
            if len(pending) > _AHEAD:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


def scores(samples: Iterable[Sample], witness: Witness) -> Iterator[tuple[str, dict[str, float]]]:
    """Key and scores of each labelled sample, by reason."""
    for sample in samples:
        assert sample.target is not None, sample.key
        assert sample.valid is not None, sample.key
        assert sample.space is not None, sample.key
        label = equalised(sample.target, sample.valid, sample.space)
        size = tuple(label.shape)
        said = functional.interpolate(
            witness(sample)[None, None], size, mode="bilinear", align_corners=False
        )[0, 0]
        everywhere = torch.ones_like(sample.valid)
        second = equalised(said, everywhere, Space.ORDINAL) * sample.valid
        found = contradictions(label, second)
        yield sample.key, {"quantised": quantised(sample.target, sample.valid), **found}


def calibrate(trusted: Iterable[Mapping[str, float]], *, alarms: float = 0.02) -> dict[str, float]:
    """Limits that labels known to be good exceed in at most about a share `alarms` of the cases.

    Args:
        trusted: scores of good labels of such images, by the same witness; some hundreds.
        alarms: of all reasons together, shared out equally.

    Raises:
        ValueError: `alarms` outside (0, 1), or so few labels that no limit can be told.
    """
    table = _columns(trusted)
    count = len(next(iter(table.values()), ()))
    if not 0 < alarms < 1 or count * alarms < 1:
        raise ValueError(
            f"calibrate: {count} labels and a share of {alarms} false alarms; give a share in "
            "(0, 1) and at least one over it in labels"
        )
    table.pop("quantised", None)
    share = alarms / max(1, len(table))
    limits = {name: float(np.quantile(column, 1 - share)) for name, column in table.items()}
    return {"quantised": QUANTISED, **limits}


def own_limits(store: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Limits from a store in which most labels are good: six deviations above its median.

    The deviation is 1.4826 times the median one, which is the standard deviation of a normal.
    """
    table = _columns(store)
    table.pop("quantised", None)
    limits = {"quantised": QUANTISED}
    for name, column in table.items():
        middle = float(np.median(column))
        spread = 1.4826 * float(np.median(np.abs(column - middle)))
        limits[name] = middle + _DEVIATIONS * spread
    return limits


def suspicion(
    key: str, found: Mapping[str, float], limits: Mapping[str, float]
) -> Suspicion | None:
    """The reason that exceeds its limit most; None where none does."""
    over = {name: found[name] - limit for name, limit in limits.items() if found[name] > limit}
    if not over:
        return None
    reason = "quantised" if "quantised" in over else max(over, key=lambda name: over[name])
    return Suspicion(key, reason, round(found[reason], 6), round(limits[reason], 6))


def firewall(
    images: Dataset, witness: Witness, *, limits: Mapping[str, float], workers: int = 2
) -> Iterator[Suspicion]:
    """The suspicious labels of a `PseudoLabelled`, in its order; one after the other, as read.

    Args:
        images: with their labels.
        witness: see `asked` and `store_witness`.
        limits: see `calibrate` and `own_limits`.
        workers: threads that decode.
    """
    for key, found in scores(read_ahead(images, workers=workers), witness):
        suspected = suspicion(key, found, limits)
        if suspected is not None:
            yield suspected


def inspect(
    images: Dataset, store: Path, *, predictor: Predictor | None = None, workers: int = 2
) -> int:
    """Write `suspects.jsonl` of a store, with limits of its own, and say how many there are.

    Args:
        images: that were labelled.
        store: their labels; of those that are there.
        predictor: as witness; None makes one of the store.
        workers: threads that decode.
    """
    labelled = PseudoLabelled(images, store, partial=True)
    every = -(-len(labelled) // _LEARNT)
    some = partial(read_ahead, labelled, every=every, workers=workers)
    witness = store_witness(some()) if predictor is None else asked(predictor)
    limits = own_limits(found for _, found in scores(some(), witness))
    suspected = list(firewall(labelled, witness, limits=limits, workers=workers))
    write_suspects(store, suspected)
    return len(suspected)


def write_suspects(store: Path, suspected: Iterable[Suspicion]) -> None:
    """Write `suspects.jsonl` beside the shards, sorted by key."""
    lines = [json.dumps(asdict(one)) + "\n" for one in sorted(suspected)]
    atomic.write_text(store / "suspects.jsonl", "".join(lines))


def read_suspects(store: Path) -> dict[str, Suspicion]:
    """What `suspects.jsonl` says, by key; nothing where the store was not inspected."""
    path = store / "suspects.jsonl"
    if not path.is_file():
        return {}
    found = [Suspicion(**json.loads(line)) for line in path.read_text().splitlines()]
    return {one.key: one for one in found}


def _columns(rows: Iterable[Mapping[str, float]]) -> dict[str, np.ndarray]:
    listed = list(rows)
    names = listed[0] if listed else {}
    return {name: np.array([row[name] for row in listed]) for name in names}
