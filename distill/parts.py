"""Tensors in a folder that several processes have written, each those rows that it holds.

`model-00001-of-00002.safetensors` is what the first of two processes wrote of `model`. Its
metadata has for each tensor of which it holds only rows where they begin and how many there are
in all. The first process alone writes tensors that are whole on all of them.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

from distill import atomic


def file_name(kind: str, part: int, of: int, suffix: str) -> str:
    """Of part number `part`, from 0; read in order they are in order."""
    return f"{kind}-{part + 1:05d}-of-{of:05d}.{suffix}"


def write(folder: Path, kind: str, tensors: Mapping[str, Tensor], *, part: int, of: int) -> None:
    """Write what this process holds of `tensors`, durably; every process calls this."""
    mine: dict[str, Tensor] = {}
    rows: dict[str, tuple[int, int]] = {}
    for name, tensor in tensors.items():
        held, begin = _held(tensor)
        if isinstance(tensor, DTensor):
            if len(held) == 0:
                continue
            rows[name] = begin, len(tensor)
        elif part > 0:
            continue
        # safetensors wants each to have memory of its own, in order
        mine[name] = torch.empty(held.shape, dtype=held.dtype).copy_(held)
    path = folder / file_name(kind, part, of, "safetensors")
    save_file(mine, path, {"rows": json.dumps(rows)} if rows else None)
    atomic.fsync(path)


def fill(tensor: Tensor, stored: Mapping[str, Tensor], name: str) -> None:
    """Copy what is stored as `name` into `tensor`; for one in pieces only its rows are read.

    Raises:
        ValueError: it has another shape.
    """
    whole = stored.shape(name) if isinstance(stored, Stored) else stored[name].shape
    if whole != tensor.shape:
        raise ValueError(f"{name} is stored as {[*whole]} where {[*tensor.shape]} is wanted")
    held, begin = _held(tensor)
    if isinstance(tensor, DTensor) and isinstance(stored, Stored):
        held.copy_(stored.rows(name, begin, begin + len(held)))
    elif isinstance(tensor, DTensor):
        held.copy_(stored[name][begin : begin + len(held)])
    else:
        held.copy_(stored[name])


class Stored(Mapping[str, Tensor]):
    """Tensors by name, each read when it is asked for, whole or in part.

    Args:
        files: that were written together, in order.

    Raises:
        ValueError: rows of a tensor are missing.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        self._pieces: dict[str, list[_Piece]] = {}
        for path in files:
            for name, piece in _pieces(path):
                self._pieces.setdefault(name, []).append(piece)
        for name, pieces in self._pieces.items():
            ends = [0, *(piece.begin + len(piece) for piece in pieces)]
            if [*(piece.begin for piece in pieces), pieces[0].of] != ends:
                raise ValueError(
                    f"{files[0].parent}: rows of {name} are missing in "
                    f"{[path.name for path in files]}; go on from another checkpoint"
                )

    def __iter__(self) -> Iterator[str]:
        return iter(self._pieces)

    def __len__(self) -> int:
        return len(self._pieces)

    def __getitem__(self, name: str) -> Tensor:
        pieces = [piece.file.get_tensor(name) for piece in self._pieces[name]]
        return pieces[0] if len(pieces) == 1 else torch.cat(pieces)

    def shape(self, name: str) -> torch.Size:
        """Of the whole tensor."""
        first = self._pieces[name][0]
        return torch.Size((first.of, *first.shape[1:]) if first.shape else ())

    def rows(self, name: str, begin: int, end: int) -> Tensor:
        """Those rows, from as few files as hold them."""
        found = [torch.empty((0, *self.shape(name)[1:]))]
        for piece in self._pieces[name]:
            low, high = (min(max(n - piece.begin, 0), len(piece)) for n in (begin, end))
            if low < high:
                found.append(piece.file.get_slice(name)[low:high])
        return found[1] if len(found) == 2 else torch.cat(found)


@dataclass(frozen=True)
class _Piece:
    """Rows of a tensor in one file: where they begin, of how many, and their shape."""

    begin: int
    of: int
    shape: tuple[int, ...]
    file: Any

    def __len__(self) -> int:
        return self.shape[0] if self.shape else 1


def _pieces(path: Path) -> Iterator[tuple[str, _Piece]]:
    file: Any = safe_open(path, framework="pt")
    rows = json.loads((file.metadata() or {}).get("rows", "{}"))
    for name in file.keys():  # noqa: SIM118 - it is no mapping
        shape = tuple(file.get_slice(name).get_shape())
        begin, of = rows.get(name, (0, shape[0] if shape else 1))
        yield name, _Piece(begin, of, shape, file)


def _held(tensor: Tensor) -> tuple[Tensor, int]:
    """What this process holds of `tensor`, and the number of its first row."""
    if not isinstance(tensor, DTensor):
        return tensor.detach(), 0
    _, begins = compute_local_shape_and_global_offset(
        tensor.shape, tensor.device_mesh, tensor.placements
    )
    return tensor.to_local().detach(), begins[0]
