"""`distill data inspect`: up to 50 samples of anything, and what they say about all of it."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from distill.inspection import measure, sheet
from distill.inspection.findings import DepthFindings, Findings, depth_findings, named
from distill.inspection.measure import MapFacts
from distill.inspection.sheet import Tile
from distill.inspection.sources import Seen, Source, evaluation, open_source

_TILES = {"set": 6, "pairs": 6, "labels": 6, "photos": 24}  # samples on the sheet
_TRAINED_AT = 518  # pixels of the short side, of the published sizes
_LEAST = 0.01  # of the pixels; an image with less truth teaches nothing


@dataclass
class _Looked:
    """What is kept of the samples that were read."""

    facts: list[MapFacts] = field(default_factory=list)
    sizes: Counter[str] = field(default_factory=Counter)
    forms: Counter[str] = field(default_factory=Counter)
    tiles: list[Tile] = field(default_factory=list)
    unreadable: dict[str, str] = field(default_factory=dict)
    mismatched: list[str] = field(default_factory=list)
    turned: list[str] = field(default_factory=list)
    small: int = 0
    count: int = 0


def inspect(
    place: Path | str, *, samples: int = 50, allow_8bit: bool = False, out: Path | None = None
) -> Findings:
    """Look at up to `samples` samples, spread evenly, and draw some of them.

    Args:
        place: a folder, file, pattern or URL.
        samples: that are read at most.
        allow_8bit: do not refuse depth of eight bits.
        out: the PNG of the contact sheet; None draws nothing.

    Raises:
        FileNotFoundError: nothing lies there.
        ValueError: it holds several sets, nothing that is known, or nothing that can be read.
        OSError: it cannot be reached.
    """
    if samples < 1:
        raise ValueError(f"inspect: samples={samples}; look at one at least")
    source = open_source(place)
    looked, marker = _look(source, samples, ()), None
    if source.depth_as_read is None and looked.facts:
        marker = measure.frequent(looked.facts)
        if marker is not None:
            looked = _look(source, samples, (marker,))
    if not looked.count:
        reasons = "\n".join(f"  {named(key, why)}" for key, why in looked.unreadable.items())
        raise ValueError(
            f"{place}: none of {len(looked.unreadable)} samples can be read\n{reasons}"
        )
    depth = depth_findings(looked.facts, as_read=source.depth_as_read) if looked.facts else None
    findings = _findings(str(place), source, looked, depth, marker, allow_8bit)
    if out is not None:
        sheet.draw(findings, looked.tiles, out)
    return findings


def spread(length: int, count: int) -> list[int]:
    """Up to `count` places of `length`, spread evenly, the first and the last among them."""
    if count >= length:
        return list(range(length))
    return [round(n * (length - 1) / max(count - 1, 1)) for n in range(count)]


def _look(source: Source, samples: int, also: Sequence[float]) -> _Looked:
    looked, places = _Looked(), spread(len(source), samples)
    drawn, read = set(spread(len(places), _TILES[source.kind])), source.depth_as_read is not None
    for number, place in enumerate(places):
        key = source.key(place)
        try:
            seen = source.read(place)
        except (ValueError, OSError) as error:
            looked.unreadable[key] = str(error)
            continue
        looked.count += 1
        _add(looked, key, seen, source, also)
        if number in drawn:
            looked.tiles.append(sheet.tile(key, seen, also=also, read=read))
    return looked


def _add(looked: _Looked, key: str, seen: Seen, source: Source, also: Sequence[float]) -> None:
    if seen.depth is not None:
        read = source.depth_as_read is not None
        looked.facts.append(measure.measure(seen.depth, also=also, read=read))
    if seen.form:
        looked.forms[seen.form] += 1
    if seen.size is None:
        return
    height, width = seen.size
    looked.sizes[f"{width} x {height}"] += 1
    looked.small += min(seen.size) < _TRAINED_AT
    if source.kind != "pairs" or seen.depth is None:
        return
    if seen.turned:
        looked.turned.append(key)
    if seen.depth.shape != seen.size:
        h, w = seen.depth.shape
        looked.mismatched.append(f"{key} ({width} x {height} and {w} x {h})")


def _findings(
    place: str,
    source: Source,
    looked: _Looked,
    depth: DepthFindings | None,
    marker: float | None,
    allow_8bit: bool,
) -> Findings:
    recipe, commands = source.recipe, source.commands
    doubts = [*source.doubts, *_doubts(source, looked, depth, marker)]
    if source.pairs is not None and depth is not None:
        recipe, said = _recipe(Path(place), source, depth, marker)
        doubts += said
        commands = _evaluation(Path(place), source, looked, depth, marker)
    refused = None
    if depth is not None and depth.eight_bits and not allow_8bit and source.kind != "labels":
        recipe, commands = [], []
        refused = (
            f"{place}: the depth has 8 bits ({depth.eight_bits}); near surfaces become steps that "
            "a student learns. Export 16-bit PNG or floats, or insist with --allow-8bit"
        )
    return Findings(
        path=place,
        layout=source.layout,
        parts=source.parts,
        looked=looked.count,
        sizes=dict(looked.sizes.most_common()),
        forms=dict(looked.forms.most_common()),
        depth=depth,
        warnings=doubts,
        unreadable=looked.unreadable,
        without_depth=source.pairs.images if source.pairs else (),
        without_image=source.pairs.depths if source.pairs else (),
        recipe=recipe,
        commands=commands,
        refused=refused,
    )


def _doubts(
    source: Source, looked: _Looked, depth: DepthFindings | None, marker: float | None
) -> Iterator[str]:
    if looked.mismatched:
        some = "; ".join(looked.mismatched[:3])
        count = f"{len(looked.mismatched)} of {looked.count}"
        yield f"{count} images differ in size from their depth: {some}"
    if looked.turned:
        yield (
            f"{len(looked.turned)} of {looked.count} images are turned by their EXIF tag and depth "
            f"never is, so that they may not lie on each other: {looked.turned[0]}, ..."
        )
    if looked.unreadable:
        yield f"{len(looked.unreadable)} of {looked.count + len(looked.unreadable)} cannot be read"
    if source.kind == "photos" and looked.small:
        yield f"{looked.small} of {looked.count} images have a short side below {_TRAINED_AT} px"
    if depth is None:
        return
    if depth.eight_bits:
        yield f"8 bits: {depth.eight_bits}"
    if marker is not None:
        yield f"{marker:g} is at the end of the range and frequent: the sky, or no measurement?"
    empty = sum(m.valid < _LEAST for m in looked.facts)
    if empty:
        yield f"{empty} of {looked.count} images have depth in less than {_LEAST:.0%} of the pixels"
    if source.median and depth.range and not source.median[0] <= depth.range[2] <= source.median[1]:
        low, high = source.median
        yield (
            f"half of the depth lies below {depth.range[2]:.3g} m; {source.layout} has "
            f"{low:g} to {high:g} m there: is it the original?"
        )


def _recipe(
    root: Path, source: Source, depth: DepthFindings, marker: float | None
) -> tuple[list[str], list[str]]:
    """How a recipe opens pairs, and what stands against it."""
    pairs, unit = source.pairs, depth.unit
    assert pairs is not None
    if depth.kind == "inverse":
        return [], ["no reader takes inverse depth from folders: export depth"]
    if unit.per_metre is None and not depth.eight_bits:
        return [], ["say its unit yourself: RgbDepthFolder(..., units_per_metre=...)"]
    if unit.name == "millimetres times 8":
        return [], ["no reader turns SUN RGB-D's bits: write (d >> 3) | (d << 13) as 16-bit PNG"]
    if pairs.rgb is None or pairs.depth is None:
        return [], ["these names fit no pair of patterns: bring images and depth into two folders"]
    arguments = [f"Path({str(root)!r})", f"name={root.resolve().name!r}"]
    for name, value in (("rgb", pairs.rgb), ("depth", pairs.depth)):
        arguments += [f"{name}={value!r}"] if value != name else []
    arguments += [f"units_per_metre={unit.per_metre or 1:g}"]
    invalid = {float(name) for name in depth.markers if name.isdigit() and name != "0"}
    invalid |= set() if marker is None else {marker}
    arguments += [f"invalid=({', '.join(map(_exact, sorted(invalid)))},)"] if invalid else []
    arguments += ["allow_8bit=True"] if "int8" in depth.dtype else []
    said = []
    if pairs.images or pairs.depths:
        said = ["RgbDepthFolder refuses a folder in which some have no partner: move those away"]
    return [f"RgbDepthFolder({', '.join(arguments)})"], said


def _exact(number: float) -> str:
    """All digits: a reader looks for the very number."""
    return str(int(number)) if number.is_integer() else repr(number)


def _evaluation(
    root: Path, source: Source, looked: _Looked, depth: DepthFindings, marker: float | None
) -> list[str]:
    """The benchmarks of pairs read `rgb/` and `depth/` in 1/256 m."""
    pairs = source.pairs
    assert pairs is not None
    plain = (pairs.rgb, pairs.depth, depth.dtype, depth.unit.per_metre) == (
        *("rgb", "depth", "uint16", 256.0),
    )
    if not plain or marker is not None or set(depth.markers) - {"0"} or depth.kind == "inverse":
        return []
    width, height = map(int, next(iter(looked.sizes)).split(" x "))
    name = "kitti" if depth.pattern == "lidar" and width > 2.5 * height else "rgb-depth"
    return [evaluation(name, root)]
