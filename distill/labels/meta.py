"""`store.json`: what a store was made of, and which fields keep two runs from sharing one."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from distill import atomic
from distill.labels.shards import check_key
from distill.types import Space


@dataclass(frozen=True, kw_only=True)
class StoreMeta:
    """What a store was made of; two runs may share a store only where `differences` finds none.

    Attributes:
        teacher: name or path, as it was given.
        teacher_sha256: of its weights and configuration; empty where it is not known.
        licence: of the teacher; None where it does not say.
        preprocessing: what turns an image into the teacher's input (resize rule, size, ...).
        space: what the labels' numbers mean.
        strategy: how the teacher was asked.
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

    teacher: str
    teacher_sha256: str
    licence: str | None
    preprocessing: dict[str, Any]
    space: Space
    strategy: Any
    codec: dict[str, Any]
    error_bound: float
    inference: dict[str, Any]
    dataset: str
    keys: int
    keys_sha256: str
    shard_size: int
    versions: dict[str, str] = field(default_factory=dict[str, str])
    format: int = 1

    @property
    def shards(self) -> int:
        """How many shards the finished store has."""
        return -(-self.keys // self.shard_size)

    def differences(self, other: "StoreMeta") -> dict[str, tuple[Any, Any]]:
        """The fields that are not equal: name -> (here, there).

        A teacher of the same hash is the same, by whatever path.
        """
        here, there = self._plain(), other._plain()
        if self.teacher_sha256 and self.teacher_sha256 == other.teacher_sha256:
            del here["teacher"]
        return {name: (here[name], there[name]) for name in here if here[name] != there[name]}

    def write(self, root: Path) -> None:
        """Write `store.json` into `root`."""
        atomic.write_text(root / "store.json", json.dumps(self._plain(), indent=2) + "\n")

    def _plain(self) -> dict[str, Any]:
        return asdict(self) | {"space": self.space.name}


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
        wanted, found = {entry.name for entry in fields(StoreMeta)}, set(plain)
        if plain.get("format") != 1 or wanted != found:
            raise ValueError(
                f"format {plain.get('format')}, fields {sorted(wanted ^ found)} differ"
            )
        return StoreMeta(**plain | {"space": Space[plain["space"]]})
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise ValueError(f"{path}: not a store of format 1 ({error})") from error


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
