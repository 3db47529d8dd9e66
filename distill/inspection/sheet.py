"""The contact sheet: images, their depth in colour, where it is valid, how it is distributed."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import matplotlib
import numpy as np
from jaxtyping import UInt8
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter
from numpy.typing import NDArray

from distill import atomic
from distill.colour import colourise
from distill.inspection import measure
from distill.inspection.findings import DepthFindings, Findings
from distill.inspection.sources import Seen

_WIDTH = 640  # pixels of a tile
_COLUMNS = 5  # of a sheet of photographs
_INVALID, _VALID, _FAR = (40, 44, 52), (235, 235, 230), (90, 150, 215)
_STYLE: dict[Any, Any] = {"font.size": 8, "axes.titlesize": 8, "axes.titlelocation": "left"}


@dataclass(frozen=True, kw_only=True)
class Tile:
    """A sample, small enough to keep.

    Attributes:
        key: of it.
        image: at most 640 pixels wide.
        depth: numbers where they are valid, NaN elsewhere; sparse points are drawn larger.
        valid: a picture of where there is a number, and where the sky.
        values: that are valid, a part of them.
    """

    key: str
    image: UInt8[np.ndarray, "h w 3"] | None
    depth: NDArray[np.float32] | None = None
    valid: UInt8[np.ndarray, "a b 3"] | None = None
    values: NDArray[np.float64] | None = None


def tile(key: str, seen: Seen, *, also: Sequence[float] = (), read: bool = False) -> Tile:
    """What the sheet needs of a sample; the markers of its depth as in `measure`."""
    image = None if seen.image is None else _small(seen.image, cv2.INTER_AREA)
    if seen.depth is None:
        return Tile(key=key, image=image)
    invalid = measure.marked(seen.depth, also=also, read=read)
    colours = np.where(invalid[..., None], _INVALID, _VALID).astype(np.uint8)
    if seen.far is not None:
        colours[seen.far] = _FAR
    facts = measure.measure(seen.depth, also=also, read=read)
    return Tile(
        key=key,
        image=image,
        depth=_points(np.where(invalid, np.nan, seen.depth).astype(np.float32), facts.adjacent),
        valid=_small(colours, cv2.INTER_AREA),
        values=facts.values,
    )


@matplotlib.rc_context(_STYLE)
def draw(findings: Findings, tiles: Sequence[Tile], out: Path) -> None:
    """Write the sheet as a PNG."""
    figure = _maps(findings.depth, tiles) if findings.depth else _photos(tiles)
    lines = [findings.path, *_summary(findings)]
    figure.suptitle("\n".join(lines), x=0.01, ha="left", fontsize=8, family="monospace")
    with atomic.replacing_file(out) as temporary:
        figure.savefig(temporary, format="png", dpi=110)


def _summary(findings: Findings) -> list[str]:
    wanted = ("layout", "samples", "size", "depth", "unit", "valid", "warnings")
    lines, kept = findings.text.splitlines()[1:], False
    found = []
    for line in lines:
        kept = line.startswith(wanted) or (line.startswith(" ") and kept)
        found += [line] if kept else []
    return found


def _photos(tiles: Sequence[Tile]) -> Figure:
    columns = min(len(tiles), _COLUMNS)
    rows = -(-len(tiles) // columns)
    figure = Figure(figsize=(2.5 * columns, 2.1 * rows + 0.9), layout="constrained")
    for number, axes in enumerate(np.ravel(figure.subplots(rows, columns, squeeze=False))):
        axes.axis("off")
        if number < len(tiles) and tiles[number].image is not None:
            axes.imshow(tiles[number].image)
            axes.set_title(tiles[number].key[-36:], fontsize=7)
    return figure


def _maps(depth: DepthFindings | None, tiles: Sequence[Tile]) -> Figure:
    assert depth is not None
    shown = [one for one in tiles if one.depth is not None]
    shapes = [one.depth.shape for one in shown if one.depth is not None]
    height = 3.6 * float(np.mean([h / w for h, w in shapes])) + 0.5
    figure = Figure(figsize=(14.4, max(height, 1.5) * len(shown) + 1.4), layout="constrained")
    grid = figure.subplots(len(shown), 4, squeeze=False)
    scale = depth.unit.per_metre or 1.0
    for row, one in zip(grid, shown, strict=True):
        _row(row, one, depth, scale)
    return figure


def _row(row: Any, one: Tile, depth: DepthFindings, scale: float) -> None:
    assert one.depth is not None
    assert one.values is not None
    for axes in row[:3]:
        axes.set_axis_off()
    if one.image is not None:
        row[0].imshow(one.image)
    row[0].set_title(one.key[-56:])
    near = one.depth if depth.kind == "inverse" else scale / one.depth
    row[1].imshow(colourise(near))
    row[1].set_title("depth, near is warm; grey: none")
    row[2].imshow(one.valid)
    row[2].set_title("light: valid" + ("; blue: sky" if (one.valid == _FAR).all(2).any() else ""))
    if not one.values.size:
        row[3].set_axis_off()
        return
    values = one.values / scale
    known = depth.unit.name if depth.unit.sure == "known" else "numbers as stored"
    positive = values[values > 0]
    wide = positive.size == values.size and values[-1] > 4 * values[0]
    edges = np.geomspace(values[0], values[-1], 60) if wide else 60
    row[3].hist(values, edges, color="#3d85c6")
    if wide:
        row[3].set_xscale("log")
        for axis in (row[3].xaxis.set_major_formatter, row[3].xaxis.set_minor_formatter):
            axis(NullFormatter())
    for share in (0.01, 0.5, 0.99):
        at = float(np.quantile(values, share))
        row[3].axvline(at, color="#cc7a3b", linewidth=0.8)
        row[3].text(at, 0.98, f" {at:.3g}", transform=row[3].get_xaxis_transform(), va="top")
    row[3].set_yticks([])
    row[3].set_title(f"{'metres' if depth.unit.per_metre else known}: 1 %, half, 99 %")


def _small(picture: UInt8[np.ndarray, "h w 3"], how: int) -> UInt8[np.ndarray, "a b 3"]:
    h, w = picture.shape[:2]
    if w <= _WIDTH:
        return picture
    return cv2.resize(picture, (_WIDTH, max(1, round(h * _WIDTH / w))), interpolation=how)


def _points(values: NDArray[np.float32], adjacent: float) -> NDArray[np.float32]:
    """Every n-th pixel; single points grow first, so that none is lost and all are seen."""
    step = -(-values.shape[1] // _WIDTH)
    if adjacent < 0.8:
        size = 2 * step + 1
        low = np.where(np.isnan(values), np.float32(np.inf), values)  # the nearest stays in front
        grown = cv2.erode(low, np.ones((size, size), np.uint8))
        values = np.where(np.isinf(grown), np.nan, grown)
    return values[::step, ::step]
