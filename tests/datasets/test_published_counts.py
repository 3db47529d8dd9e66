"""Counts against which a copy is held."""

import pytest

from distill.datasets import published


@pytest.mark.parametrize(
    ("reader", "count", "same", "said"),
    [
        ("Hypersim", 59_543, True, "as published: train, 59543 (metadata_images"),
        ("Hypersim", 59_542, False, "published: train 59543, val 7386, test 7690"),
        ("TartanAir", 306_637, True, "as published: left camera, about 306000"),
        ("TartanAir", 100_000, False, "published: left camera 306000"),
        ("ImageFolder", 3, True, ""),
    ],
)
def test_a_count_is_the_published_one_or_not(reader: str, count: int, same: bool, said: str):
    found, text = published.compared(reader, count)
    assert found is same
    assert text.startswith(said)
    assert said or not text


def test_parts_add_up():
    of = {(row.reader, row.part): row.images for row in published.COUNTS}
    hypersim = [of["Hypersim", part] for part in ("train", "val", "test")]
    assert sum(hypersim) == of["Hypersim", "all released"]
    scenes = [of["VirtualKitti2", f"Scene{n:02d}"] for n in (1, 2, 6, 18, 20)]
    assert sum(scenes) == of["VirtualKitti2", "left camera"]
    assert 2 * sum(scenes) == of["VirtualKitti2", "both cameras"]
    irs = [of["Irs", part] for part in ("Home", "Office", "Restaurant", "Store")]
    assert sum(irs) == of["Irs", "train"] + of["Irs", "test"] == 103_316
    assert of["Diode", "val indoors"] + of["Diode", "val outdoor"] == of["Diode", "val"]
    assert len(of) == len(published.COUNTS), "a part of a set is there twice"
