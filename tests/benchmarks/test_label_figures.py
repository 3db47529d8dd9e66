"""The baseline of the label figures answers as transformers does; FLOPs are those of the issue."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.label_figures import forward_flops, peak
from benchmarks.official_loop import infer_image, official_network
from distill.models.depth_anything import depth_anything
from distill.models.foreign import load_predictor


def test_the_official_loop_gives_the_network_s_own_map(tmp_path: Path) -> None:
    depth_anything("vits").save_pretrained(tmp_path / "m")
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 255, (518, 518, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    values = infer_image(official_network(tmp_path / "m"), tmp_path / "a.png")
    (expected,) = load_predictor(tmp_path / "m").predict([Image.fromarray(pixels)])
    assert values.shape == (518, 518)
    spread = float(expected.values.max() - expected.values.min())
    assert np.abs(values - expected.values.numpy()).max() < 1e-3 * spread
    assert forward_flops(tmp_path / "m") == pytest.approx(115e9, rel=0.02)


def test_a_peak_is_the_fastest_side() -> None:
    assert peak(torch.device("cpu"), (64, 256)) > 1e8
