"""`distill data count`: what is on the disk by part and scene, beside what was published."""

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from distill.datasets import published
from distill.inspection.job_data import uses
from distill.inspection.sources import open_source
from distill.types import Dataset

_SCENES = 40  # that are printed
_DEEPEST = 4  # folders of a key that may make a scene
_TOO_MANY = 2_000_000  # samples whose keys are not gone through
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Counted:
    """One part of a set.

    Attributes:
        part: its name.
        images: on the disk.
        said: what was published.
        scenes: images by the folders in front of their keys.
    """

    part: str
    images: int
    said: str
    scenes: Mapping[str, int]


def of_place(place: Path | str) -> list[Counted]:
    """Count what lies at a path or URL; only names are read.

    Raises:
        FileNotFoundError: nothing lies there.
        ValueError: it holds several sets, or nothing that is known.
    """
    source = open_source(place)
    for doubt in source.doubts:
        _log.warning("%s: %s", place, doubt)
    if source.datasets:
        parts = source.datasets.items()
        return [_counted(f"{source.layout} {part}".strip(), one) for part, one in parts]
    keys = (source.key(n) for n in range(min(len(source), _TOO_MANY)))
    scenes = _scenes([key.split(" + ")[0] for key in keys], skip=0)
    return [Counted(part=source.layout, images=len(source), said="", scenes=scenes)]


def of_job(job: Any) -> list[Counted]:
    """Count the data sets of a job.

    Raises:
        ValueError: it reads none that is known, or one cannot be opened.
        FileNotFoundError: a path is missing.
    """
    return [
        _counted(f"{use.role}: {dataset.name}", dataset)
        for use in uses(job)
        for dataset in use.open().datasets
    ]


def text(counted: Sequence[Counted]) -> str:
    """For people."""
    lines = []
    for one in counted:
        lines.append(f"{one.images:>10}  {one.part}{f'; {one.said}' if one.said else ''}")
        shown = list(one.scenes.items())[:_SCENES]
        lines += [f"{'':>4}{images:>10}  {scene}" for scene, images in shown]
        if len(one.scenes) > len(shown):
            lines.append(f"{'':>4}{'...':>10}  {len(one.scenes) - len(shown)} more scenes")
    return "\n".join(lines)


def as_json(counted: Sequence[Counted]) -> list[dict[str, Any]]:
    """Plain values."""
    return [asdict(one) for one in counted]


def _counted(part: str, dataset: Dataset) -> Counted:
    reader, length = type(dataset).__name__, len(dataset)
    said = published.compared(reader, length)[1]
    keys = [dataset.key(i) for i in range(length)] if length <= _TOO_MANY else []
    scenes = _scenes(keys, skip=1)
    rows = {row.part: row.images for row in published.published(reader)}
    named = {
        f"{scene} (published: {rows[scene]})" if scene in rows else scene: images
        for scene, images in scenes.items()
    }
    return Counted(part=part, images=length, said=said, scenes=named)


def _scenes(keys: Iterable[str], *, skip: int) -> dict[str, int]:
    """Images by the first folders of their keys that tell some apart; empty if none do."""
    paths = [key.split("/")[skip:-1] for key in keys]
    for depth in range(1, _DEEPEST + 1):
        found = Counter("/".join(path[:depth]) for path in paths)
        if len(found) > 1:
            return dict(sorted(found.items()))
    return {}
