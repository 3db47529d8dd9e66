"""Boxes to masks: HQ-SAM of transformers. Ke et al. 2023 (Segment Anything in High Quality)."""

from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from transformers import SamHQModel

from distill.models.weights import load_strictly

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_TOGETHER = 16  # boxes that the decoder sees at once


class MaskMaker:
    """HQ-SAM, asked with boxes for one mask each."""

    def __init__(self, model: SamHQModel) -> None:
        self.model = model
        vision: Any = model.config.vision_config
        self.side: int = vision.image_size

    def to(self, device: torch.device) -> None:
        """Move the weights."""
        self.model.to(device)  # pyright: ignore[reportArgumentType]

    @torch.no_grad()
    def masks(
        self, image: Float[Tensor, "3 h w"], boxes: Float[Tensor, "n 4"]
    ) -> Bool[Tensor, "n h w"]:
        """One mask for each box, at the size of the image.

        As the official predictor: the image's long side becomes the network's, the rest is padded
        with 0, and the logits are enlarged before they are cut at 0.

        Args:
            image: RGB in [0, 1].
            boxes: left, top, right, bottom as shares of the image.

        Raises:
            ValueError: a box beyond the image, or without area.
        """
        height, width = image.shape[1:]
        if len(boxes) == 0:
            return torch.zeros(0, height, width, dtype=torch.bool, device=image.device)
        wrong = (boxes < 0) | (boxes > 1)
        wrong[:, :2] |= boxes[:, :2] >= boxes[:, 2:]
        if bool(wrong.any()):
            raise ValueError(
                f"box {boxes[wrong.any(1)][0].tolist()} is not left < right and top < bottom in "
                "shares of the image, 0 to 1"
            )
        scale = self.side / max(height, width)
        new = (int(height * scale + 0.5), int(width * scale + 0.5))
        embeddings, between = self.model.get_image_embeddings(_padded(image, new, self.side))
        size = boxes.new_tensor([new[1], new[0], new[1], new[0]])
        found: list[Tensor] = []
        for some in (boxes * size).to(image.device).split(_TOGETHER):
            low = self.model(
                image_embeddings=embeddings,
                intermediate_embeddings=between,
                input_boxes=some[None],
                multimask_output=False,
            ).pred_masks[0]
            logits = _resized(low, (self.side, self.side))[..., : new[0], : new[1]]
            found.append(_resized(logits, (height, width))[:, 0] > 0)
        return torch.cat(found)


def load_masks(model: str | Path, *, device: str | torch.device = "cpu") -> MaskMaker:
    """Load HQ-SAM: hub id, or directory with `config.json` and weights.

    Raises:
        FileNotFoundError: neither here nor on the hub.
        ValueError: weights that do not fit.
    """
    try:
        network = load_strictly(SamHQModel.from_pretrained, model, surplus=True)
    except OSError as error:
        raise FileNotFoundError(
            f"cannot get {model}: no such directory with config.json and weights, and the hub does "
            "not answer for it; download it where there is network (`hf download "
            "syscv-community/sam-hq-vit-base --local-dir DIR`) and give the directory"
        ) from error
    return MaskMaker(network.to(device).eval().requires_grad_(False))


def _padded(
    image: Float[Tensor, "3 h w"], new: tuple[int, int], side: int
) -> Float[Tensor, "1 3 s s"]:
    """Resized to `new`, normalised, and 0 below and to the right of it."""
    pixels = nn.functional.interpolate(
        image[None], new, mode="bilinear", align_corners=False, antialias=True
    )
    mean, std = (image.new_tensor(values)[:, None, None] for values in (_MEAN, _STD))
    return nn.functional.pad((pixels - mean) / std, (0, side - new[1], 0, side - new[0]))


def _resized(logits: Float[Tensor, "n 1 _ _"], size: tuple[int, int]) -> Float[Tensor, "n 1 h w"]:
    return nn.functional.interpolate(logits, size, mode="bilinear", align_corners=False)
