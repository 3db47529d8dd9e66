"""HQ-SAM: masks equal those of transformers' processor; a tiny random model in the real layout."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import SamHQConfig, SamHQModel, SamHQProcessor, SamImageProcessor

from distill.models.hq_sam import load_masks

SIDE = 64


def tiny(folder: Path) -> Path:
    config = SamHQConfig(
        vision_config={
            "hidden_size": 16,
            "output_channels": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": SIDE,
            "patch_size": 16,
            "window_size": 2,
            "global_attn_indexes": [1],
            "num_pos_feats": 16,
            "mlp_dim": 32,
            "initializer_range": 0.2,
        },
        prompt_encoder_config={"hidden_size": 32, "image_size": SIDE, "patch_size": 16},
        mask_decoder_config={
            "hidden_size": 32,
            "mlp_dim": 32,
            "num_attention_heads": 2,
            "iou_head_hidden_dim": 32,
            "vit_dim": 16,
        },
    )
    model = SamHQModel(config)
    generator = torch.Generator().manual_seed(9)  # whose masks are neither empty nor full
    for parameter in model.parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        parameter.data = noise / max(1, parameter[0].numel()) ** 0.5
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny(tmp_path_factory.mktemp("hq_sam"))


def noise(height: int, width: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(height)
    small = torch.rand(1, 3, 6, 6, generator=generator)
    smooth = torch.nn.functional.interpolate(small, (height, width), mode="bicubic")
    return (smooth[0].clamp(0, 1) * 255).round() / 255


@pytest.mark.parametrize("size", [(48, 64), (64, 40), (96, 128)])
def test_masks_are_those_of_the_processor(folder: Path, size: tuple[int, int]):
    maker, image = load_masks(folder), noise(*size)
    boxes = torch.tensor([[0.1, 0.2, 0.6, 0.7], [0.0, 0.0, 1.0, 1.0], [0.5, 0.5, 0.9, 0.8]])
    ours = maker.masks(image, boxes)
    longest: Any = {"longest_edge": SIDE}
    steps: Any = SamImageProcessor(size=longest, pad_size={"height": SIDE, "width": SIDE})
    processor: Any = SamHQProcessor(steps)
    pixels = boxes * torch.tensor([size[1], size[0], size[1], size[0]])
    picture = Image.fromarray((image.permute(1, 2, 0) * 255).byte().numpy().astype(np.uint8))
    inputs = processor(picture, input_boxes=[pixels.tolist()], return_tensors="pt")
    with torch.no_grad():
        outputs = maker.model(
            pixel_values=inputs["pixel_values"],
            input_boxes=inputs["input_boxes"].float(),
            multimask_output=False,
        )
    theirs = processor.post_process_masks(
        outputs.pred_masks, inputs["original_sizes"], inputs["reshaped_input_sizes"]
    )[0][:, 0]
    assert ours.dtype == torch.bool
    assert ours.shape == theirs.shape == (3, *size)
    assert 0.05 < float(ours.float().mean()) < 0.95
    # the processor resizes bytes: where there is no resizing nothing differs
    same = (ours == theirs).float().mean()
    assert same == 1 if max(size) == SIDE else same > 0.98


def test_masks_do_not_depend_on_the_number_of_boxes(folder: Path):
    maker, image = load_masks(folder), noise(48, 64)
    corner = torch.rand(19, 2, generator=torch.Generator().manual_seed(5)) * 0.5
    boxes = torch.cat([corner, corner + 0.4], 1)
    together = maker.masks(image, boxes)
    alone = torch.cat([maker.masks(image, box[None]) for box in boxes])
    assert (together == alone).float().mean() > 0.999
    assert maker.masks(image, boxes[:0]).shape == (0, 48, 64)


@pytest.mark.parametrize("box", [[0.5, 0.2, 0.4, 0.7], [0.1, 0.1, 0.1, 0.2], [0.0, 0.0, 1.1, 1.0]])
def test_boxes_that_are_none(folder: Path, box: list[float]):
    with pytest.raises(ValueError, match="shares of the image"):
        load_masks(folder).masks(noise(48, 64), torch.tensor([box]))


def test_a_missing_model_is_named(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"cannot get .*nothing.*hf download"):
        load_masks(tmp_path / "nothing")
