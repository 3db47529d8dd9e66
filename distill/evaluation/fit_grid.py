"""Which of the measured pixels a protocol fits: some published fits see a reduced image only."""

import math

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from torch.nn import functional


def nearest_within(measured: Bool[Tensor, "h w"], longest: int) -> Int[Tensor, " n"]:
    """Flat indices of what is measured where the image is reduced to `longest` pixels.

    PyTorch's nearest resampling by one factor for both sides, which takes the upper left pixel, as
    in Marigold's evaluation of ETH3D. An image that is small enough is whole.
    """
    height, width = measured.shape
    factor = longest / max(height, width)
    if factor >= 1:
        return measured.flatten().nonzero().squeeze(1)
    rows, cols = (_nearest(side, factor) for side in (height, width))
    kept = rows[:, None] * width + cols
    return kept[measured.flatten()[kept]]


def nearest_of_cells(measured: Bool[Tensor, "h w"], side: int) -> Int[Tensor, " n"]:
    """Flat indices of one measured pixel of each of `side` x `side` cells: nearest to its middle.

    Looked for in the window of the rounded-up size of a cell that starts at the rounded place where
    the cell does; of equally near pixels the first. A cell without any has none. As MoGe's
    evaluation does, so that holes in the truth cost no cells.
    """
    height, width = measured.shape
    rows, row_far = _windows(height, side)
    cols, col_far = _windows(width, side)
    inside = (rows >= 0) & (rows < height), (cols >= 0) & (cols < width)
    rows, cols = rows.clamp(0, height - 1), cols.clamp(0, width - 1)
    found = []
    for row, far, row_inside in zip(rows, row_far, inside[0], strict=True):  # bounds the memory
        seen = measured[row][:, cols] & row_inside[:, None, None] & inside[1]
        distance = torch.where(seen, far[:, None, None] + col_far, torch.inf)
        flat = (row[:, None, None] * width + cols).transpose(0, 1).flatten(1)
        least, place = distance.transpose(0, 1).flatten(1).min(dim=1)
        found.append(flat.gather(1, place[:, None])[:, 0][least.isfinite()])
    return torch.cat(found)


def _nearest(side: int, factor: float) -> Int[Tensor, " n"]:
    places = torch.arange(side, dtype=torch.float64)[None, None]
    return functional.interpolate(places, scale_factor=factor, mode="nearest")[0, 0].long()


def _windows(length: int, cells: int) -> tuple[Int[Tensor, "cells n"], Tensor]:
    """For each cell the pixels of its window, and their squared distance from its middle."""
    size = max(1.0, length / cells)
    middle = (torch.arange(cells, dtype=torch.float64) + 0.5) * length / cells
    first = (middle - size / 2).round().long()
    pixels = first[:, None] + torch.arange(math.ceil(size))
    return pixels, (pixels + 0.5 - middle[:, None]).square()
