"""A recipe by the name the user typed: load it, fill its parameters, show what it decides.

A recipe is a function `f(data, *, inputs...) -> Job`. `MODULE:FUNCTION` imports a module, of the
working folder too; `FILE.py:FUNCTION` loads a file. Values from the command line are parsed by
annotation; what is no parameter of the recipe may be a scalar field of its job. Nothing else can be
set from outside.
"""

import dataclasses
import difflib
import importlib
import importlib.util
import inspect
import sys
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

from distill.datasets.remote import is_remote
from distill.job import Job, describe

Recipe = Callable[..., Job]
_SCALARS = (bool, int, float, str, Path)


def load(name: str) -> Recipe:
    """The function behind `MODULE:FUNCTION` or `FILE.py:FUNCTION`.

    Raises:
        ValueError: the name has no colon, or the module has no such recipe (the nearest is named).
        FileNotFoundError: there is no such module or file.
    """
    place, _, function = name.partition(":")
    if not function:
        raise ValueError(f"recipe {name!r} is not MODULE:FUNCTION; try `distill list`")
    module = _load_file(Path(place)) if place.endswith(".py") else _load_module(place)
    recipes = {recipe.__name__: recipe for recipe in recipes_of(module)}
    if function not in recipes:
        raise ValueError(f"{place} has no recipe {function!r}{_nearest(function, recipes)}")
    return recipes[function]


def recipes_of(module: types.ModuleType) -> Iterator[Recipe]:
    """The public functions that `module` itself defines."""
    for name, value in vars(module).items():
        defined_here = getattr(value, "__module__", None) == module.__name__
        if inspect.isfunction(value) and defined_here and not name.startswith("_"):
            yield value


def build(
    recipe: Recipe, *, data: Path | str | None, settings: dict[str, str]
) -> tuple[Job, dict[str, Any]]:
    """Call `recipe` with `settings` parsed by annotation, then set the job's own scalar fields.

    Args:
        recipe: to call.
        data: for its parameter of that name, a URL as a string; None where it has a default.
        settings: texts by name.

    Returns:
        The job, and the inputs the recipe was called with.

    Raises:
        ValueError: `--data` is missing or a URL that this recipe does not read, a setting is
            unknown or does not parse, or `recipe` returns no job.
    """
    parameters = inspect.signature(recipe).parameters
    hints = typing.get_type_hints(recipe, include_extras=True)
    inputs: dict[str, Any] = {}
    if "data" in parameters:
        if data is not None:
            inputs["data"] = _data(data, hints.get("data", str), recipe.__name__)
        elif parameters["data"].default is inspect.Parameter.empty:
            raise ValueError(f"recipe {recipe.__name__!r} reads data; give its folder with --data")
    mine = {key: value for key, value in settings.items() if key in parameters}
    inputs |= {key: _parse(value, hints.get(key, str), key) for key, value in mine.items()}
    required = {key for key, entry in parameters.items() if entry.default is entry.empty}
    if missing := sorted(required - inputs.keys()):
        name = missing[0]
        raise ValueError(f"recipe {recipe.__name__!r} needs {name!r}; give --set {name}=VALUE")
    job = recipe(**inputs)
    if not (dataclasses.is_dataclass(job) and isinstance(job, Job)):
        made = type(job).__name__
        raise ValueError(f"{recipe.__name__!r} returns {made}, not a job; try `distill list`")
    fields = {f.name: f for f in dataclasses.fields(job) if _is_scalar(f.type)}  # type: ignore[arg-type]  # every Job is a dataclass
    changes = {}
    for key, value in settings.items():
        if key in mine:
            continue
        if key not in fields:
            raise ValueError(
                f"nothing is called {key!r} here{_nearest(key, [*parameters, *fields])}"
            )
        changes[key] = _parse(value, fields[key].type, key)
    return dataclasses.replace(job, **changes), inputs  # type: ignore[type-var]  # likewise


def explain(recipe: Recipe, job: Job, inputs: Mapping[str, Any]) -> str:
    """Docstring, parameters and every resolved value of `job`, with the sources they name.

    Args:
        recipe: that made it.
        job: see there.
        inputs: what the recipe was called with; the others have their defaults.
    """
    hints = typing.get_type_hints(recipe, include_extras=True)
    lines = [inspect.getdoc(recipe) or "", "", "parameters (--set NAME=VALUE):"]
    for name, parameter in inspect.signature(recipe).parameters.items():
        value = inputs.get(name, parameter.default)
        told = "required" if value is inspect.Parameter.empty else describe(value)
        lines.append(f"  {name} = {told}{_source(hints.get(name))}")
    lines += ["", f"{type(job).__name__}:"]
    types_ = typing.get_type_hints(type(job), include_extras=True)
    for field in dataclasses.fields(job):  # type: ignore[arg-type]  # every Job is a dataclass
        value = describe(getattr(job, field.name))
        lines.append(f"  {field.name} = {_indent(value)}{_source(types_[field.name])}")
    return "\n".join(lines)


def _data(data: Path | str, hint: Any, name: str) -> Path | str:
    """A URL for recipes that say `str` of their data; anything else as a path.

    Raises:
        ValueError: a URL for a recipe that reads folders.
    """
    if not is_remote(str(data)):
        return Path(data)
    if str not in _alternatives(hint):
        raise ValueError(
            f"recipe {name!r} reads a folder, not {data}; fetch it first, or take a recipe that "
            "reads URLs, such as recipes.student:vits"
        )
    return str(data)


def _load_module(place: str) -> types.ModuleType:
    # for good: a recipe and its parts may import more when the job runs. Last: it hides nothing
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.append(here)
    try:
        return importlib.import_module(place)
    except ModuleNotFoundError as error:
        if error.name is None or not place.startswith(error.name):
            raise
        raise FileNotFoundError(f"no module {place!r}; try `distill list`") from error


def _load_file(path: Path) -> types.ModuleType:
    if not path.is_file():
        raise FileNotFoundError(f"no recipe file {path}")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _is_scalar(hint: Any) -> bool:
    return any(kind in _SCALARS for kind in _alternatives(hint))


def _alternatives(hint: Any) -> tuple[Any, ...]:
    """The types a value may have: `Annotated` and unions opened."""
    if get_origin(hint) is Annotated:
        return _alternatives(get_args(hint)[0])
    if get_origin(hint) in (types.UnionType, typing.Union):
        return tuple(kind for arg in get_args(hint) for kind in _alternatives(arg))
    return (hint,)


def _parse(text: str, hint: Any, name: str) -> Any:
    kinds = _alternatives(hint)
    if types.NoneType in kinds and text.lower() in {"none", ""}:
        return None
    for kind in (kind for kind in _SCALARS if kind in kinds):
        if kind is bool and text.lower() in {"true", "false"}:
            return text.lower() == "true"
        if kind is not bool:
            try:
                return kind(text)
            except ValueError:
                continue
    wanted = " or ".join(getattr(kind, "__name__", str(kind)) for kind in kinds)
    raise ValueError(f"--set {name}={text}: not a valid {wanted}")


def _nearest(name: str, known: Iterable[str]) -> str:
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(names)}"


def _source(hint: Any) -> str:
    """What an `Annotated` hint says about where the number comes from."""
    if get_origin(hint) is not Annotated:
        return ""
    return "".join(f"   # {note}" for note in get_args(hint)[1:] if isinstance(note, str))


def _indent(value: Any, depth: int = 2) -> str:
    """Plain JSON, one entry a line."""
    pad = "  " * depth
    if isinstance(value, dict):
        return "".join(f"\n{pad}{key}: {_indent(entry, depth + 1)}" for key, entry in value.items())
    if isinstance(value, list):
        return "".join(f"\n{pad}- {_indent(entry, depth + 1)}" for entry in value)
    return str(value)
