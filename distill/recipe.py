"""A recipe by the name the user typed: load it, fill its parameters.

A recipe is a function `f(data, *, inputs...) -> Job`. `MODULE:FUNCTION` imports a module, of the
working folder too; `FILE.py:FUNCTION` loads a file. Values from the command line are parsed by
annotation. A parameter whose default is a dataclass stands for the fields of that, each to be set
by its own name; what is no parameter of the recipe may be a plain field of its job. Nothing else
can be set from outside. `Annotated[type, source, alternatives]` says where a value comes from and
what it might be instead; `explaining` prints that.
"""

import difflib
import importlib
import importlib.util
import inspect
import sys
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

from distill.datasets.remote import is_remote
from distill.job import Job

Recipe = Callable[..., Job]
_SCALARS = (bool, int, float, str, Path)
_MISSING = inspect.Parameter.empty


@dataclass(frozen=True)
class Setting:
    """What `--set NAME=VALUE` fills.

    Attributes:
        place: the parameter, and the fields on the way where that is a dataclass.
        hint: its annotation.
        value: its default; `inspect.Parameter.empty` where it has none.
    """

    place: tuple[str, ...]
    hint: Any
    value: Any

    @property
    def name(self) -> str:
        """By which it is set."""
        return self.place[-1]


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


def settings_of(recipe: Recipe) -> list[Setting]:
    """The parameters of `recipe` in their order, dataclasses opened.

    Raises:
        ValueError: two have one name.
    """
    hints = typing.get_type_hints(recipe, include_extras=True)
    entries = inspect.signature(recipe).parameters.values()
    found = [one for p in entries for one in _opened((p.name,), hints.get(p.name, str), p.default)]
    names = [setting.name for setting in found]
    if doubled := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"recipe {recipe.__name__!r} has two settings called {doubled[0]!r}")
    return found


def build(
    recipe: Recipe, *, data: Path | str | None, settings: Mapping[str, str]
) -> tuple[Job, dict[str, Any]]:
    """Call `recipe` with `settings` parsed by annotation, then set the job's own plain fields.

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
    known = {setting.name: setting for setting in settings_of(recipe)}
    inputs: dict[str, Any] = {}
    if "data" in known:
        if data is not None:
            inputs["data"] = _data(data, known["data"].hint, recipe.__name__)
        elif known["data"].value is _MISSING:
            raise ValueError(f"recipe {recipe.__name__!r} reads data; give its folder with --data")
    parameters = inspect.signature(recipe).parameters
    for name, text in settings.items():
        if name in known:
            first, *rest = known[name].place
            whole = inputs.get(first, parameters[first].default)
            inputs[first] = _changed(whole, rest, _parse(text, known[name].hint, name))
    required = {name for name, setting in known.items() if setting.value is _MISSING}
    if missing := sorted(required - inputs.keys()):
        name = missing[0]
        raise ValueError(f"recipe {recipe.__name__!r} needs {name!r}; give --set {name}=VALUE")
    job = recipe(**inputs)
    if not (is_dataclass(job) and isinstance(job, Job)):
        made = type(job).__name__
        raise ValueError(f"{recipe.__name__!r} returns {made}, not a job; try `distill list`")
    plain, changes = plain_fields(job), {}
    for name in settings.keys() - known.keys():
        if name not in plain:
            raise ValueError(f"nothing is called {name!r} here{_nearest(name, [*known, *plain])}")
        changes[name] = _parse(settings[name], plain[name], name)
    return replace(job, **changes), inputs  # type: ignore[type-var]  # every Job is a dataclass


def plain_fields(job: Job) -> dict[str, Any]:
    """The fields of `job` that a text can fill, by name, and their annotations."""
    hints = typing.get_type_hints(type(job), include_extras=True)
    return {f.name: hints[f.name] for f in fields(job) if _is_plain(hints[f.name])}  # type: ignore[arg-type]  # every Job is a dataclass


def _opened(place: tuple[str, ...], hint: Any, value: Any) -> Iterator[Setting]:
    if not is_dataclass(value) or isinstance(value, type):
        yield Setting(place, hint, value)
        return
    hints = typing.get_type_hints(type(value), include_extras=True)
    for field in fields(value):
        inner = getattr(value, field.name)
        yield from _opened((*place, field.name), hints[field.name], inner)


def _changed(whole: Any, place: list[str], value: Any) -> Any:
    """`whole` with what lies at `place` in it replaced."""
    if not place:
        return value
    inner = _changed(getattr(whole, place[0]), place[1:], value)
    return replace(whole, **{place[0]: inner})


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


def _is_plain(hint: Any) -> bool:
    return any(_reader(kind) is not None for kind in _alternatives(hint))


def _alternatives(hint: Any) -> tuple[Any, ...]:
    """The types a value may have: `Annotated` and unions opened."""
    if get_origin(hint) is Annotated:
        return _alternatives(get_args(hint)[0])
    if get_origin(hint) in (types.UnionType, typing.Union):
        return tuple(kind for arg in get_args(hint) for kind in _alternatives(arg))
    return (hint,)


def _reader(kind: Any) -> Callable[[str], Any] | None:
    """What makes a value of this type of a text, or raises ValueError; None where nothing does."""
    if get_origin(kind) is Literal:
        words = [word for word in get_args(kind) if isinstance(word, str)]
        return lambda text: words[words.index(text)]
    if get_origin(kind) is tuple and set(get_args(kind)) <= {int, float, ...}:
        entry = get_args(kind)[0]
        return lambda text: _numbers(text, entry, None if ... in get_args(kind) else kind)
    if kind is bool:
        return lambda text: bool(["false", "true"].index(text.lower()))
    return kind if kind in _SCALARS else None


def _numbers(text: str, entry: type, kind: Any) -> tuple[Any, ...]:
    """Numbers with commas between, as many as the type `kind` of a tuple has."""
    values = tuple(entry(part) for part in text.split(",") if part.strip())
    if kind is not None and len(values) != len(get_args(kind)):
        raise ValueError(f"not {len(get_args(kind))} numbers")
    return values


def _parse(text: str, hint: Any, name: str) -> Any:
    kinds = _alternatives(hint)
    if types.NoneType in kinds and text.lower() in {"none", ""}:
        return None
    first = [kind for kind in _SCALARS if kind in kinds]  # a whole number stays one
    for kind in [*first, *(kind for kind in kinds if kind not in _SCALARS)]:
        if (reader := _reader(kind)) is not None:
            try:
                return reader(text)
            except ValueError:
                continue
    raise ValueError(f"--set {name}={text}: not a valid {' or '.join(map(_name, kinds))}")


def _name(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return " or ".join(map(str, get_args(kind)))
    return str(kind) if get_origin(kind) else getattr(kind, "__name__", str(kind))


def _nearest(name: str, known: Iterable[str]) -> str:
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(names)}"
