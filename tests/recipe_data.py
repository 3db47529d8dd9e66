"""Everything that recipes read, small: sets, photographs, labels, encoders; of some another too."""

from pathlib import Path

import numpy as np
import test_hypersim
import test_virtual_kitti2
import tiny_teacher
from PIL import Image
from tiny_encoders import save_timm
from transformers import Dinov2Model

from distill.job import seed_everything
from distill.models import dinov2
from distill.models.depth_anything import depth_anything
from distill.models.dinov2 import Encoder
from pseudo_labels.strategies.plain import plain
from pseudo_labels.strategies.tta import flip

ENCODER = Encoder(width=16, depth=4, heads=2, image_size=56)


def write(root: Path) -> Path:
    """Below `root`; Depth Anything's vits must have this encoder."""
    test_hypersim.miniature(root / "hypersim")
    test_virtual_kitti2.miniature(root / "virtual_kitti2")
    tiny_teacher.write_photos(root / "photos", count=6)
    tiny_teacher.write_photos(root / "more_photos", count=7)
    for name, strategy in (("labels", flip), ("other_labels", plain)):
        tiny_teacher.job(root / "photos", strategy=strategy).run(root / name)
    for number in range(3):
        _write_held_out(root / "held_out", number)
    for seed, name in enumerate(("dinov2", "other_dinov2")):
        seed_everything(seed)
        Dinov2Model(dinov2.configuration(ENCODER)).save_pretrained(root / name)
        depth_anything("vits").save_pretrained(root / f"{name}_depth")
    save_timm(root / "test_efficientnet", "test_efficientnet")
    return root


def _write_held_out(root: Path, number: int) -> None:
    rng = np.random.default_rng(number)
    for folder in ("rgb", "depth"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    pixels = rng.integers(0, 256, (60, 70, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(root / "rgb" / f"{number}.png")
    np.save(root / "depth" / f"{number}.npy", rng.uniform(1, 9, (60, 70)).astype(np.float32))
