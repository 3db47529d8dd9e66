"""Several teachers of one image: fused, or one of them by lot."""

import hashlib
from collections.abc import Sequence

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from distill.geometry import to_space
from distill.labels.fuse import common_space, fuse
from pseudo_labels.predictor import Answer, Asker, Predictor, Strategy
from pseudo_labels.resizing import resized_maps
from pseudo_labels.strategies.multi_scale import mean_agreement
from pseudo_labels.strategies.plain import plain


class Council:
    """The weighted median of the members' maps at each pixel; see `labels.fuse`.

    Attributes:
        members: each with its own preprocessing.
        space: what all their maps can be turned into.
    """

    def __init__(self, members: Sequence[Asker]) -> None:
        self.members = tuple(members)
        self.space = common_space([member.space for member in members])

    def views(self, image: Image.Image) -> tuple[Float[Tensor, "3 _ _"], ...]:
        """Those of the first member, then those of the next, each behind a mark of their count."""
        return tuple(view for member in self.members for view in _counted(member.views(image)))

    def ask(self, views: Sequence[Float[Tensor, "b 3 _ _"]]) -> Answer:
        """Maps as large as the largest member's, confidence, and the agreement "teachers"."""
        rest, answers = list(views), list[Answer]()
        for member in self.members:
            count = rest.pop(0).shape[-1]
            answers.append(member.ask(rest[:count]))
            del rest[:count]
        size = max(((a.values.shape[1], a.values.shape[2]) for a in answers), key=_area)
        sure = [answer.confidence for answer in answers]
        fused = fuse(
            [resized_maps(answer.values, size) for answer in answers],
            [member.space for member in self.members],
            weights=[None if c is None else resized_maps(c, size).clamp(min=1e-3) for c in sure],
        )
        return Answer(
            values=fused.values,
            confidence=fused.confidence,
            agreement={**mean_agreement(answers), "teachers": fused.agreement},
        )


class Select:
    """One member for each image, drawn with fixed chances from the image's own pixels.

    Attributes:
        members: each with its own preprocessing.
        chances: of each, summing to 1.
        space: what all their maps can be turned into.
    """

    def __init__(self, members: Sequence[Asker], chances: Sequence[float]) -> None:
        total = sum(chances)
        self.members, self.chances = tuple(members), tuple(chance / total for chance in chances)
        self.space = common_space([member.space for member in members])

    def views(self, image: Image.Image) -> tuple[Float[Tensor, "3 _ _"], ...]:
        """Those of the chosen member behind a mark of its place.

        The mark's width is the place: images of one member make batches of their own, and each
        image is seen by one network.
        """
        place = self.choice(image)
        return (_mark(place + 1), *self.members[place].views(image))

    def choice(self, image: Image.Image) -> int:
        """Which member an image gets: by a hash of 64 x 64 of its pixels."""
        few = image.convert("RGB").resize((64, 64), Image.Resampling.NEAREST).tobytes()
        lot = int.from_bytes(hashlib.sha256(few).digest()[:8], "big") / 2**64
        for place, chance in enumerate(self.chances[:-1]):
            if lot < chance:
                return place
            lot -= chance
        return len(self.chances) - 1

    def ask(self, views: Sequence[Float[Tensor, "b 3 _ _"]]) -> Answer:
        """The chosen member's answer in the common space."""
        member = self.members[views[0].shape[-1] - 1]
        answer = member.ask(views[1:])
        known = torch.isfinite(answer.values)
        values, _ = to_space(answer.values, known, None, source=member.space, target=self.space)
        return Answer(
            values=values,
            confidence=answer.confidence,
            agreement=answer.agreement,
            far=answer.far,
            classes=answer.classes,
        )


def council(teachers: Sequence[Predictor], *, inner: Strategy = plain) -> Council:
    """Ask all teachers and fuse what they say.

    Args:
        teachers: two or more, of spaces that have one in common; three outvote one that is wrong.
        inner: how each is asked.

    Raises:
        ValueError: fewer than two, or their maps cannot be turned into one space.
    """
    return Council(_members(teachers, inner, "council"))


def select(
    teachers: Sequence[Predictor],
    *,
    chances: tuple[float, ...] = (0.7, 0.3),
    inner: Strategy = plain,
) -> Select:
    """Ask one teacher for each image. He et al. 2025 (Distill-Any-Depth), 7 : 3, by image here.

    They draw anew at each iteration, which a store cannot; averaging the two made things worse
    (their table 4).

    Args:
        teachers: two or more, of spaces that have one in common.
        chances: of each teacher, in proportion.
        inner: how it is asked.

    Raises:
        ValueError: fewer than two teachers, not a chance above 0 for each, or their maps cannot be
            turned into one space.
    """
    if len(chances) != len(teachers) or min(chances) <= 0:
        raise ValueError(
            f"select: chances {chances} for {len(teachers)} teachers; give one above 0 for each"
        )
    return Select(_members(teachers, inner, "select"), chances)


def _members(teachers: Sequence[Predictor], inner: Strategy, strategy: str) -> list[Asker]:
    if len(teachers) < 2:
        names = ", ".join(teacher.name for teacher in teachers)
        raise ValueError(f"{strategy} asks two teachers or more and got {len(teachers)}: {names}")
    return [inner([teacher]) for teacher in teachers]


def _mark(number: int) -> Float[Tensor, "3 1 n"]:
    """A number in the shape of a view, so that it is the same for a whole batch."""
    return torch.zeros(3, 1, number)


def _counted(views: Sequence[Tensor]) -> tuple[Tensor, ...]:
    return (_mark(len(views)), *views)


def _area(size: tuple[int, int]) -> tuple[int, int]:
    return size[0] * size[1], size[0]
