"""Any strategy, and whether its maps step where the image has edges."""

from collections.abc import Sequence
from dataclasses import replace

from jaxtyping import Float
from torch import Tensor

from distill.labels.edges import edge_match
from pseudo_labels.predictor import Answer, AroundAsker, Predictor, Strategy
from pseudo_labels.resizing import resized_views
from pseudo_labels.strategies.plain import plain


class Edges(AroundAsker):
    """The answers of another asker with the agreement "edges" (`labels.edges.edge_match`).

    The asker's last view stands for the image: a network's input differs from it by a scale and a
    shift of each colour, which the match does not see.
    """

    def ask(self, views: Sequence[Float[Tensor, "b 3 _ _"]]) -> Answer:
        """The asker's answer and one number more for each image."""
        answer = self.asker.ask(views)
        height, width = answer.values.shape[1:]
        whole = resized_views(views[-1].float(), (height, width)).to(answer.values.device)
        score = edge_match(whole, answer.values).score
        return replace(answer, agreement={**answer.agreement, "edges": score})


def edges(teachers: Sequence[Predictor], *, inner: Strategy = plain) -> Edges:
    """Ask as `inner` does and compare the edges."""
    return Edges(inner(teachers))
