"""`InMemory`: the same samples, each read once."""

import pytest
import torch

from distill.datasets.in_memory import InMemory
from distill.types import Sample


class Flaky:
    """Three samples; counts the reads, and fails at the first of the last one."""

    name = "flaky"

    def __init__(self) -> None:
        self.reads: list[int] = []

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> Sample:
        self.reads.append(index)
        if self.reads.count(2) == 1 and index == 2:
            raise OSError("flaky/2: not now")
        return Sample(key=self.key(index), image=torch.full((3, 2, 2), index / 2))

    def key(self, index: int) -> str:
        return f"flaky/{index}"


def test_each_sample_is_read_once():
    source = Flaky()
    dataset = InMemory(source)
    assert (dataset.name, len(dataset), dataset.key(1)) == ("flaky", 3, "flaky/1")
    assert source.reads == []
    first = [dataset[index] for index in (0, 1, 0, 1)]
    assert source.reads == [0, 1]
    assert [sample.key for sample in first] == ["flaky/0", "flaky/1", "flaky/0", "flaky/1"]
    assert torch.equal(first[3].image, torch.full((3, 2, 2), 0.5))


def test_what_could_not_be_read_is_tried_again():
    dataset = InMemory(Flaky())
    with pytest.raises(OSError, match="flaky/2: not now"):
        dataset[2]
    assert dataset[2].key == "flaky/2"
