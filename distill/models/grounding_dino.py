"""Open-vocabulary regions: Grounding DINO, as groundingdino-py or as the port of transformers.

Liu et al. 2023 (Grounding DINO). Depth Anything V1 (section 3.3) labelled its images with it. Both
implementations hold the same weights: `groundingdino_package.port_names` maps the names.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, ImageOps
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoTokenizer,
    GroundingDinoConfig,
    GroundingDinoForObjectDetection,
)

from distill.models.groundingdino_package import UNUSED, build_package, swin_b, swin_t
from distill.models.weights import load_strictly, read_official

Span = list[int]

_LONGEST_TEXT = 256  # tokens, both implementations
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_SPECIAL = ("[CLS]", "[SEP]", ".", "?")  # they part phrases
_SPECIAL_IDS = [101, 102, 1012, 1029]  # of bert-base-uncased; the port knows no others
_KNOWN = {96: swin_t, 128: swin_b}  # by the channels of the first layer


@dataclass(frozen=True)
class Region:
    """A box around what a phrase names.

    Attributes:
        box: left, top, right, bottom in pixels of the image; 0 is its edge, not a pixel's centre.
        phrase: one of those asked for.
        score: in [0, 1].
    """

    box: tuple[float, float, float, float]
    phrase: str
    score: float


@runtime_checkable
class RegionFinder(Protocol):
    """A detector that reads phrases."""

    @property
    def tokenizer(self) -> Any:
        """Of its text encoder."""
        ...

    @property
    def device(self) -> torch.device:
        """Where it runs."""
        ...

    def to(self, device: torch.device) -> None:
        """Move the weights."""
        ...

    def scores(
        self, image: Float[Tensor, "b 3 h w"], caption: str
    ) -> tuple[Float[Tensor, "b q 256"], Float[Tensor, "b q 4"]]:
        """Logits of each query for each token; boxes as centre and size, shares of the image."""
        ...


class _Held:
    """A model and its tokenizer."""

    def __init__(self, model: nn.Module, tokenizer: Any) -> None:
        self.model: Any = model
        self.tokenizer = tokenizer

    @property
    def device(self) -> torch.device:
        """Of the weights."""
        return next(self.model.parameters()).device

    def to(self, device: torch.device) -> None:
        """Move the weights."""
        self.model.to(device)


class Package(_Held):
    """The model of groundingdino-py."""

    @torch.no_grad()
    def scores(
        self, image: Float[Tensor, "b 3 h w"], caption: str
    ) -> tuple[Float[Tensor, "b q 256"], Float[Tensor, "b q 4"]]:
        """See `RegionFinder`; `image` is RGB in [0, 1]."""
        found = self.model(_normalised(image), captions=[caption] * len(image))
        return found["pred_logits"], found["pred_boxes"]


class Port(_Held):
    """The model of transformers."""

    @torch.no_grad()
    def scores(
        self, image: Float[Tensor, "b 3 h w"], caption: str
    ) -> tuple[Float[Tensor, "b q 256"], Float[Tensor, "b q 4"]]:
        """See `RegionFinder`; `image` is RGB in [0, 1]."""
        text = self.tokenizer([caption] * len(image), return_tensors="pt").to(image.device)
        found = self.model(
            pixel_values=_normalised(image),
            input_ids=text["input_ids"],
            attention_mask=text["attention_mask"],
        )
        return found.logits, found.pred_boxes


def find_regions(
    image: Image.Image,
    phrases: Sequence[str],
    *,
    model: RegionFinder,
    box_threshold: float = 0.35,
    text_threshold: float = 0.25,
) -> list[Region]:
    """The regions of one image that the phrases name, surest first.

    Args:
        image: of any size; turned upright if EXIF rotates it.
        phrases: such as "sky" or "traffic light"; case is ignored.
        model: what `load_finder` returns.
        box_threshold: a region's score, its greatest probability of any token, lies above.
        text_threshold: the probabilities of all tokens of its phrase lie above.

    Raises:
        ValueError: see `caption_of`.
    """
    pixels = prepare(image)[None].to(model.device)
    height, width = image_size(image)
    found = regions(model, pixels, phrases, box_threshold, text_threshold)[0]
    size = 2 * (float(width), float(height))
    return [
        Region(_scaled(region.box, size), region.phrase, region.score)  # from shares to pixels
        for region in found
    ]


def regions(
    model: RegionFinder,
    pixels: Float[Tensor, "b 3 h w"],
    phrases: Sequence[str],
    box_threshold: float = 0.35,
    text_threshold: float = 0.25,
) -> list[list[Region]]:
    """The regions of each image of a batch, boxes as shares of the image, surest first.

    A query whose tokens name several phrases in full has the one with the surest token. The
    official code joins the tokens of all into a text that may be none of the phrases; where its
    text is one of them, it is this one.
    """
    caption, spans = caption_of(phrases, model.tokenizer)
    logits, boxes = model.scores(pixels, caption)
    return [
        _chosen(one.sigmoid(), box, phrases, spans, box_threshold, text_threshold)
        for one, box in zip(logits.float().cpu(), boxes.float().cpu(), strict=True)
    ]


def caption_of(phrases: Sequence[str], tokenizer: Any) -> tuple[str, list[Span]]:
    """The text that asks for all phrases at once, and the tokens of each.

    Raises:
        ValueError: see `in_captions`; or more than 256 tokens in all.
    """
    words, spans, position = _words(phrases), list[Span](), 1  # behind [CLS]
    for length in _lengths(words, tokenizer):
        spans.append(list(range(position, position + length)))
        position += length + 1  # the full stop
    if position + 1 > _LONGEST_TEXT:
        raise ValueError(
            f"{len(words)} phrases are {position + 1} tokens and a text has at most "
            f"{_LONGEST_TEXT}; ask for fewer at once"
        )
    return ". ".join(words) + ".", spans


def in_captions(phrases: Sequence[str], tokenizer: Any) -> list[list[str]]:
    """The phrases in their order, in as few groups as texts of 256 tokens have room for.

    Raises:
        ValueError: no phrase, one that is empty, that comes twice or that holds a full stop or a
            question mark (they part phrases), or one too long for a text.
    """
    groups, position = list[list[str]](), _LONGEST_TEXT
    for phrase, length in zip(phrases, _lengths(_words(phrases), tokenizer), strict=True):
        position += length + 1
        if position + 1 > _LONGEST_TEXT:
            groups.append([])
            position = 1 + length + 1
        if position + 1 > _LONGEST_TEXT:
            raise ValueError(f"the phrase {phrase!r} is {length} tokens long; shorten it")
        groups[-1].append(phrase)
    return groups


def _words(phrases: Sequence[str]) -> list[str]:
    """In lower case, with single spaces.

    Raises:
        ValueError: see `in_captions`.
    """
    words = [" ".join(phrase.lower().split()) for phrase in phrases]
    faulty = [phrase for phrase, word in zip(phrases, words, strict=True) if not word]
    faulty += [word for word in words if "." in word or "?" in word or words.count(word) > 1]
    if not words or faulty:
        raise ValueError(
            f"phrases {list(phrases)}: give one or more, each once, none empty and none with a "
            f"full stop or a question mark; at fault: {faulty or 'there is none'}"
        )
    return words


def _lengths(words: Sequence[str], tokenizer: Any) -> list[int]:
    """In tokens."""
    return [len(tokenizer(word, add_special_tokens=False)["input_ids"]) for word in words]


def prepare(
    image: Image.Image, *, shortest: int = 800, longest: int = 1333, multiple: int = 1
) -> Float[Tensor, "3 h w"]:
    """RGB in [0, 1] at the official size: short side 800 unless the long one would exceed 1333.

    Args:
        image: of any size; turned upright if EXIF rotates it.
        shortest: pixels of the short side.
        longest: pixels of the long side at most.
        multiple: of which both sides are, so that images of like shapes fit into one batch.
    """
    upright = ImageOps.exif_transpose(image).convert("RGB")
    short, long = sorted(upright.size)
    if long / short * shortest > longest:
        shortest = round(longest * short / long)
    sides = (
        side if side == short == shortest else shortest * side / short for side in upright.size
    )
    size = tuple(
        max(multiple, int(side / multiple + (multiple > 1) / 2) * multiple) for side in sides
    )
    resized = upright.resize((size[0], size[1]), Image.Resampling.BILINEAR)
    return torch.from_numpy(np.array(resized)).permute(2, 0, 1).contiguous().float() / 255


def image_size(image: Image.Image) -> tuple[int, int]:
    """(height, width), upright."""
    upright = ImageOps.exif_transpose(image)
    return upright.height, upright.width


def load_finder(
    model: str | Path,
    *,
    text: str | Path = "bert-base-uncased",
    config: GroundingDinoConfig | None = None,
    device: str | torch.device = "cpu",
) -> RegionFinder:
    """Load an official `.pth` into groundingdino-py, or anything else into the port.

    Args:
        model: `groundingdino_swint_ogc.pth` or `groundingdino_swinb_cogcoor.pth`; or a hub id or
            directory such as `IDEA-Research/grounding-dino-tiny`.
        text: hub id or directory of BERT's configuration and tokenizer, for a `.pth`.
        config: of a `.pth` that is neither of those two.
        device: where it runs.

    Raises:
        FileNotFoundError: the model, or its text encoder, is neither here nor on the hub.
        ImportError: groundingdino-py is not installed and `model` is a `.pth`.
        ValueError: weights that do not fit.
    """
    if Path(model).suffix == ".pth":
        return _load_package(Path(model), text, config, torch.device(device))
    try:
        network = load_strictly(
            GroundingDinoForObjectDetection.from_pretrained,
            model,
            absent=r"swin\.layernorm\.",  # the backbone does not use it
            surplus=True,
        )
        tokenizer = AutoTokenizer.from_pretrained(model, trust_remote_code=False)
    except OSError as error:
        raise FileNotFoundError(_missing(model)) from error
    _check_special(tokenizer, str(model))
    return Port(network.to(device).eval().requires_grad_(False), tokenizer)


def _chosen(
    probability: Float[Tensor, "q t"],
    boxes: Float[Tensor, "q 4"],
    phrases: Sequence[str],
    spans: Sequence[Span],
    box_threshold: float,
    text_threshold: float,
) -> list[Region]:
    """The regions above both thresholds, boxes as shares of the image, surest first."""
    surest = torch.stack([probability[:, span].amax(1) for span in spans], 1)
    whole = torch.stack([(probability[:, span] > text_threshold).all(1) for span in spans], 1)
    phrase: list[int] = surest.masked_fill(~whole, -1).argmax(1).tolist()
    score = probability.amax(1)
    corners = torch.cat([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2], 1)
    corners = corners.clamp(0, 1)
    kept: list[int] = ((score > box_threshold) & whole.any(1)).nonzero()[:, 0].tolist()
    found = [
        Region(
            _scaled(corners[i].tolist(), (1.0, 1.0, 1.0, 1.0)), phrases[phrase[i]], float(score[i])
        )
        for i in kept
    ]
    return sorted(found, key=lambda region: -region.score)


def _scaled(box: Sequence[float], size: Sequence[float]) -> tuple[float, float, float, float]:
    left, top, right, bottom = (side * scale for side, scale in zip(box, size, strict=True))
    return left, top, right, bottom


def _normalised(image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
    mean, std = (image.new_tensor(values)[:, None, None] for values in (_MEAN, _STD))
    return (image - mean) / std


def _load_package(
    path: Path, text: str | Path, config: GroundingDinoConfig | None, device: torch.device
) -> Package:
    state = read_official(path)
    try:
        tokenizer = AutoTokenizer.from_pretrained(text, trust_remote_code=False)
        if config is None:
            width = len(state.get("backbone.0.patch_embed.proj.bias", ()))
            if width not in _KNOWN:
                raise ValueError(f"{path}: neither Swin-T nor Swin-B; give its `config`")
            config = _KNOWN[width](AutoConfig.from_pretrained(text, trust_remote_code=False))
    except OSError as error:
        raise FileNotFoundError(_missing(text)) from error
    model = build_package(config, tokenizer)
    wrong = model.load_state_dict(state, strict=False)
    missing = [name for name in wrong.missing_keys if not re.search(UNUSED, name)]
    surplus = [name for name in wrong.unexpected_keys if not re.search(UNUSED, name)]
    if missing or surplus:
        raise ValueError(f"{path}: missing {missing[:3]}, unexpected {surplus[:3]}")
    return Package(model.to(device).requires_grad_(False), tokenizer)


def _check_special(tokenizer: Any, source: str) -> None:
    found = tokenizer.convert_tokens_to_ids(list(_SPECIAL))
    if found != _SPECIAL_IDS:
        raise ValueError(
            f"{source}: {list(_SPECIAL)} are tokens {found} and the model of transformers takes "
            f"them for {_SPECIAL_IDS}; give the tokenizer of bert-base-uncased"
        )


def _missing(model: str | Path) -> str:
    return (
        f"cannot get {model}: no such directory with config.json and tokenizer, and the hub does "
        "not answer for it; download it where there is network (`hf download ID --local-dir DIR`) "
        "and give the directory"
    )
