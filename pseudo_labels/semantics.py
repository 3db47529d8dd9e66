"""Sky and classes beside a teacher's answer: phrases to boxes to masks.

Yang et al. 2024 (Depth Anything V1), section 3.3: a tagger says what an image shows, Grounding DINO
finds it and HQ-SAM cuts it out. Sky becomes `far`; the classes are what their auxiliary
segmentation learned from.
"""

import itertools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, UInt8
from PIL import Image
from torch import Tensor, nn

from distill.models.grounding_dino import (
    Region,
    RegionFinder,
    in_captions,
    load_finder,
    prepare,
    regions,
)
from distill.models.hq_sam import load_masks
from distill.models.tagger import Tagger, load_tagger
from distill.types import Space
from pseudo_labels.predictor import Answer, Asker, Predictor, Strategy
from pseudo_labels.strategies.plain import plain

_GRID = 32  # pixels; images of like shapes shall make one batch


@runtime_checkable
class Masks(Protocol):
    """What cuts things out of boxes; see `distill.models.hq_sam.MaskMaker`."""

    def to(self, device: torch.device) -> None:
        """Move the weights."""
        ...

    def masks(
        self, image: Float[Tensor, "3 h w"], boxes: Float[Tensor, "n 4"]
    ) -> Bool[Tensor, "n h w"]:
        """One mask for each box, given as shares of the image."""
        ...


class SemanticAsker:
    """An asker whose answers also say where sky is, and which class each pixel has.

    Where masks overlap the one with the higher score has the pixel, sky or class alike; of equal
    scores the earlier region.

    Args:
        inner: gives the values.
        finder: phrases to boxes.
        masks: boxes to masks.
        classes: phrases; class 1 + n is `classes[n]`.
        sky: the phrase whose pixels are `far`; None looks for none.
        box_threshold: see `grounding_dino.find_regions`.
        text_threshold: see there.
        shortest: pixels of the finder's short side, its long one at most 5/3 of it.
        tagger: sky and classes are looked for in the images that it says show them; None: in all.
        tag_threshold: of its probabilities.
        helpers: where finder, masks and tagger came from.

    Attributes:
        classes: names of the classes, for the store.
        helpers: for the record of what labels were made of.

    Raises:
        ValueError: nothing to look for, a phrase that is empty, too long, unknown to the tagger or
            comes twice, over 255 classes.
    """

    def __init__(
        self,
        inner: Asker,
        finder: RegionFinder,
        masks: Masks,
        *,
        classes: Sequence[str] = (),
        sky: str | None = "sky",
        box_threshold: float = 0.35,
        text_threshold: float = 0.25,
        shortest: int = 800,
        tagger: Tagger | None = None,
        tag_threshold: float = 0.1,
        helpers: Sequence[str] = (),
    ) -> None:
        if len(classes) > 255:
            raise ValueError(f"{len(classes)} classes; a class plane of 8 bits holds 255")
        self._inner, self._finder, self._masks = inner, finder, masks
        self.classes, self.helpers, self._sky = tuple(classes), tuple(helpers), sky
        first = () if sky is None or sky in classes else (sky,)
        self._phrases = (*first, *classes)
        self._thresholds, self._shortest = (box_threshold, text_threshold), shortest
        self._tagger, self._tag_threshold = tagger, tag_threshold
        in_captions(self._phrases, finder.tokenizer)  # what is wrong is wrong before the job
        if tagger is not None:
            tagger.check(self._phrases)

    @property
    def space(self) -> Space:
        """Of the inner asker."""
        return self._inner.space

    def views(self, image: Image.Image) -> tuple[Float[Tensor, "3 _ _"], ...]:
        """Those of the inner asker, and the image for finder and masks."""
        seen = prepare(
            image, shortest=self._shortest, longest=self._shortest * 5 // 3, multiple=_GRID
        )
        return (*self._inner.views(image), seen)

    def ask(self, views: Sequence[Float[Tensor, "b 3 _ _"]]) -> Answer:
        """The inner answer, its values untouched, with `far` and `classes`."""
        answer, images = self._inner.ask(views[:-1]), views[-1]
        self._finder.to(images.device)
        self._masks.to(images.device)
        found = self._found(images)
        painted = torch.stack([self._painted(*pair) for pair in zip(images, found, strict=True)])
        # pixel centres, as transforms.resized picks targets
        size = answer.values.shape[-2:]
        painted = nn.functional.interpolate(painted[:, None].float(), size, mode="nearest-exact")
        return self._told(answer, painted[:, 0].long())

    def _found(self, images: Float[Tensor, "b 3 h w"]) -> list[list[Region]]:
        """What the finder finds of the phrases that each image shows, surest first."""
        if self._tagger is None:
            return self._regions(images, self._phrases)
        self._tagger.to(images.device)
        shown = self._tagger.probabilities(images, self._phrases) > self._tag_threshold
        found: list[list[Region]] = []
        for image, tags in zip(images, shown.tolist(), strict=True):
            phrases = [p for p, tagged in zip(self._phrases, tags, strict=True) if tagged]
            found += self._regions(image[None], phrases) if phrases else [[]]
        return found

    def _regions(
        self, images: Float[Tensor, "b 3 h w"], phrases: Sequence[str]
    ) -> list[list[Region]]:
        groups = in_captions(phrases, self._finder.tokenizer)
        parts = [regions(self._finder, images, group, *self._thresholds) for group in groups]
        return [
            sorted(itertools.chain(*same), key=lambda region: -region.score)
            for same in zip(*parts, strict=True)
        ]

    def _painted(
        self, image: Float[Tensor, "3 h w"], found: Sequence[Region]
    ) -> UInt8[Tensor, "h w"]:
        """1 + the phrase's place of the surest region at each pixel, 0 where there is none."""
        painted = torch.zeros(image.shape[1:], dtype=torch.uint8, device=image.device)
        solid = [one for one in found if one.box[0] < one.box[2] and one.box[1] < one.box[3]]
        boxes = torch.tensor([one.box for one in solid]).view(-1, 4)
        cut = self._masks.masks(image, boxes)
        for region, mask in zip(reversed(solid), cut.flip(0), strict=True):  # surest last
            painted[mask] = 1 + self._phrases.index(region.phrase)
        return painted

    def _told(self, answer: Answer, painted: Tensor) -> Answer:
        phrases = ("", *self._phrases)
        numbers = [1 + self.classes.index(p) if p in self.classes else 0 for p in phrases]
        table = torch.tensor(numbers, dtype=torch.uint8, device=painted.device)
        far = None if self._sky is None else painted == phrases.index(self._sky)
        return replace(answer, far=far, classes=table[painted] if self.classes else None)


def with_semantics(
    teachers: Sequence[Predictor],
    *,
    finder: str | Path,
    masks: str | Path,
    strategy: Strategy = plain,
    classes: Sequence[str] = (),
    sky: str | None = "sky",
    box_threshold: float = 0.35,
    text_threshold: float = 0.25,
    text: str | Path = "bert-base-uncased",
    tagger: str | Path | None = None,
    tag_threshold: float = 0.1,
) -> SemanticAsker:
    """Any strategy, with sky and classes; `partial(with_semantics, finder=..., masks=...)` is one.

    Args:
        teachers: of `strategy`.
        finder: see `grounding_dino.load_finder`.
        masks: see `hq_sam.load_masks`.
        strategy: gives the values.
        classes: see `SemanticAsker`.
        sky: see there.
        box_threshold: see there.
        text_threshold: see there.
        text: BERT's tokenizer, for a finder that is a `.pth`.
        tagger: see `tagger.load_tagger`.
        tag_threshold: see `SemanticAsker`. What the tagger misses nobody looks for, so it is low.

    Raises:
        FileNotFoundError: a model is neither here nor on the hub.
        ImportError: the finder is a `.pth` and groundingdino-py is not installed.
        ValueError: see `SemanticAsker`; or weights that do not fit.
    """
    return SemanticAsker(
        strategy(teachers),
        load_finder(finder, text=text),
        load_masks(masks),
        classes=classes,
        sky=sky,
        box_threshold=box_threshold,
        text_threshold=text_threshold,
        tagger=None if tagger is None else load_tagger(tagger),
        tag_threshold=tag_threshold,
        helpers=tuple(str(model) for model in (finder, masks, tagger) if model is not None),
    )
