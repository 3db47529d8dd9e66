"""The firewall: labels that contradict a second opinion of their image, by name and reason.

Nothing is removed: `suspects.jsonl` beside the store names them, and whoever trains leaves them
out. What a fault looks like is learnt from labels that are spoilt on purpose (`judge`), either
trusted ones or the store's own.
"""

import collections
import hashlib
import itertools
import json
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from torchvision.transforms.functional import to_pil_image

from distill import atomic
from distill.datasets.pseudo_labelled import PseudoLabelled
from distill.inspection.evidence import FAULTS, Look, Witness, looks
from distill.inspection.judge import Judge, own_limit, trusted_limit
from distill.inspection.store_witness import store_witness
from distill.types import Dataset, Sample, Space

QUANTISED = 0.5
"""Limit of `suspicion.quantised`: 256 levels give 0.75 or more, others stay near 0."""

_LEARNT = 1000  # labels, spread over the store, from which a witness and limits are made
_TOGETHER = 64  # labels that are judged at once
_PARTS = 5  # of trusted labels
_KEPT = 0.9  # of a store's own
_CONCENTRATIONS, _REWEIGHTINGS = 4, 2
_AHEAD = 16  # images that are decoded before their turn


@runtime_checkable
class Predictor(Protocol):
    """A depth network with its own preprocessing, as `models.foreign` loads it."""

    @property
    def space(self) -> Space:
        """What its numbers mean."""
        ...

    def prepare(self, image: Image.Image) -> Float[Tensor, "3 h w"]:
        """The network's input for an image of any size."""
        ...

    def predict_network(self, pixels: Float[Tensor, "b 3 h w"], /) -> Float[Tensor, "b h w"]:
        """Maps at network resolution."""
        ...


@dataclass(frozen=True, order=True)
class Suspicion:
    """A label that is probably wrong.

    Attributes:
        key: of the image.
        reason: `quantised`, or the likeliest of `evidence.FAULTS`.
        score: log odds of the reason, see `Judge.odds`; of bits, see `suspicion.quantised`.
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


@dataclass(frozen=True)
class Firewall:
    """What was learnt, and from where on a label is named.

    Attributes:
        judge: what evidence speaks for which fault.
        limit: of the largest log odds of a label.
    """

    judge: Judge
    limit: float

    def suspects(self, seen: Iterable[Look]) -> Iterator[Suspicion]:
        """The suspicious labels, in their order; a few are looked at together."""
        seen = iter(seen)
        while some := list(itertools.islice(seen, _TOGETHER)):
            yield from (one for one in self.judged(some) if one is not None)

    def judged(self, some: Sequence[Look]) -> list[Suspicion | None]:
        """The likeliest fault of each label; None where its odds are within the limit."""
        odds, places = self.judge.odds(some).max(1)
        found: list[Suspicion | None] = []
        for look, score, place in zip(some, odds.tolist(), places.tolist(), strict=True):
            if look.quantised > QUANTISED:
                named = Suspicion(look.key, "quantised", round(look.quantised, 6), QUANTISED)
            elif score > self.limit:
                named = Suspicion(look.key, FAULTS[place], round(score, 6), round(self.limit, 6))
            else:
                named = None
            found.append(named)
        return found


def learn(samples: Iterable[dict[str, Look]], *, trusted: bool, alarms: float = 0.015) -> Firewall:
    """A firewall from labels of such images, with the same witness.

    Args:
        samples: some hundreds or thousands, as `looks` gives them with `faults`.
        trusted: they are good: a judge learns from all of them, and the limit (`trusted_limit`)
            comes from judges that did not know the labels they score, by parts of a fifth.
            Otherwise they are the store's own, the least suspicious teach, and the limit is
            `own_limit`.
        alarms: share of good labels that may be named.

    Raises:
        ValueError: too few, or `alarms` outside (0, 1).
    """
    taught = list(samples)
    if not trusted:
        return _of_its_own(taught, alarms)
    scores: list[Float[Tensor, " n"]] = []
    for part in range(_PARTS):
        held = [found[""] for found in taught if _part(found[""].key) == part]
        if held:
            others = _judge(found for found in taught if _part(found[""].key) != part)
            scores.append(others.odds(held).amax(1))
    return Firewall(_judge(taught), trusted_limit(torch.cat(scores), alarms))


def _of_its_own(taught: Sequence[dict[str, Look]], alarms: float) -> Firewall:
    """The judge whom the wrong labels of a store teach least.

    As the minimum covariance determinant is found (Rousseeuw & Van Driessen 1999): concentration on
    the nine tenths that the last judge suspects least, then on all that lie within its limit.
    """
    judge, good = _judge(taught), [found[""] for found in taught]
    for step in range(_CONCENTRATIONS + _REWEIGHTINGS):
        scores = judge.odds(good).amax(1)
        concentrates = step < _CONCENTRATIONS
        limit = float(scores.quantile(_KEPT)) if concentrates else own_limit(scores, alarms)
        within = (scores <= limit).tolist()
        judge = _judge(found for found, kept in zip(taught, within, strict=True) if kept)
    return Firewall(judge, own_limit(judge.odds(good).amax(1), alarms))


def _judge(taught: Iterable[dict[str, Look]]) -> Judge:
    good: list[Look] = []
    spoilt: dict[str, list[Look]] = {fault: [] for fault in FAULTS}
    for found in taught:
        good.append(found[""])
        for fault in FAULTS:
            spoilt[fault] += [found[fault]] if fault in found else []
    return Judge(good, spoilt)


def inspect(
    images: Dataset,
    store: Path,
    *,
    predictor: Predictor | None = None,
    trusted: Dataset | None = None,
    workers: int = 2,
) -> int:
    """Write `suspects.jsonl` of a store, and say how many labels there are in it.

    With limits of `trusted` labels at most 1.5 % of good labels are named, if they are alike;
    limits of the store itself have no such guarantee. On a world of another seed the teacher as
    witness found 0.97 to 1.00 of labels with a gross fault, the demo's student 0.43 to 1.00, and
    they named 0.008 of the good; limits of the store found as much or less. See
    `benchmarks/results/firewall.json`.

    Args:
        images: that were labelled.
        store: their labels; of those that are there.
        predictor: as witness; None makes one of the store.
        trusted: labels of such images that are known to be good, for the limits; None takes the
            store's own.
        workers: threads that decode.
    """
    labelled = PseudoLabelled(images, store, partial=True)
    source = labelled if trusted is None else trusted
    read = partial(read_ahead, workers=workers)
    if predictor is None:
        witness = store_witness(read(labelled, every=_every(labelled)))
    else:
        witness = asked(predictor)
    taught = list(looks(read(source, every=_every(source)), witness, faults=True))
    firewall = learn(taught, trusted=trusted is not None)
    if trusted is None and len(taught) == len(labelled):  # all of them were looked at already
        suspected = firewall.suspects(found[""] for found in taught)
    else:
        suspected = firewall.suspects(found[""] for found in looks(read(labelled), witness))
    named = list(suspected)
    write_suspects(store, named)
    return len(named)


def _every(images: Dataset) -> int:
    """The stride that leaves at most `_LEARNT` of them."""
    return max(1, -(-len(images) // _LEARNT))


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


def _part(key: str) -> int:
    """Not those of `store_witness`."""
    return hashlib.sha256(f"limit {key}".encode()).digest()[0] % _PARTS
