"""What a model or its labels were made of, back to the first data set, and on what terms.

A trained model has its lineage beside its weights, in `lineage.json`; a label store keeps that of
its teachers. So a chain of teachers and students is known to its root. What a file does not say
stays unknown, and unknown terms are refused where commercial use is asked for.
"""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from huggingface_hub import try_to_load_from_cache
from transformers.utils.hub import cached_file

from distill import licences
from distill.licences import CommercialUse, commercial_use

FILE = "lineage.json"
KINDS = ("model", "labels", "data set")
_FORMAT = 1
_DEEPEST, _MOST, _LONGEST = 64, 10_000, 1000  # steps, parts, characters: for files of other people


@dataclass(frozen=True, kw_only=True)
class Lineage:
    """A model, a store of labels or a data set, and what it was made from.

    Attributes:
        kind: one of `KINDS`.
        name: path, hub id, or the data set's name.
        sha256: of a model's weights and configuration, of a store's `store.json`.
        licence: its own, by its name on the hub; None where it has not said.
        made_from: each once.

    Raises:
        ValueError: a field is not what it should be.
    """

    kind: str
    name: str
    sha256: str | None = None
    licence: str | None = None
    made_from: tuple["Lineage", ...] = ()

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"lineage: kind {self.kind!r}; choose one of {', '.join(KINDS)}")
        for field, text in (("name", self.name), ("licence", self.licence)):
            if text is not None and not (text.isprintable() and 0 < len(text) <= _LONGEST):
                raise ValueError(f"lineage: {field} {text[:80]!r} is no line of text")
        if self.sha256 is not None and not re.fullmatch("[0-9a-f]{64}", self.sha256):
            raise ValueError(f"lineage: sha256 {self.sha256[:80]!r} of {self.name} is no SHA-256")
        object.__setattr__(self, "made_from", tuple(dict.fromkeys(self.made_from)))

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"

    def chains(self) -> Iterator[tuple["Lineage", ...]]:
        """This and everything upstream, each at the end of the way that leads to it."""
        yield (self,)
        for part in self.made_from:
            for chain in part.chains():
                yield (self, *chain)

    def as_json(self) -> dict[str, Any]:
        """As plain JSON; `from_json` is the inverse."""
        return {"format": _FORMAT, **json.loads(json.dumps(asdict(self)))}


def from_json(plain: Any) -> Lineage:
    """A lineage from what `as_json` gave.

    Raises:
        ValueError: it is of another format, or anything is missing, left over or of a wrong kind.
    """
    if not isinstance(plain, dict) or plain.get("format") != _FORMAT:
        found = plain.get("format") if isinstance(plain, dict) else plain
        raise ValueError(f"lineage: not of format {_FORMAT} but {str(found)[:80]!r}")
    counter = iter(range(_MOST))
    return _parsed({name: plain[name] for name in plain if name != "format"}, 0, counter)


def read(path: Path) -> Lineage:
    """The lineage in a file.

    Raises:
        ValueError: it is damaged.
    """
    try:
        return from_json(json.loads(path.read_text()))
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{path}: {error}; fetch the model again, or remove that file: its origin then counts "
            "as unknown"
        ) from error


def of_model(name: str | Path, *, sha256: str | None = None, licence: str | None = None) -> Lineage:
    """What is known of a model: its `lineage.json`, or else its card's licence alone.

    A licence in its card overrides the file's, for the card is what a person edits.

    Args:
        name: a folder, or a hub id of which the local copy or the hub is asked.
        sha256: of its weights and configuration, where that was computed already.
        licence: where neither file nor card tells.

    Raises:
        ValueError: `lineage.json` is damaged.
    """
    file, said = _file(name, FILE), licences.stated(_file(name, "README.md"))
    found = read(file) if file else Lineage(kind="model", name=str(name))
    if file and (said or "").lower() == "other":  # the card that goes with the file
        said = None
    own = said or found.licence or (licences.published(str(name)) if not file else None)
    told = None if file else licence
    return replace(found, name=str(name), sha256=sha256 or found.sha256, licence=own or told)


def require_commercial(lineage: Lineage, *, accept: Iterable[str] = ()) -> None:
    """Let pass only what may be used commercially all the way up.

    What was made here from known parts is asked for their terms; its own count when it has some.

    Args:
        lineage: of what is to be made.
        accept: names of parts whose terms a person has read and found to allow the use.

    Raises:
        ValueError: each part that is non-commercial, unclear or unknown, with the way to it; or a
            name in `accept` that is no part.
    """
    chains, accept = list(lineage.chains())[1:], set(accept)
    names = sorted({chain[-1].name for chain in chains})
    if strangers := sorted(accept - set(names)):
        raise ValueError(
            f"accept: {', '.join(strangers)} is no part of this model; there are {', '.join(names)}"
        )
    refused: dict[Lineage, str] = {}
    for chain in chains:
        part = chain[-1]
        inherits = part.licence is None and part.made_from
        allowed = commercial_use(part.licence) is CommercialUse.YES
        if not (inherits or allowed or part.name in accept):
            refused.setdefault(part, _way(chain))
    if refused:
        ways = "\n".join(f"  {way}" for way in refused.values())
        raise ValueError(
            f"commercial use is asked for, but the terms of {len(refused)} part(s) do not allow it "
            f"or are not known:\n{ways}\nLeave them out. Where they do allow it, say so: in the "
            "`license` of the README.md in a model's or data set's folder (as on the hub), or by "
            'name: --set accept="NAME, NAME"'
        )


def _way(chain: tuple[Lineage, ...]) -> str:
    part = chain[-1]
    use = commercial_use(part.licence)
    terms = f"{part.licence}, {use.value}" if part.licence else "no licence known"
    return " <- ".join(["this model", *map(str, chain[1:])]) + f" ({terms})"


def _parsed(plain: Any, depth: int, counter: Iterator[int]) -> Lineage:
    fields = {"kind", "name", "sha256", "licence", "made_from"}
    if not isinstance(plain, dict) or set(plain) != fields:
        found = sorted(map(str, plain)) if isinstance(plain, dict) else plain
        raise ValueError(f"lineage: {str(found)[:200]} in place of the fields {sorted(fields)}")
    if depth > _DEEPEST or next(counter, None) is None:
        raise ValueError(f"lineage: more than {_DEEPEST} steps or {_MOST} parts")
    for name in ("kind", "name", "sha256", "licence"):
        optional = name in ("sha256", "licence")
        if not isinstance(plain[name], str) and not (optional and plain[name] is None):
            raise ValueError(f"lineage: {name} is {str(plain[name])[:80]!r}, not a text")
    if not isinstance(plain["made_from"], list):
        raise ValueError(f"lineage: made_from of {plain['name'][:80]!r} is no list")
    parts = tuple(_parsed(part, depth + 1, counter) for part in plain["made_from"])
    texts = {name: plain[name] for name in ("kind", "name", "sha256", "licence")}
    return Lineage(**texts, made_from=parts)


def _file(model: str | Path, name: str) -> Path | None:
    """A file of a directory or of the hub's local copy; None where there is none."""
    if Path(model).is_dir():
        return path if (path := Path(model) / name).is_file() else None
    if Path(model).exists() or not re.fullmatch(r"[\w.-]+/[\w.-]+", str(model)):
        return None  # a single file, or no hub id
    if not isinstance(try_to_load_from_cache(str(model), "config.json"), str):
        return None  # never loaded here: to ask a hub that cannot be reached takes a minute
    try:
        found = cached_file(
            str(model),
            name,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
        )
    except OSError:  # the hub knows no such model
        return None
    return None if found is None else Path(found)
