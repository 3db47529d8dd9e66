"""Facts of maps, each against numbers made by hand or by scipy."""

import numpy as np
import pytest
from depth_pictures import lidar, room, stored, street
from scipy import stats

from distill.inspection import measure
from distill.inspection.measure import eight_bits, frequent, pattern, quantiles


def test_one_map_by_hand():
    values = np.array([[0, 65535, 10, 20], [0, 30, 40, 50]], np.uint16)
    facts = measure.measure(values)
    assert facts.size == (2, 4)
    assert facts.dtype == "uint16"
    assert facts.markers == {"0": 0.25, "65535": 0.125}
    assert facts.valid == 5 / 8
    assert facts.values.tolist() == [10, 20, 30, 40, 50]
    assert facts.levels == 5
    assert facts.divisible == {5: 1.0, 8: 0.2, 256: 0.0, 257: 0.0}
    assert facts.often == (10.0, 0.125)
    assert facts.adjacent == 1.0  # 10-20, 30-40, 40-50; nothing stands to the right of 20, 50
    assert facts.bands[:2] == (0.5, 0.75)


@pytest.mark.parametrize(
    ("values", "markers"),
    [
        (np.array([[1.0, 0, -1, -5, np.nan, np.inf, -np.inf, 2]]), "0 -1 negative NaN infinity"),
        (np.array([[1, 0, -1, -5, 32767]], np.int16), "0 -1 negative 32767"),
        (np.array([[1, 0, 255]], np.uint8), "0 255"),
        (np.array([[1.0, 2.0]]), ""),
    ],
)
def test_markers(values: np.ndarray, markers: str):
    facts = measure.measure(values)
    assert set(facts.markers) == set(markers.split())
    assert facts.valid == pytest.approx(((values > 0) & (values < 255)).mean())
    assert (measure.marked(values) == ~((values > 0) & (values < 255))).all()


def test_other_numbers_can_be_markers():
    facts = measure.measure(np.array([[1.0, 2, 10000, 10000]]), also=(10000,))
    assert facts.markers == {"10000": 0.5}
    assert facts.values.tolist() == [1, 2]


def test_what_a_reader_has_decided_is_not_decided_again():
    values = np.array([[0.0, 1, 2, np.nan]])  # disparity: 0 is the sky
    facts = measure.measure(values, read=True)
    assert facts.markers == {"NaN": 0.25}
    assert facts.values.tolist() == [0, 1, 2]
    assert measure.marked(values, read=True).tolist() == [[False, False, False, True]]


def test_a_map_without_any_number():
    facts = measure.measure(np.full((20, 30), np.nan, np.float32))
    assert (facts.valid, facts.levels, facts.adjacent, facts.slope) == (0, 0, 0, None)
    assert quantiles([facts]) is None
    assert measure.slope([facts]) is None


def test_the_correlation_is_spearmans():
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 9, 200), rng.integers(0, 9, 200)  # many equal numbers
    expected = float(stats.spearmanr(a, b + a).statistic)  # type: ignore[attr-defined]
    assert measure.rank_correlation(a, a + b) == pytest.approx(expected)
    assert measure.rank_correlation(a, np.ones(200)) is None
    assert measure.rank_correlation(a[:1], b[:1]) is None


def test_large_maps_are_thinned_by_rows(monkeypatch: pytest.MonkeyPatch):
    whole = measure.measure(room(400, 100))
    monkeypatch.setattr(measure, "_LARGEST", 10_000)
    part = measure.measure(room(400, 100))
    assert part.size == whole.size
    assert part.levels < whole.levels / 3
    assert part.adjacent == whole.adjacent == 1
    assert quantiles([part]) == pytest.approx(quantiles([whole]), rel=0.03)


def test_ends_of_the_range_are_exact_and_maps_count_alike():
    small, large = np.linspace(1, 2, 100).reshape(10, 10), np.linspace(10, 20, 90_000)
    facts = [measure.measure(m) for m in (small, large.reshape(300, 300))]
    found = quantiles(facts)
    assert found is not None
    assert (found[0], found[4]) == (1, 20)
    assert 2 <= found[2] <= 10  # the median lies between the maps, whatever their sizes
    assert quantiles(facts[:1]) == pytest.approx((1, 1.01, 1.5, 1.99, 2), abs=0.001)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (stored(room(), 40).astype(np.uint8), "stored in 8 bits"),
        (stored(room(), 40) * np.uint16(257), "multiple of 257"),
        (stored(room(), 40) * np.uint16(256), "multiple of 256"),
        ((stored(room(), 40) / 200).astype(np.float32), "different numbers"),
        (stored(room(), 1000), None),
        (room().astype(np.float16), None),
        (stored(street(), 256), None),
        (stored(room(8, 8), 40), None),  # so small a map may have few numbers
    ],
)
def test_eight_bits(values: np.ndarray, reason: str | None):
    said = eight_bits([measure.measure(values)])
    assert (said is None) == (reason is None)
    assert reason is None or reason in (said or "")


def test_patterns():
    holes = room()
    holes[20:50, 30:90] = 0
    dots = np.where(np.random.default_rng(0).random((96, 128)) < 0.3, room(), 0)
    maps = {"dense": room(), "dense with holes": holes, "sparse": dots, "lidar": lidar(street())}
    assert {name: pattern([measure.measure(m)]) for name, m in maps.items()} == {
        name: name for name in maps
    }
    half = np.where(np.arange(96)[:, None] < 48, room(), 0)  # a large hole is no pattern of points
    flaws = np.where(np.random.default_rng(0).random((96, 128)) < 0.75, room(), 0)
    for values in (half, flaws):
        assert pattern([measure.measure(values)]) == "dense with holes"


def test_a_frequent_number_at_an_end_is_found_and_others_are_not():
    sky = [measure.measure(np.where(np.isfinite(m), m, 10000)) for m in (street(), street(seed=1))]
    assert frequent(sky) == 10000
    assert frequent(sky[:1]) is None  # once is no habit
    assert frequent([measure.measure(room(seed=s)) for s in range(3)]) is None
    wall = np.where(room() > 2, 2.5, room())  # a wall that one looks at squarely, once
    assert frequent([measure.measure(wall), measure.measure(room()), *sky[:1]]) is None
