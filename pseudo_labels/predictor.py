"""What a label job asks of a teacher, and of a strategy."""

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Float
from PIL import Image
from torch import Tensor

from distill.types import Space


@runtime_checkable
class Predictor(Protocol):
    """A depth network with its own preprocessing; `distill.models.foreign` loads such a thing."""

    @property
    def name(self) -> str:
        """Path or hub id."""
        ...

    @property
    def sha256(self) -> str:
        """Of weights and configuration."""
        ...

    @property
    def licence(self) -> str | None:
        """As the model card has it."""
        ...

    @property
    def space(self) -> Space:
        """What its numbers mean."""
        ...

    @property
    def preprocessing(self) -> dict[str, Any]:
        """What `prepare` does, as plain JSON."""
        ...

    def prepare(self, image: Image.Image) -> Float[Tensor, "3 h w"]:
        """The network's input for an image of any size; called from many threads at once."""
        ...

    def predict_network(self, pixels: Float[Tensor, "b 3 h w"], /) -> Float[Tensor, "b h w"]:
        """Maps at network resolution, on the device the network is on."""
        ...


Strategy = Callable[
    [Predictor, Float[Tensor, "b 3 h w"]],
    tuple[Float[Tensor, "b h w"], Float[Tensor, " b"] | None],
]
"""How a teacher is asked: prepared images -> (maps, confidence of each image or None)."""
