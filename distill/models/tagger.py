"""What an image shows, in words, so that a finder is asked for nothing else.

In Depth Anything V1 (section 3.3) RAM tags the images before Grounding DINO looks for the tags. RAM
is no part of transformers; SigLIP (Zhai et al. 2023) does the same for any phrases, and so does a
classifier that was trained on many labels at once.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModelForImageClassification,
    AutoTokenizer,
    SiglipModel,
)

from distill.models.weights import load_strictly

_PROMPT = "This is a photo of {}."  # as the pipeline of transformers asks


@runtime_checkable
class Tagger(Protocol):
    """Gives phrases probabilities."""

    def to(self, device: torch.device) -> None:
        """Move the weights."""
        ...

    def check(self, phrases: Sequence[str]) -> None:
        """Make sure that it can be asked for them.

        Raises:
            ValueError: it cannot.
        """
        ...

    def probabilities(
        self, images: Float[Tensor, "b 3 h w"], phrases: Sequence[str]
    ) -> Float[Tensor, "b p"]:
        """Of each phrase that an image shows it; images are RGB in [0, 1]."""
        ...


class _Looking:
    """A model and the preprocessing that belongs to it."""

    def __init__(self, model: nn.Module, processor: Any) -> None:
        self.model: Any = model
        self._processor = processor

    def to(self, device: torch.device) -> None:
        """Move the weights."""
        self.model.to(device)

    def _pixels(self, images: Float[Tensor, "b 3 h w"]) -> Tensor:
        made = self._processor(images=list(images), do_rescale=False, return_tensors="pt")
        return made["pixel_values"].to(images.device)


class AnyPhrase(_Looking):
    """SigLIP: whether an image and "This is a photo of ..." belong together."""

    def __init__(self, model: SiglipModel, processor: Any, tokenizer: Any) -> None:
        super().__init__(model, processor)
        self._tokenizer = tokenizer
        self._known: dict[str, Tensor] = {}

    def check(self, phrases: Sequence[str]) -> None:
        """Any will do."""

    @torch.no_grad()
    def probabilities(
        self, images: Float[Tensor, "b 3 h w"], phrases: Sequence[str]
    ) -> Float[Tensor, "b p"]:
        """See `Tagger`."""
        model = self.model
        said = torch.stack([self._text(phrase) for phrase in phrases]).to(images.device)
        seen = model.get_image_features(pixel_values=self._pixels(images)).pooler_output
        likeness = nn.functional.normalize(seen, dim=-1) @ said.T
        return (likeness * model.logit_scale.exp() + model.logit_bias).sigmoid()

    def _text(self, phrase: str) -> Float[Tensor, " f"]:
        """Read once; short texts are padded, as in training."""
        if phrase not in self._known:
            model = self.model
            tokens = self._tokenizer(
                _PROMPT.format(phrase.lower()),
                padding="max_length",
                max_length=model.config.text_config.max_position_embeddings,
                truncation=True,
                return_tensors="pt",
            )["input_ids"]
            device = model.logit_scale.device
            said = model.get_text_features(input_ids=tokens.to(device)).pooler_output[0]
            self._known[phrase] = nn.functional.normalize(said, dim=-1)
        return self._known[phrase]


class ItsLabels(_Looking):
    """A classifier of many labels at once; it knows no phrases but its labels."""

    def __init__(self, model: nn.Module, processor: Any) -> None:
        super().__init__(model, processor)
        labels: dict[int, str] = self.model.config.id2label
        self._places = {label.lower(): place for place, label in labels.items()}

    def check(self, phrases: Sequence[str]) -> None:
        """Each is one of its labels.

        Raises:
            ValueError: one is not.
        """
        strange = [phrase for phrase in phrases if phrase.lower() not in self._places]
        if strange:
            known = sorted(self._places)
            raise ValueError(
                f"tagger: {strange} are none of its {len(known)} labels, such as {known[:5]}; "
                "leave them out, or take a SigLIP model, which knows any phrase"
            )

    @torch.no_grad()
    def probabilities(
        self, images: Float[Tensor, "b 3 h w"], phrases: Sequence[str]
    ) -> Float[Tensor, "b p"]:
        """See `Tagger`."""
        logits = self.model(pixel_values=self._pixels(images)).logits
        return logits[:, [self._places[phrase.lower()] for phrase in phrases]].sigmoid()


def load_tagger(model: str | Path, *, device: str | torch.device = "cpu") -> Tagger:
    """Load a hub id or a directory: SigLIP, or a classifier that says it knows many labels.

    Args:
        model: such as `google/siglip2-base-patch16-224`.
        device: where it runs.

    Raises:
        FileNotFoundError: neither here nor on the hub.
        ValueError: weights that do not fit, or a classifier that chooses one label.
    """
    try:
        config: Any = AutoConfig.from_pretrained(model, trust_remote_code=False)
        processor = AutoImageProcessor.from_pretrained(model, trust_remote_code=False)
        if config.model_type == "siglip":
            network = load_strictly(SiglipModel.from_pretrained, model)
            tokenizer = AutoTokenizer.from_pretrained(model, trust_remote_code=False)
            return AnyPhrase(_frozen(network, device), processor, tokenizer)
        if config.problem_type != "multi_label_classification":
            raise ValueError(
                f"tagger: {model} is a {config.model_type} with problem_type="
                f"{config.problem_type!r}, which chooses one label; give a SigLIP model, or a "
                "classifier with problem_type='multi_label_classification'"
            )
        network = load_strictly(AutoModelForImageClassification.from_pretrained, model)
    except OSError as error:
        raise FileNotFoundError(
            f"tagger {model}: neither a directory with config.json, preprocessor_config.json and "
            "weights, nor on the hub"
        ) from error
    return ItsLabels(_frozen(network, device), processor)


def _frozen(network: Any, device: str | torch.device) -> Any:
    return network.to(device).eval().requires_grad_(False)
