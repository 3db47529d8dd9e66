import itertools
from collections import Counter

import pytest

from distill.shuffle import hashed, permuted


@pytest.mark.parametrize("length", [*range(1, 40), 100, 257, 1000, 1024])
def test_permuted_is_a_bijection(length):
    for seed in (0, 1, 2**63):
        assert sorted(permuted(i, length, seed) for i in range(length)) == list(range(length))


def test_permuted_needs_no_memory_for_62_million():
    length = 62_300_000
    drawn = [permuted(i, length, 7) for i in range(2000)]
    assert len(set(drawn)) == len(drawn)
    assert 0 <= min(drawn) < max(drawn) < length
    assert abs(sum(drawn) / len(drawn) / length - 0.5) < 0.03


def test_every_place_is_as_likely_as_every_other():
    """Chi-squared of where 0 and 4 of 5 go over 2000 seeds; 18.5 is the 0.1 % bound."""
    for index in (0, 4):
        counts = Counter(permuted(index, 5, seed) for seed in range(2000))
        assert sum((counts[place] - 400) ** 2 / 400 for place in range(5)) < 18.5


def test_neighbours_do_not_stay_neighbours():
    drawn = [permuted(i, 1000, 3) for i in range(1000)]
    steps = Counter((b - a) % 1000 for a, b in itertools.pairwise(drawn))
    assert steps.most_common(1)[0][1] < 10


def test_seeds_give_other_orders():
    orders = {tuple(permuted(i, 100, seed) for i in range(100)) for seed in range(50)}
    assert len(orders) == 50


def test_permuted_refuses_what_is_outside():
    for index in (-1, 10):
        with pytest.raises(ValueError, match=rf"index {index} does not lie in 0 \.\.\. 9"):
            permuted(index, 10, 0)


def test_hashed_is_splitmix64():
    """The first number of the published generator seeded with 0."""
    assert hashed(0) == 0xE220A8397B1DCDAF
    assert hashed(1, 2) != hashed(2, 1)
    assert hashed(1) != hashed(1, 0)
