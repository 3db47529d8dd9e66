"""What a label job asks of a teacher, and of a strategy."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Bool, Float, UInt8
from PIL import Image
from torch import Tensor

from distill.datasets.images import read_pil
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

    @property
    def inference(self) -> dict[str, Any]:
        """How it computes, as far as the last bits of its values depend on it, as plain JSON."""
        ...

    def prepare(self, image: Image.Image) -> Float[Tensor, "3 h w"]:
        """The network's input for an image of any size; called from many threads at once."""
        ...

    def prepare_encoded(
        self, data: bytes, *, name: str | None = None
    ) -> tuple[Float[Tensor, "3 h w"], tuple[int, int]]:
        """The same for an image file, perhaps sooner; and the image's (height, width), upright."""
        ...

    def predict_network(self, pixels: Float[Tensor, "b 3 h w"], /) -> Float[Tensor, "b h w"]:
        """Maps at network resolution, on the device the network is on."""
        ...


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What was found out about a batch of images of one prepared size.

    Attributes:
        values: in the asker's `space`.
        confidence: of each pixel, in [0, 1], larger is surer; None where nothing was compared.
        agreement: of each image, in [0, 1], by what was compared: see `labels.index.AGREEMENT`.
        far: sky, at infinity; None where nobody looked for it.
        classes: of each pixel, 0 for none, else 1 + its place among the job's class names.
    """

    values: Float[Tensor, "b h w"]
    confidence: Float[Tensor, "b h w"] | None = None
    agreement: Mapping[str, Float[Tensor, " b"]] = field(default_factory=dict[str, Tensor])
    far: Bool[Tensor, "b h w"] | None = None
    classes: UInt8[Tensor, "b h w"] | None = None


@runtime_checkable
class Asker(Protocol):
    """One or more teachers and the way in which they are asked."""

    @property
    def space(self) -> Space:
        """Of the answers' values."""
        ...

    def views(self, image: Image.Image) -> tuple[Float[Tensor, "3 _ _"], ...]:
        """What the teachers look at, of an image of any size; called from many threads at once."""
        ...

    def ask(self, views: Sequence[Float[Tensor, "b 3 _ _"]]) -> Answer:
        """The answer to several images, whose views are stacked and lie on the teachers' device."""
        ...


@runtime_checkable
class ReadsFiles(Protocol):
    """An `Asker` that makes its views of an image file faster than of the image in it."""

    def views_encoded(
        self, data: bytes, *, name: str
    ) -> tuple[tuple[Float[Tensor, "3 _ _"], ...], tuple[int, int]]:
        """Views as of `Asker.views`, and the image's (height, width), upright."""
        ...


@runtime_checkable
class UsesHelpers(Protocol):
    """An `Asker` that asks more models than teachers, such as those that find sky and classes.

    Attributes:
        classes: names of the classes in its answers.
        helpers: paths or hub ids of those models.
    """

    classes: Sequence[str]
    helpers: Sequence[str]


def views_of_file(
    asker: Asker, data: bytes, *, name: str
) -> tuple[tuple[Float[Tensor, "3 _ _"], ...], tuple[int, int]]:
    """An asker's views of an image file, the soonest way; and the image's (height, width), upright.

    Raises:
        ValueError: see `datasets.images.read_pil`.
    """
    if isinstance(asker, ReadsFiles):
        return asker.views_encoded(data, name=name)
    image = read_pil(data, name=name)
    return asker.views(image), (image.height, image.width)


class AroundAsker:
    """Shows what another asker shows, in its space; how it is asked is for a subclass to say.

    Attributes:
        asker: the other one.
    """

    def __init__(self, asker: Asker) -> None:
        self.asker = asker

    @property
    def space(self) -> Space:
        """The asker's."""
        return self.asker.space

    def views(self, image: Image.Image) -> tuple[Float[Tensor, "3 _ _"], ...]:
        """The asker's."""
        return self.asker.views(image)

    def views_encoded(
        self, data: bytes, *, name: str
    ) -> tuple[tuple[Float[Tensor, "3 _ _"], ...], tuple[int, int]]:
        """The asker's of an image file, and the image's size."""
        return views_of_file(self.asker, data, name=name)


Strategy = Callable[[Sequence[Predictor]], Asker]
"""How teachers are asked, once they are loaded."""


def only(teachers: Sequence[Predictor], strategy: str) -> Predictor:
    """The one teacher of a strategy that asks no more.

    Raises:
        ValueError: there are several.
    """
    if len(teachers) != 1:
        names = ", ".join(teacher.name for teacher in teachers)
        raise ValueError(f"{strategy} asks one teacher and got {len(teachers)}: {names}")
    return teachers[0]
