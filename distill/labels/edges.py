"""Whether the steps of a map lie where its image has edges: what a shifted label gives away."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int64
from scipy import fft as scipy_fft  # pyright: ignore[reportMissingTypeStubs]
from torch import Tensor
from torch.nn.functional import avg_pool2d, max_pool2d

_fft: Any = torch.fft  # ships no types
_REACH = 8  # pixels that map and image are moved against each other
_CHANCE = 6  # from which distance on what coincides does so by chance
_AROUND = 15  # pixels over which edges are compared with their surroundings
_FAINT = 0.02  # of the spread: no step


@dataclass(frozen=True)
class EdgeMatch:
    """How the edges of maps and images lie to each other.

    Attributes:
        best: in [0, 1]: 1 - chance / coincidence, where coincidence is how much image edge lies
            under the map's edges where they fit best, and chance the same with the map moved by 6
            to 8 pixels.
        score: `best` times what the map's own place has of it, from 0, chance, to 1.
        row: pixels down that the map must be moved for that.
        column: the same to the right.
    """

    best: Float[Tensor, " b"]
    score: Float[Tensor, " b"]
    row: Int64[Tensor, " b"]
    column: Int64[Tensor, " b"]


def edge_match(image: Float[Tensor, "i 3 h w"], values: Float[Tensor, "b h w"]) -> EdgeMatch:
    """Compare the edges of `values` with those of `image`, at their place and moved by up to 8.

    Free of the scale, shift and sign of `values`, and of each colour's own scale and shift, so that
    an inverted map cannot be told and a network's input will do for the image. Only edges that
    stand out from their surroundings count, wherever they are: a strong texture in one corner does
    not decide alone. Not for maps that are blurred over more than a few pixels.

    Args:
        image: of each map, or one for all; of their size.
        values: finite; in any space.

    Returns:
        The match; all 0 for a map without edges or smaller than 32 pixels on a side.
    """
    size, height, width = values.shape
    if min(height, width) < 4 * _REACH:
        none = values.new_zeros(size)
        return EdgeMatch(none, none, none.long(), none.long())
    steps = _ridges(_steepness(values[:, None].float()))
    inside = torch.zeros_like(steps)
    inside[:, _REACH:-_REACH, _REACH:-_REACH] = 1
    edges = _outstanding(_steepness(image.float()))
    together = _moved(steps * inside, edges)
    rows, columns = (m.abs() for m in _offsets(values.device))
    chance = together[:, torch.maximum(rows, columns) >= _CHANCE].mean(1)
    here = together[:, (rows == 0) & (columns == 0)][:, 0]
    most, place = together.flatten(1).max(1)
    found = most > chance
    gain = torch.where(found, most - chance, 1.0)
    best = torch.where(found, gain / torch.where(found, most, 1.0), 0.0)
    row, column = (torch.where(found, m.flatten()[place], 0) for m in _offsets(values.device))
    return EdgeMatch(best, best * ((here - chance) / gain).clamp(0, 1), row, column)


def fast_side(side: int) -> int:
    """The next length that an FFT of real numbers is fast for."""
    fft: Any = scipy_fft  # ships no types
    return fft.next_fast_len(side, real=True)


def _offsets(device: torch.device) -> tuple[Tensor, Tensor]:
    reach = torch.arange(-_REACH, _REACH + 1, device=device)
    row, column = torch.meshgrid(reach, reach, indexing="ij")
    return row, column


def _steepness(maps: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 2 h w"]:
    """Absolute central differences across and down, each the mean over channels of spread 1."""
    spread = maps.flatten(2).std(2)
    unit = maps / torch.where(spread > 0, spread, 1.0)[..., None, None]
    across, down = torch.zeros_like(unit), torch.zeros_like(unit)
    across[..., 1:-1] = (unit[..., 2:] - unit[..., :-2]).abs()
    down[..., 1:-1, :] = (unit[..., 2:, :] - unit[..., :-2, :]).abs()
    return torch.stack([across.mean(1), down.mean(1)], 1)


def _ridges(steepness: Float[Tensor, "b 2 h w"]) -> Float[Tensor, "b h w"]:
    """Edges thinned to the steepest pixel along their direction, as far as they stand out."""
    across, down = steepness.unbind(1)
    along_row = max_pool2d(across, (1, 5), 1, (0, 2))
    along_column = max_pool2d(down, (5, 1), 1, (2, 0))
    top = ((across >= down) & (across == along_row)) | ((down > across) & (down == along_column))
    return torch.where(top, _outstanding(steepness), 0.0)


def _outstanding(steepness: Float[Tensor, "b 2 h w"]) -> Float[Tensor, "b h w"]:
    """In [0, 1): strong where an edge is much steeper than what lies around it."""
    strength = steepness.square().sum(1).sqrt()
    half = _AROUND // 2
    row = avg_pool2d(strength, (1, _AROUND), 1, (0, half), count_include_pad=False)
    around = avg_pool2d(row, (_AROUND, 1), 1, (half, 0), count_include_pad=False)
    return (strength - 1.5 * around).clamp(min=0) / (strength + around + _FAINT)


def _moved(steps: Float[Tensor, "b h w"], edges: Float[Tensor, "i h w"]) -> Float[Tensor, "b r r"]:
    """Sum of products with the steps moved by each offset; `steps` is 0 near the border."""
    shape = [fast_side(side) for side in edges.shape[-2:]]
    spectrum: Tensor = _fft.rfft2(steps, s=shape).conj() * _fft.rfft2(edges, s=shape)
    products: Tensor = _fft.irfft2(spectrum, s=shape).clamp(min=0)
    reach = torch.arange(-_REACH, _REACH + 1, device=edges.device)
    return products[:, reach % shape[0]][:, :, reach % shape[1]]
