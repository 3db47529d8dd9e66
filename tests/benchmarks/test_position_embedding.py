"""The benchmark on a small network: equal on the stored grid, not quite on others."""

import dataclasses

import pytest

from benchmarks import position_embedding
from distill.models.depth_anything import SIZES
from distill.models.dinov2 import ENCODERS


@pytest.mark.parametrize("embedding", position_embedding.EMBEDDINGS)
def test_only_the_stored_grid_is_equal(embedding, monkeypatch):
    encoder = dataclasses.replace(ENCODERS["vits"], width=64, heads=1, depth=4, image_size=98)
    size = dataclasses.replace(SIZES["vits"], encoder=encoder, taps=(1, 2, 3, 4), fusion=16)
    monkeypatch.setitem(SIZES, "vits", size)
    monkeypatch.setitem(ENCODERS, "vits", encoder)
    monkeypatch.setattr(position_embedding, "GRIDS", ((7, 7), (7, 10), (5, 5)))
    stored, wider, smaller = position_embedding.differences("vits", embedding)
    assert stored["patches"] == (7, 7)
    assert stored["largest"] < 1e-5
    for other in (wider, smaller):
        assert 1e-4 < other["mean"] < other["largest"] < 0.1
