"""What a recipe decides, for people: every value, its source, what it might be instead."""

import dataclasses
import inspect
import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

from distill.job import Job
from distill.recipe import Recipe, plain_fields, settings_of

_WIDTH = 120  # characters of a line
_COLUMNS = (24, 36, 40)  # at most, of values, sources and names; the last column has the rest
_OURS = ("distill", "pseudo_labels", "recipes")
_NEXT = re.compile(r"; (?=[\w.]+: )")  # alternative
_HEAD = ("", "value", "source", "or else")


def explain(recipe: Recipe, job: Job, inputs: Mapping[str, Any]) -> str:
    """Docstring, settings in columns, and the parts of `job` with every number inside them.

    Args:
        recipe: that made it.
        job: see there.
        inputs: what the recipe was called with; the others have their defaults.
    """
    settings = settings_of(recipe)
    rows = [(s.place[:-1], s.name, _value_of(inputs, s.place, s.value), s.hint) for s in settings]
    plain = plain_fields(job)
    mine = {setting.name for setting in settings}
    own = [(name, hint) for name, hint in plain.items() if name not in mine]
    name = type(job).__name__
    rows += [((name,), field, getattr(job, field), hint) for field, hint in own]
    parts = [f.name for f in dataclasses.fields(job) if f.name not in plain]  # type: ignore[arg-type]  # every Job is a dataclass
    lines = [inspect.getdoc(recipe) or "", "", "Settings, --set NAME=VALUE:", *_table(rows)]
    lines += ["", f"What they make, a {name}:"]
    lines += [f"  {part} = {_written(getattr(job, part), 4)}" for part in parts]
    return "\n".join(lines)


def _value_of(inputs: Mapping[str, Any], place: Sequence[str], default: Any) -> Any:
    if place[0] not in inputs:
        return default
    value = inputs[place[0]]
    for name in place[1:]:
        value = getattr(value, name)
    return value


def _table(rows: Iterable[tuple[tuple[str, ...], str, Any, Any]]) -> Iterator[str]:
    """Four columns, a heading for each group; cells are broken between words."""
    cells = [
        (group, (name, plainly(value), *_notes(hint, value))) for group, name, value, hint in rows
    ]
    longest = [max(len(row[n]) for row in (_HEAD, *(row for _, row in cells))) for n in range(3)]
    value, source, name = _COLUMNS
    widths = [min(longest[0], name), min(longest[1], value), min(longest[2], source)]
    widths.append(_WIDTH - sum(widths) - 8)
    yield from _broken(_HEAD, widths)
    last: tuple[str, ...] = ()
    for group, row in cells:
        if group and group != last:
            yield f" {group[-1]}"
        last = group
        yield from _broken(row, widths)


def _broken(row: Sequence[str], widths: Sequence[int]) -> Iterator[str]:
    wrap = partial(textwrap.wrap, break_on_hyphens=False)
    parts = [wrap(cell, width) for cell, width in zip(row, widths, strict=True)]
    for n in range(max(map(len, parts))):
        cells = [part[n] if n < len(part) else "" for part in parts]
        line = "  ".join(f"{c:<{w}}" for c, w in zip(cells, widths, strict=True))
        yield f"  {line}".rstrip()


def _notes(hint: Any, value: Any) -> tuple[str, str]:
    """Source and alternatives of `value`, as an `Annotated` hint gives them.

    Alternatives are `VALUE: who says so`, with semicolons between. Of one that is the value, what
    says so is its source, and the usual source an alternative. Choices without a word come last.
    """
    notes = get_args(hint)[1:] if get_origin(hint) is Annotated else ()
    source, told, *_ = *(note for note in notes if isinstance(note, str)), "", ""
    others = re.split(_NEXT, told) if told else []
    for other in others:
        named, _, reason = other.partition(": ")
        if reason and named == plainly(value):
            others = [source, *(rest for rest in others if rest is not other)]
            source = reason
            break
    inner = get_args(hint)[0] if notes else hint
    choices = map(str, get_args(inner)) if get_origin(inner) is Literal else ()
    silent = [c for c in choices if c != str(value) and c not in re.findall(r"\w+", told)]
    return source, "; ".join([*others, *([", ".join(silent)] if silent else [])])


def plainly(value: Any) -> str:
    """A value as `--set` reads it."""
    match value:
        case inspect.Parameter.empty:
            return "required"
        case None | bool():
            return str(value).lower()
        case float():
            return f"{value:.6g}"
        case tuple():
            return ",".join(map(plainly, value))
        case _:
            return str(value)


def _written(value: Any, indent: int) -> str:
    """A part as the call that makes it, broken into lines where it is long."""
    match value:
        case partial():
            written = _call(value.func.__name__, value.args, _keywords(value), indent)
        case dict():
            entries = [f"{key}: {_written(entry, indent + 2)}" for key, entry in value.items()]
            written = _enclosed("{", entries, "}", indent)
        case list() | tuple() if not _is_plain(tuple(value)):
            entries = [_written(entry, indent + 2) for entry in value]
            written = _enclosed("[", entries, "]", indent)
        case list() | tuple():
            written = f"({plainly(tuple(value))})"
        case _ if dataclasses.is_dataclass(value) and not isinstance(value, type):
            fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
            written = _call(type(value).__name__, (), fields, indent)
        case _ if callable(value) and hasattr(value, "__name__"):
            own = _keywords(value)
            written = _call(value.__name__, (), own, indent) if own else value.__name__
        case _:
            written = plainly(value)
    return written


def _call(name: str, args: Sequence[Any], keywords: Mapping[str, Any], indent: int) -> str:
    entries = [_written(value, indent + 2) for value in args]
    entries += [f"{key}={_written(value, indent + 2)}" for key, value in keywords.items()]
    return _enclosed(f"{name}(", entries, ")", indent)


def _enclosed(start: str, entries: Sequence[str], end: str, indent: int) -> str:
    inside = ", ".join(entries)
    if len(inside) + len(start) + indent <= _WIDTH - 20 and "\n" not in inside:
        return f"{start}{inside}{end}"
    pad = " " * indent
    return "\n".join([start, *(f"{pad}  {entry}," for entry in entries), f"{pad}{end}"])


def _keywords(function: Any) -> dict[str, Any]:
    """What a call is given by name, and the numbers of ours that it leaves at their defaults."""
    bound = function.keywords if isinstance(function, partial) else {}
    inner = function.func if isinstance(function, partial) else function
    if str(getattr(inner, "__module__", "")).split(".")[0] not in _OURS:
        return dict(bound)
    parameters = inspect.signature(function).parameters.values()
    defaults = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
    return {n: v for n, v in defaults.items() if _is_shown(v)} | bound


def _is_shown(value: Any) -> bool:
    return value is not inspect.Parameter.empty and value is not None and _is_plain(value)


def _is_plain(value: Any) -> bool:
    if isinstance(value, tuple):
        return all(_is_plain(entry) for entry in value)
    return isinstance(value, bool | int | float | str | Path | None)
