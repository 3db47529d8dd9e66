"""What was found at a path, as plain facts, as text for people and as JSON."""

import textwrap
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from distill.inspection import measure, units
from distill.inspection.measure import MapFacts
from distill.inspection.units import Unit

_NAMED = 5  # files of a kind that are named; JSON has all
_LABEL, _WIDTH = 10, 88  # characters of the two columns
_WHOLE = ("path", "recipe", "run")  # lines to copy, never broken


@dataclass(frozen=True, kw_only=True)
class DepthFindings:
    """Of all maps that were looked at.

    Attributes:
        dtype: in which they are stored, or what a reader makes of them.
        range: least, 1 %, half, 99 % and largest number that is no marker; None without any.
        unit: likely.
        valid: least, mean and largest share of an image.
        markers: share of all pixels with each number that likely means no measurement.
        pattern: `dense`, `dense with holes`, `sparse`, `lidar`.
        kind: `depth`, `inverse`, `undecided`.
        slope: rank correlation of number and row.
        levels: of the map that has most.
        eight_bits: why this is no more than eight bits; None where it is.
    """

    dtype: str
    range: tuple[float, float, float, float, float] | None
    unit: Unit
    valid: tuple[float, float, float]
    markers: Mapping[str, float]
    pattern: str
    kind: str
    slope: float | None
    levels: int
    eight_bits: str | None


@dataclass(frozen=True, kw_only=True)
class Findings:
    """All of it.

    Attributes:
        path: that was looked at.
        layout: what it is.
        parts: numbers of samples.
        looked: samples that were read.
        sizes: `1242 x 375` (width, height): how many of those.
        forms: of the image files, likewise.
        depth: None where there is none.
        warnings: what may be wrong.
        unreadable: keys with reasons.
        without_depth: images that have no partner.
        without_image: depth maps likewise.
        recipe: Python lines that open it.
        commands: to run.
        refused: why nothing should be trained with it; None where nothing speaks against it.
    """

    path: str
    layout: str
    parts: Mapping[str, int]
    looked: int
    sizes: Mapping[str, int]
    forms: Mapping[str, int]
    depth: DepthFindings | None
    warnings: list[str] = field(default_factory=list)
    unreadable: Mapping[str, str] = field(default_factory=dict)
    without_depth: Sequence[str] = ()
    without_image: Sequence[str] = ()
    recipe: list[str] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)
    refused: str | None = None

    @property
    def text(self) -> str:
        """For people: two columns, the first of them says what about."""
        lines = []
        for label, said in self._rows():
            whole = label in _WHOLE or (not label and lines and lines[-1][1])
            width = len(said) + 1 if whole else _WIDTH
            parts = textwrap.wrap(said, width, break_long_words=False, break_on_hyphens=False)
            lines += [(f"{'' if n else label:<{_LABEL}} {p}", whole) for n, p in enumerate(parts)]
        return "\n".join(line for line, _ in lines)

    def _rows(self) -> Iterator[tuple[str, str]]:
        yield "path", self.path
        yield "layout", self.layout
        yield "samples", _counted(self.parts) + f"; {self.looked} looked at, spread evenly"
        if self.sizes:
            yield "size", _most(self.sizes)
        if self.forms:
            yield "files", _most(self.forms)
        if self.depth:
            yield from _depth_rows(self.depth)
        for number, said in enumerate(self.warnings):
            yield "" if number else "warnings", said
        for kind, what in (
            (self.without_depth, "images without depth"),
            (self.without_image, "depth maps without image"),
        ):
            if kind:
                yield "alone", f"{len(kind)} {what}: {_named(kind)}"
        for number, (key, reason) in enumerate(self.unreadable.items()):
            yield "" if number else "unreadable", named(key, reason)
        for number, line in enumerate(self.recipe):
            yield "" if number else "recipe", line
        for number, line in enumerate(self.commands):
            yield "" if number else "run", line


def named(key: str, reason: str) -> str:
    """Why a sample cannot be read, with its key in front where the reason does not name it."""
    return reason if key in reason else f"{key}: {reason}"


def depth_findings(facts: Sequence[MapFacts], *, as_read: str | None) -> DepthFindings:
    """Of maps as they are stored; or of what a reader made of them, which it names."""
    shares = [m.valid for m in facts]
    names = sorted({name for m in facts for name in m.markers})
    if as_read is None:
        unit, kind = units.guess(facts), units.kind(facts)
    else:
        kind = "inverse" if "dispar" in as_read or "inverse" in as_read else "depth"
        metres = 1.0 if as_read == "metres" else None
        unit = Unit(name=as_read, per_metre=metres, sure="known", reason="the reader converts")
    return DepthFindings(
        dtype=", ".join(sorted({m.dtype for m in facts})),
        range=measure.quantiles(facts),
        unit=unit,
        valid=(min(shares), float(np.mean(shares)), max(shares)),
        markers={n: float(np.mean([m.markers.get(n, 0.0) for m in facts])) for n in names},
        pattern=measure.pattern(facts),
        kind=kind,
        slope=measure.slope(facts),
        levels=max(m.levels for m in facts),
        eight_bits=measure.eight_bits(facts),
    )


_PATTERNS = {
    "dense": "dense",
    "dense with holes": "dense, with holes",
    "sparse": "sparse: single points",
    "lidar": "sparse: single points, none in the upper fifth, as of a lidar",
}
_KINDS = {
    "depth": "depth: the lower part of the image is nearer",
    "inverse": "inverse depth or disparity: numbers grow towards the lower part of the image",
    "undecided": "depth or disparity: the images do not tell",
}


def _depth_rows(depth: DepthFindings) -> Iterator[tuple[str, str]]:
    if depth.range is None:
        yield "depth", f"{depth.dtype}, no valid pixel"
        return
    known = depth.unit.sure == "known"
    least, p1, half, p99, largest = depth.range
    ends = f"{least:.6g} to {largest:.6g}; 1 % below {p1:.5g}, half below {half:.5g}"
    yield "depth", f"{'' if known else depth.dtype + ', '}{ends}, 1 % above {p99:.5g}"
    if known:
        yield "unit", f"{depth.unit.name}, as the reader gives them"
    else:
        yield "unit", f"{depth.unit.name} ({depth.unit.sure}): {depth.unit.reason}"
    low, mean, high = depth.valid
    spread = f" ({low:.1%} to {high:.1%})" if high - low > 0.005 else ""
    yield "valid", f"{mean:.1%} of the pixels{spread}, {_PATTERNS[depth.pattern]}"
    if known:
        return
    if depth.markers:
        marks = ", ".join(f"{name} ({share:.1%})" for name, share in depth.markers.items())
        yield "invalid", f"likely {marks}"
    slope = "" if depth.slope is None else f" (rank correlation with the row {depth.slope:+.2f})"
    yield "kind", _KINDS[depth.kind] + slope


def _counted(parts: Mapping[str, int]) -> str:
    return ", ".join(f"{part} {count}".strip() for part, count in parts.items())


def _most(counts: Mapping[str, int]) -> str:
    if len(counts) == 1:
        return next(iter(counts))
    most = Counter(counts).most_common(_NAMED)
    more = f", and {len(counts) - len(most)} others" if len(counts) > len(most) else ""
    return ", ".join(f"{name} ({count})" for name, count in most) + more


def _named(names: Sequence[str]) -> str:
    more = f", ... ({len(names) - _NAMED} more)" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def as_json(findings: Findings) -> dict[str, Any]:
    """Plain values; numbers that are not finite do not occur."""
    return asdict(findings)
