"""What `distill labels` answers: whether a store is sound, how it was made, what it holds."""

from pathlib import Path
from typing import Any

from distill.job import PartialFailure
from distill.labels.shards import tar_path
from distill.labels.store import LabelStore


def verify(path: Path) -> int:
    """Read every byte of a store and check it.

    Returns:
        The number of labels.

    Raises:
        PartialFailure: damaged and missing shards, each with its reason.
        FileNotFoundError: there is no store.
    """
    store = LabelStore(path, allow_incomplete=True)
    failures = {
        str(tar_path(path, number)): "not written yet; finish the label job with --resume"
        for number in store.missing()
    }
    for fault in store.damage():
        failures[str(fault.path)] = str(fault).removeprefix(f"{fault.path}").lstrip(": ")
    if failures:
        raise PartialFailure(failures)
    return len(store)


def stats(path: Path) -> dict[str, Any]:
    """How a store was made and `LabelStore.stats`, also of an unfinished store."""
    store = LabelStore(path, allow_incomplete=True)
    meta = store.meta
    made = {
        "teachers": [
            {"name": one.name, "sha256": one.sha256, "licence": one.licence}
            for one in meta.teachers
        ],
        "space": meta.space.value,
        "strategy": meta.strategy,
        "error_bound": meta.error_bound,
        "images": meta.keys,
    }
    return made | store.stats()
