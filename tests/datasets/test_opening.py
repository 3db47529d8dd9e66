"""All that is missing is told at once."""

import pytest

from distill.datasets.opening import open_all


class Three:
    name = "three"

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int):
        raise IndexError

    def key(self, index: int) -> str:
        return f"three/{index}"


def missing():
    raise FileNotFoundError("hypersim: no such folder: x; get it")


def empty():
    raise ValueError("irs: the list is empty")


def test_data_sets_come_in_order():
    first, second = Three(), Three()
    assert open_all([lambda: first, lambda: second]) == [first, second]
    assert open_all([]) == []


def test_one_failure_comes_as_it_is():
    with pytest.raises(FileNotFoundError, match="no such folder: x"):
        open_all([Three, missing])
    with pytest.raises(FileNotFoundError, match="no such folder: x"):
        open_all([missing, missing])


def test_several_failures_come_together():
    message = r"2 data sets cannot be opened:\n  hypersim: no such.*\n  irs: the list is empty$"
    with pytest.raises(ValueError, match=message):
        open_all([missing, Three, empty, empty])
