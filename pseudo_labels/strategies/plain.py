"""The teacher's answer as it is. Yang et al. 2024 (Depth Anything V2) mention nothing else."""

from collections.abc import Sequence

from jaxtyping import Float
from PIL import Image
from torch import Tensor

from distill.types import Space
from pseudo_labels.predictor import Answer, Predictor, only


class Plain:
    """One forward pass; no confidence, since nothing is compared."""

    def __init__(self, teacher: Predictor) -> None:
        self.teacher = teacher

    @property
    def space(self) -> Space:
        """The teacher's."""
        return self.teacher.space

    def views(self, image: Image.Image) -> tuple[Float[Tensor, "3 h w"]]:
        """The teacher's own input."""
        return (self.teacher.prepare(image),)

    def views_encoded(
        self, data: bytes, *, name: str
    ) -> tuple[tuple[Float[Tensor, "3 h w"]], tuple[int, int]]:
        """The same of an image file, and the image's size."""
        view, size = self.teacher.prepare_encoded(data, name=name)
        return (view,), size

    def ask(self, views: Sequence[Float[Tensor, "b 3 h w"]]) -> Answer:
        """The teacher's maps."""
        return Answer(values=self.teacher.predict_network(views[0]).float())


def plain(teachers: Sequence[Predictor]) -> Plain:
    """Ask the one teacher once.

    Raises:
        ValueError: there are several.
    """
    return Plain(only(teachers, "plain"))
