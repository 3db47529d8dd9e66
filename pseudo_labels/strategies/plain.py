"""The teacher's answer as it is. Yang et al. 2024 (Depth Anything V2) mention nothing else."""

from jaxtyping import Float
from torch import Tensor

from pseudo_labels.predictor import Predictor


def plain(
    predictor: Predictor, pixels: Float[Tensor, "b 3 h w"]
) -> tuple[Float[Tensor, "b h w"], None]:
    """One forward pass; no confidence, since nothing is compared.

    Args:
        predictor: the teacher.
        pixels: what its `prepare` made, one size.
    """
    return predictor.predict_network(pixels).float(), None
