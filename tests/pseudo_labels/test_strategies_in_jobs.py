"""Each strategy through a whole job: what it found arrives in the store."""

from functools import partial

import pytest
from tiny_teacher import job, write_photos

from distill.labels.index import AGREEMENT
from distill.labels.store import LabelStore
from pseudo_labels.strategies.council import council, select
from pseudo_labels.strategies.cross_context import cross_context
from pseudo_labels.strategies.edges import edges
from pseudo_labels.strategies.multi_scale import multi_scale
from pseudo_labels.strategies.tta import flip

FLIPPED = partial(council, inner=flip)


@pytest.mark.parametrize(
    ("strategy", "teachers", "names"),
    [
        (partial(multi_scale, multiple=14), ("a",), {"scale"}),
        (partial(edges, inner=FLIPPED), ("a", "b", "c"), {"flip", "teachers", "edges"}),
        (select, ("a", "b"), set()),
        (cross_context, ("a",), {"crop"}),
        (partial(edges, inner=cross_context), ("a",), {"crop", "edges"}),
    ],
)
def test_labels_confidence_and_agreement_are_stored(strategy, teachers, names, tmp_path):
    photos = write_photos(tmp_path / "photos", count=6)
    job(photos, strategy=strategy, teacher=teachers).run(tmp_path / "store")
    store = LabelStore(tmp_path / "store")
    assert len(store) == 6
    for key in list(store.keys()):
        label = store.read(key)
        assert label.valid.all()
        assert (label.planes.confidence is None) == (strategy is select)
    for name in AGREEMENT:
        assert store.matching(f"{name} >= 0").all() == (name in names), name
