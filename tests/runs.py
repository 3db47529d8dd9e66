"""Training runs in other processes: waited for, and compared by what they left."""

import hashlib
import json
import time
from collections.abc import Iterator, Mapping
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch

from distill import checkpoint
from distill.tracking import read_rows

SLOW: Any = {"data": {"slow": 0.02}}  # as long as reading takes, nothing else changes


def finish(*processes: BaseProcess) -> None:
    for process in processes:
        process.join(300)
        assert process.exitcode == 0


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def weights(out: Path) -> dict[str, str]:
    """Hashes of what a run ends with: exported student, trained weights, their average."""
    last = checkpoint.latest(out / "checkpoints")
    assert last is not None
    files = [out / "model" / "model.safetensors", *sorted(last.glob("*.safetensors"))]
    return {path.name: sha256(path) for path in files}


def state(out: Path) -> dict[str, str]:
    """Hashes of all that a run's last checkpoint holds but for the clock, and of what it exports.

    The sampler's whole state is the count of samples drawn.
    """
    last = checkpoint.latest(out / "checkpoints")
    assert last is not None
    fields = vars(checkpoint.load(last))
    held = {name: _hashed(fields[name]) for name in fields.keys() - {"seconds", "job"}}
    model = out / "model" / "model.safetensors"
    return held | ({"exported": sha256(model)} if model.is_file() else {})


def _hashed(value: Any) -> str:
    return hashlib.sha256("".join(_told(value)).encode()).hexdigest()


def _told(value: Any) -> Iterator[str]:
    """Everything in it, in order; tensors by every bit."""
    if isinstance(value, Mapping):
        for key in sorted(value, key=str):
            yield f"{key}:"
            yield from _told(value[key])
    elif isinstance(value, list | tuple):
        for entry in value:
            yield from _told(entry)
    elif isinstance(value, torch.Tensor):
        bits = value.contiguous().view(torch.uint8) if value.ndim else value[None].view(torch.uint8)
        digest = hashlib.sha256(bits.numpy().tobytes()).hexdigest()
        yield f"{value.dtype} {tuple(value.shape)} {digest};"
    else:
        yield f"{value!r};"


def rows(out: Path) -> list[dict[str, float]]:
    """Metrics without what depends on the clock."""
    clock = {"images_per_s", "wait_s", "seconds"}
    return [
        {name: value for name, value in row.items() if name not in clock}
        for row in read_rows(out / "metrics.jsonl")
    ]


def trained(folder: Path, step: int) -> dict[str, torch.Tensor]:
    return dict(checkpoint.load(folder / "checkpoints" / f"step-{step:09d}").model)


def wait_for_rows(out: Path, *, more: int) -> None:
    path = out / "metrics.jsonl"
    before = len(path.read_text().splitlines()) if path.exists() else 0
    for _ in range(6000):
        if path.exists():
            count = len(path.read_text().splitlines())
            before = min(before, count)  # a resumed run takes rows back
            if count >= before + more:
                return
        time.sleep(0.02)
    raise AssertionError("the run writes no metrics")


def quarantined(out: Path) -> list[str]:
    files = sorted(out.glob("quarantine*.jsonl"))
    lines = [json.loads(line) for path in files for line in path.read_text().splitlines()]
    assert all(line["reason"] == f"{line['key']}: damaged" for line in lines)
    return [line["key"] for line in lines]
