"""The label job: a teacher's answers to every image of a set, in a store that others can trust.

The unit of work and of resume is a shard: fixed keys, fixed batches, a fixed thread count. Its
bytes therefore do not depend on which process wrote it, nor on how often the job was killed.
"""

import contextlib
import itertools
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Annotated

import torch

from distill import atomic, job
from distill.labels.account import discard_changed
from distill.labels.codec import Codec, JpegXl
from distill.labels.meta import StoreMeta, hash_keys, read_meta
from distill.labels.shards import committed, discard_shard, read_report
from distill.labels.store import LabelStore
from distill.models.foreign import load_predictor
from distill.types import Dataset, Space
from pseudo_labels.claims import probe
from pseudo_labels.defects import image_defect
from pseudo_labels.guards import Guards, Zeros, zeros_reported
from pseudo_labels.predictor import Asker, Predictor, Strategy
from pseudo_labels.quarantine import quarantined, write_quarantine
from pseudo_labels.record import helped, told
from pseudo_labels.strategies.plain import plain
from pseudo_labels.worker import Worker

log = logging.getLogger(__name__)

_SPACES = {word: space for space in Space for word in (space.name, space.value)}
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
_VERSIONS = ("distill", "torch", "transformers", "numpy", "pillow", "imagecodecs")


@dataclass(frozen=True, kw_only=True)
class LabelJob:
    """Label every image of a data set.

    Attributes:
        images: builds the data set.
        teacher: path or hub id; several for a strategy that asks more than one.
        space: what its numbers mean, a `Space` by name or value; for a kind of model that does not
            tell, which an error says.
        strategy: how the teacher is asked, or the teachers are.
        codec: how maps become bytes.
        shard_size: images per shard; what a killed process loses at most.
        batch_size: images of one size that a teacher sees at once.
        workers: threads of each process that read images, and as many that encode maps; by
            default its share of the machine's cores.
        threads: of torch on the CPU, for each process; other counts may change last bits.
        dtype: of the teacher's arithmetic, "float32" or "bfloat16".
        compiled: torch compiles the network, anew for each prepared size that it meets; see
            `models.foreign.load_predictor`.
        reduced: large JPEGs are decoded at a fraction of their size; the same.
        min_side: pixels; smaller images are quarantined.
        max_aspect: long to short side; longer strips are quarantined, they would need the memory
            of many images. KITTI's 3.3 passes.
        max_quarantined: share of all images, whichever process met them; one more stops the job.
        max_zeros: share of exact zeros in the labels so far, once there are 100 or all; more stops
            the job. Sky is 0, so a set of clouds needs more.
        retry_quarantined: a resumed job writes the shards with quarantined images again.
        recheck_images: a resumed job reads every image once more and writes the shards again whose
            images have other bytes than when they were labelled.
        load: builds a predictor from a teacher's path or id, `device`, `dtype`, `space`,
            `compiled` and `reduced`.

    Raises:
        ValueError: a field outside its bounds.
    """

    images: Callable[[], Dataset]
    teacher: str | Path | tuple[str | Path, ...]
    space: str | None = None
    strategy: Strategy = plain
    codec: Codec = field(default_factory=JpegXl)
    shard_size: int = 1000
    batch_size: int = 8
    workers: int | None = None
    threads: int = 2
    dtype: Annotated[str, "released inference code", "bfloat16"] = "float32"
    compiled: bool = False
    reduced: Annotated[bool, "ours", "true: large JPEGs are read at part of their size"] = False
    min_side: Annotated[int, "ours: smaller images say too little; papers are silent"] = 32
    max_aspect: Annotated[float, "ours: KITTI's 3.3 passes; papers are silent"] = 4.0
    max_quarantined: Annotated[float, "ours"] = 0.1
    max_zeros: Annotated[float, "ours: zeros are sky, or a dead network", "1: clouds"] = 0.5
    retry_quarantined: bool = False
    recheck_images: bool = False
    # pyright takes a cached_property for a plain attribute
    load: Callable[..., Predictor] = load_predictor  # pyright: ignore[reportAssignmentType]

    def __post_init__(self) -> None:
        for name in ("shard_size", "batch_size", "workers", "threads", "min_side", "max_aspect"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ValueError(f"LabelJob: {name}={getattr(self, name)} must be at least 1")
        for name in ("max_quarantined", "max_zeros"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"LabelJob: {name}={getattr(self, name)} lies outside [0, 1]")
        if self.space is not None and self.space not in _SPACES:
            names = ", ".join(space.name for space in Space)
            raise ValueError(f"LabelJob: space={self.space!r}; choose one of {names}")
        if self.dtype not in _DTYPES:
            raise ValueError(f"LabelJob: dtype={self.dtype!r}; choose one of {sorted(_DTYPES)}")

    def run(self, out: Path, *, resume: bool = False) -> None:
        """Fill the store at `out`; every process of a launch calls this.

        Raises:
            ValueError: `out` holds a store that this job would not have written, or one at all and
                `resume` is False; another job is writing there.
            GuardStop: more than `max_quarantined` of the images got no label, or more than
                `max_zeros` of the labels is exactly zero.
            Interrupted: SIGTERM came; committed shards are kept.
            PartialFailure: some images got no label; they are named, also in `quarantine.jsonl`.
        """
        processes = job.processes()
        main, device = processes.is_main_process, torch.device(processes.device or "cpu")
        place = (processes.process_index + 1, processes.num_processes)
        log.info("%s: process %d of %d, on %s", out, *place, device)
        with contextlib.ExitStack() as held:
            if main:
                held.enter_context(job.exclusive(out))
            if processes.num_processes > 1:
                probe(out, first=main, meet=processes.wait_for_everyone)
            held.enter_context(job.threads(self.threads))
            images, teachers = self.images(), self.teachers(device)
            asker = self.strategy(teachers)
            order = _in_key_order(images)
            meta = self._meta(images, order, teachers, asker, device)
            if main:
                _open_store(out, meta, resume=resume or _restarted())
                self._discard(out, images)
                write_quarantine(out, quarantined(out))  # what stopped an earlier run may be mended
            processes.wait_for_everyone()
            # only now: a process that waits for the others must die of SIGTERM
            stop = held.enter_context(job.terminated())
            Worker(
                out=out,
                meta=meta,
                images=images,
                order=order,
                asker=asker,
                device=device,
                codec=self.codec,
                batch_size=self.batch_size,
                workers=self.workers or job.cores(),
                image_defect=partial(
                    image_defect, min_side=self.min_side, max_aspect=self.max_aspect
                ),
                guards=self._guards(meta),
                stop=stop,
                shows_progress=main,
            ).fill()
            if main:
                self._finish(out, meta)

    def teachers(self, device: torch.device) -> list[Predictor]:
        """The teachers on `device`, as this job loads them."""
        space = _SPACES[self.space] if self.space else None
        several = self.teacher if isinstance(self.teacher, tuple) else (self.teacher,)
        return [
            self.load(
                one,
                device=device,
                dtype=_DTYPES[self.dtype],
                space=space,
                compiled=self.compiled,
                reduced=self.reduced,
            )
            for one in several
        ]

    def _guards(self, meta: StoreMeta) -> Guards:
        return Guards(
            images=meta.keys,
            teacher=meta.teacher_names,
            max_quarantined=self.max_quarantined,
            max_zeros=self.max_zeros,
        )

    def _meta(
        self,
        images: Dataset,
        order: Sequence[int],
        teachers: Sequence[Predictor],
        asker: Asker,
        device: torch.device,
    ) -> StoreMeta:
        on_gpu = device.type == "cuda"
        return StoreMeta(
            teachers=tuple(map(told, teachers)),
            image_limits={"min_side": self.min_side, "max_aspect": self.max_aspect},
            space=asker.space,
            strategy=job.describe(self.strategy),
            codec=job.describe(self.codec),
            error_bound=self.codec.error_bound,
            inference={
                "batch_size": self.batch_size,
                "dtype": self.dtype,
                "threads": self.threads,
                "teachers": [teacher.inference for teacher in teachers],
                "device": torch.cuda.get_device_name(device) if on_gpu else device.type,
            },
            dataset=images.name,
            keys=len(order),
            keys_sha256=hash_keys(images.key(index) for index in order),
            shard_size=self.shard_size,
            **helped(asker),
            versions={name: metadata.version(name) for name in _VERSIONS},
        )

    def _discard(self, out: Path, images: Dataset) -> None:
        """Take back the commits of shards that this job was asked to write again."""
        if self.retry_quarantined:
            for number in committed(out):
                if read_report(out, number).quarantined:
                    discard_shard(out, number)
        if self.recheck_images:
            changed = discard_changed(out, images)
            such_as = f", {changed[0]} for one" if changed else ""
            log.info("%s: %d images have changed%s", out, len(changed), such_as)

    def _finish(self, out: Path, meta: StoreMeta) -> None:
        """Write `quarantine.jsonl` and tell whether all is well."""
        reasons = quarantined(out)
        write_quarantine(out, reasons)
        guards, reports = self._guards(meta), [read_report(out, n) for n in committed(out)]
        guards.check_quarantined(reasons)
        guards.check_zeros(sum(map(zeros_reported, reports), start=Zeros()))
        log.info("%s: %d labels of %d images", out, meta.keys - len(reasons), meta.keys)
        _ = LabelStore(out).index  # joined once, for all who will read the store
        if reasons:
            raise job.PartialFailure(reasons)


def _in_key_order(images: Dataset) -> Sequence[int]:
    """Indices by sorted key; most data sets are sorted and need no list of them."""
    keys = map(images.key, range(len(images)))
    if all(before < after for before, after in itertools.pairwise(keys)):
        return range(len(images))
    return sorted(range(len(images)), key=images.key)


def _open_store(out: Path, meta: StoreMeta, *, resume: bool) -> None:
    """Start a store, or make sure that the one at `out` is the one this job would write."""
    for folder in (out, out / "index"):
        atomic.sweep(folder)
    if not committed(out):  # an empty store binds nobody
        meta.write(out)
        return
    if not resume:
        raise ValueError(f"{out} already holds a label store; give --resume or another --out")
    theirs = read_meta(out)
    different = theirs.differences(meta)
    if len(committed(out)) == theirs.shards:
        different.pop("versions", None)  # nothing is left that they could change
    if different:
        lines = [
            f"  {name}: store {here!r}, this job {there!r}"
            for name, (here, there) in different.items()
        ]
        raise ValueError(
            f"{out} was made otherwise; give what it was made with, or another --out:\n"
            + "\n".join(lines)
        )


def _restarted() -> bool:
    """Whether torchrun started this process again after another one of the launch had died."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0
