"""`store.json`: what a store was made of, and which fields keep two runs from sharing one."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from distill import atomic
from distill.labels.encoded import check_key
from distill.types import Space

FORMAT = 2


@dataclass(frozen=True, kw_only=True)
class TeacherMeta:
    """A teacher of a store.

    Attributes:
        name: path or hub id, as it was given.
        sha256: of its weights and configuration; empty where it is not known.
        licence: None where it does not say.
        space: what its own numbers mean, the name of a `Space`.
        preprocessing: what turns an image into its input (resize rule, size, ...).
        lineage: what it was made of, as far as it tells.
    """

    name: str
    sha256: str
    licence: str | None
    space: str
    preprocessing: dict[str, Any]
    lineage: dict[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, kw_only=True)
class StoreMeta:
    """What a store was made of; two runs may share a store only where `differences` finds none.

    Attributes:
        teachers: most often one.
        image_limits: which images are not labelled.
        space: what the labels' numbers mean.
        strategy: how the teachers were asked.
        classes: names of the classes in the plane `classes`, from 1 on.
        helpers: the lineages of other models that took part, such as those that found sky.
        codec: how maps became bytes.
        error_bound: of the codec, relative to the range of a map.
        inference: what else the bytes depend on: batch size, dtype, threads, device.
        dataset: name of the image set.
        keys: number of images.
        keys_sha256: of the sorted keys, see `hash_keys`.
        shard_size: images per shard.
        versions: of the libraries that take part.
        format: of the store itself.
    """

    teachers: tuple[TeacherMeta, ...]
    image_limits: dict[str, Any]
    space: Space
    strategy: Any
    codec: dict[str, Any]
    error_bound: float
    inference: dict[str, Any]
    dataset: str
    keys: int
    keys_sha256: str
    shard_size: int
    classes: tuple[str, ...] = ()
    helpers: tuple[dict[str, Any], ...] = ()
    versions: dict[str, str] = field(default_factory=dict[str, str])
    format: int = FORMAT

    @property
    def teacher_names(self) -> str:
        """Of all teachers, for a sentence."""
        return " and ".join(teacher.name for teacher in self.teachers)

    @property
    def shards(self) -> int:
        """How many shards the finished store has."""
        return -(-self.keys // self.shard_size)

    def differences(self, other: "StoreMeta") -> dict[str, tuple[Any, Any]]:
        """The fields that are not equal: name -> (here, there).

        A teacher of the same hash is the same, by whatever path.
        """
        here, there = self._flat(), other._flat()
        for name in [name for name in here if name.endswith("_sha256") and here[name]]:
            if here[name] == there.get(name):
                named = name.removesuffix("_sha256")
                here.pop(named, None)
                there.pop(named, None)
        names = [*here, *(name for name in there if name not in here)]
        return {
            name: (here.get(name), there.get(name))
            for name in names
            if here.get(name) != there.get(name)
        }

    def write(self, root: Path) -> None:
        """Write `store.json` into `root`, a checksum of its fields behind them."""
        plain = self._plain()
        told = plain | {"sha256": _sha256(plain)}
        atomic.write_text(root / "store.json", json.dumps(told, indent=2) + "\n")

    def _plain(self) -> dict[str, Any]:
        return json.loads(json.dumps(asdict(self) | {"space": self.space.name}))

    def _flat(self) -> dict[str, Any]:
        """`_plain`, each teacher's fields by names of their own: teacher, teacher_sha256, ..."""
        plain = self._plain()
        teachers: list[dict[str, Any]] = plain.pop("teachers")
        flat: dict[str, Any] = {}
        for number, teacher in enumerate(teachers, start=1):
            prefix = "teacher" if len(teachers) == 1 else f"teacher{number}"
            del teacher["lineage"]
            flat[prefix] = teacher.pop("name")
            flat |= {f"{prefix}_{name}": value for name, value in teacher.items()}
        return flat | plain


def read_meta(root: Path) -> StoreMeta:
    """The `store.json` of a store.

    Raises:
        FileNotFoundError: `root` holds no store.
        ValueError: it was written by another version of this format, or damaged.
    """
    path = root / "store.json"
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} does not exist; {root} is not a label store; make one with `make pseudolabel` "
            f"or `distill run recipes.labels:plain --data PHOTOS --out {root}`"
        )
    try:
        plain = json.loads(path.read_text())
        digest = plain.pop("sha256", None)
        wanted, found = {entry.name for entry in fields(StoreMeta)}, set(plain)
        if plain.get("format") != FORMAT or wanted != found:
            raise ValueError(
                f"format {plain.get('format')}, fields {sorted(wanted ^ found)} differ"
            )
        if digest != _sha256(plain):
            raise ValueError("its checksum differs: it was changed after it was written")
        teachers = tuple(TeacherMeta(**teacher) for teacher in plain["teachers"])
        told = {"teachers": teachers, "space": Space[plain["space"]]}
        told |= {name: tuple(plain[name]) for name in ("classes", "helpers")}
        return StoreMeta(**plain | told)
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise ValueError(
            f"{path}: not a store of format {FORMAT} ({error}); label the images anew into another "
            "folder"
        ) from error


def _sha256(plain: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def hash_keys(keys: Iterable[str]) -> str:
    """SHA-256 of sorted keys, one per line.

    Raises:
        ValueError: a key that `check_key` refuses, keys out of order, or one that comes twice.
    """
    digest = hashlib.sha256()
    previous = ""
    for key in keys:
        check_key(key)
        if key <= previous:
            raise ValueError(f"key {key!r} follows {previous!r}; sort them and keep each once")
        digest.update(key.encode() + b"\n")
        previous = key
    return digest.hexdigest()
