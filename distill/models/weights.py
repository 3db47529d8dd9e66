"""Weight files: strict loading, and official layouts translated to transformers' and back."""

import logging
import pickle
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

logger = logging.getLogger(__name__)


def load_strictly(
    from_pretrained: Callable[..., Any],
    source: str | Path,
    *,
    absent: str = "$.",
    surplus: bool = False,
) -> Any:
    """A transformers model in float32, with errors where transformers only warns.

    Args:
        from_pretrained: of the model's class.
        source: hub id or local directory.
        absent: a regular expression for names that a file may lack; by default none.
        surplus: whether a file may hold more than the model; then it is logged.

    Raises:
        OSError: `source` is not here, nor on the hub.
        ValueError: tensors are missing, left over or of another shape.
    """
    model, info = from_pretrained(
        source, dtype=torch.float32, output_loading_info=True, trust_remote_code=False
    )
    missing = sorted(name for name in info["missing_keys"] if not re.search(absent, name))
    unexpected, reshaped = sorted(info["unexpected_keys"]), sorted(info["mismatched_keys"])
    if missing or reshaped or (unexpected and not surplus):
        raise ValueError(
            f"weights in {source} do not fit its config.json: missing {missing[:3]}, "
            f"unexpected {unexpected[:3]}, of another shape {reshaped[:3]}"
        )
    if unexpected:
        logger.warning("%s: %d tensors without use: %s", source, len(unexpected), unexpected[:3])
    return model


@dataclass(frozen=True)
class Stored:
    """One official tensor: its shape, and the tensors in a transformers file it is the rows of."""

    shape: tuple[int, ...]
    names: tuple[str, ...]


Layout = dict[str, Stored]


def affine(official: str, shape: tuple[int, ...], *names: str) -> Layout:
    """Weight of `shape` and bias of `shape[0]`."""
    return {
        f"{official}.weight": Stored(shape, tuple(f"{name}.weight" for name in names)),
        f"{official}.bias": Stored(shape[:1], tuple(f"{name}.bias" for name in names)),
    }


def read_official(path: Path) -> dict[str, Tensor]:
    """The tensors of an official `.pth`, never anything else that a pickle could hold.

    Training checkpoints of the official code are unwrapped: `{"model": ...}`, `module.` in front.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a file of tensors.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}; give an official .pth")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise ValueError(f"{path} is not a .pth of plain tensors: {error}") from error
    if isinstance(state, dict) and isinstance(state.get("model"), dict):
        state = state["model"]
    if not isinstance(state, dict) or not all(isinstance(t, Tensor) for t in state.values()):
        raise ValueError(f"{path} does not hold a dictionary of tensors")
    return {key.removeprefix("module."): tensor for key, tensor in state.items()}


def to_transformers(state: Mapping[str, Tensor], wanted: Layout, source: str) -> dict[str, Tensor]:
    """An official state in the names of a transformers file; values untouched.

    Raises:
        ValueError: tensors are missing, left over or of another shape; `source` is named.
    """
    check(state, {name: stored.shape for name, stored in wanted.items()}, source)
    return {
        name: part.contiguous()
        for official, stored in wanted.items()
        for name, part in zip(stored.names, state[official].chunk(len(stored.names)), strict=True)
    }


def to_official(state: Mapping[str, Tensor], wanted: Layout, source: str) -> dict[str, Tensor]:
    """A transformers file's state in the official names; the inverse of `to_transformers`.

    Raises:
        ValueError: tensors are missing, left over or of another shape; `source` is named.
    """
    shapes = {
        name: (stored.shape[0] // len(stored.names), *stored.shape[1:])
        for stored in wanted.values()
        for name in stored.names
    }
    check(state, shapes, source)
    return {
        official: torch.cat([state[name] for name in stored.names])
        for official, stored in wanted.items()
    }


def check(state: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]], source: str) -> None:
    """Every tensor there, none left over, each of its shape.

    Raises:
        ValueError: otherwise; the first names are given.
    """
    missing, unexpected = sorted(shapes.keys() - state.keys()), sorted(state.keys() - shapes.keys())
    if missing or unexpected:
        raise ValueError(
            f"{source}: {len(missing)} tensors missing {missing[:3]}, "
            f"{len(unexpected)} unexpected {unexpected[:3]}"
        )
    for name, shape in shapes.items():
        if tuple(state[name].shape) != shape:
            raise ValueError(f"{source}: {name} is {tuple(state[name].shape)}, expected {shape}")
