"""Maps and network inputs at another size, on the device they are on."""

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate


def resized_maps(values: Float[Tensor, "b h w"], size: tuple[int, int]) -> Float[Tensor, "b _ _"]:
    """Maps at `size`, linear between pixels, smoothed first where they shrink."""
    if tuple(values.shape[1:]) == size:
        return values
    maps = values[:, None].float()
    return interpolate(maps, size, mode="bilinear", align_corners=False, antialias=True)[:, 0]


def resized_views(pixels: Float[Tensor, "b 3 h w"], size: tuple[int, int]) -> Tensor:
    """Network inputs at `size`, by the bicubic kernel, smoothed first where they shrink."""
    if tuple(pixels.shape[2:]) == size:
        return pixels
    return interpolate(pixels, size, mode="bicubic", align_corners=False, antialias=True)
