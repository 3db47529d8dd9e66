"""The pictures of a report as text to embed: curves and bars as SVG, panels as WebP."""

import base64
import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
from jaxtyping import UInt8
from matplotlib.figure import Figure
from numpy import ndarray
from PIL import Image, ImageDraw, ImageFont

COLOURS = ("#7d8790", "#3d85c6", "#cc7a3b", "#6a9a58", "#9067b0")  # one a run, on light and dark
_INK = "#010203"  # stands for the page's own text colour
_INKED = ("axes.edgecolor", "axes.labelcolor", "text.color", "xtick.color", "ytick.color")
_STYLE: dict[Any, Any] = dict.fromkeys(_INKED, _INK) | {
    "svg.fonttype": "none",  # text stays text, in the page's font
    "svg.hashsalt": "distill",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "axes.titlelocation": "left",
    "axes.titlesize": 9,
    "font.size": 9,
}
_POINTS = 400  # of a curve; more cannot be seen


@matplotlib.rc_context(_STYLE)
def curves(name: str, lines: Mapping[str, Sequence[tuple[int, float]]]) -> str:
    """One quantity over the updates, a line a run, in the order of `COLOURS`."""
    figure = Figure(figsize=(3.5, 2.1), layout="constrained")
    axes = figure.subplots()
    for colour, points in zip(COLOURS, lines.values(), strict=False):
        every = max(1, len(points) // _POINTS)
        steps, values = ([point[axis] for point in points[::every]] for axis in (0, 1))
        few = "." if len(steps) < 12 else ""
        axes.plot(steps, values, color=colour, linewidth=1.2, marker=few)
    every_value = [y for points in lines.values() for _, y in points]
    if min(every_value) > 0 and max(every_value) > 20 * min(every_value):
        axes.set_yscale("log")
    axes.set_title(name)
    axes.grid(axis="y", linewidth=0.4, alpha=0.25, color=_INK)
    axes.tick_params(width=0.6, length=3)
    return _svg(figure)


@matplotlib.rc_context(_STYLE)
def bars(name: str, values: Mapping[str, float]) -> str:
    """One number a model, as horizontal bars from 0."""
    figure = Figure(figsize=(4.6, 0.36 * len(values) + 0.4), layout="constrained")
    axes = figure.subplots()
    names = [name.replace("_", " ") for name in values]
    drawn = axes.barh(names, list(values.values()), 0.62, color=COLOURS[: len(values)])
    axes.bar_label(drawn, fmt="%.4f", padding=4)
    axes.invert_yaxis()
    axes.margins(x=0.15)
    axes.set_title(name)
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.tick_params(length=0)
    axes.set_xticks([])
    return _svg(figure)


def data_uri(picture: UInt8[ndarray, "h w 3"], *, height: int = 240) -> str:
    """The picture as a `data:` address, made smaller to at most `height` rows."""
    image, data = Image.fromarray(picture), io.BytesIO()
    image.thumbnail((100_000, height))
    image.save(data, "WEBP", quality=90)
    return "data:image/webp;base64," + base64.b64encode(data.getvalue()).decode()


def sheet(rows: Sequence[Mapping[str, UInt8[ndarray, "h w 3"]]], *, height: int = 150) -> bytes:
    """A row for each mapping, its pictures of one size under their names, as a PNG."""
    names, gap, top = list(rows[0]), 8, 30
    shapes = [next(iter(row.values())).shape for row in rows]
    widths = [max(1, columns * height // lines) for lines, columns, _ in shapes]
    pitch = max(widths) + gap
    size = (len(names) * pitch + gap, top + len(rows) * (height + gap))
    drawn, font = Image.new("RGB", size, "white"), ImageFont.load_default(size=15)
    for i, name in enumerate(names):
        ImageDraw.Draw(drawn).text((gap + i * pitch, 7), name, fill="#444", font=font)
        for j, (row, width) in enumerate(zip(rows, widths, strict=True)):
            tile = Image.fromarray(row[name]).resize((width, height))
            left = gap + i * pitch + (max(widths) - width) // 2
            drawn.paste(tile, (left, top + j * (height + gap)))
    data = io.BytesIO()
    drawn.save(data, "PNG")
    return data.getvalue()


def _svg(figure: Figure) -> str:
    """Without what makes it a file of its own: declaration, metadata, namespaces."""
    text = io.StringIO()
    figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    inner = re.sub(r"<metadata>.*?</metadata>", "", text.getvalue(), flags=re.DOTALL)
    inner = re.sub(r' xmlns(:\w+)?="[^"]*"', "", inner[inner.index("<svg") :])
    return inner.replace(_INK, "currentColor")
