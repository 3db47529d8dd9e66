"""A data set that keeps every sample it has read."""

from distill.types import Dataset, Sample


class InMemory:
    """Another data set, each sample read from disk once: for one that fits into memory.

    Every reading process keeps samples of its own, so `workers` multiplies the memory. They are
    handed out again and again: a transform makes new tensors and never writes into these. The other
    data set is `dataset`.
    """

    def __init__(self, dataset: Dataset) -> None:
        self.name = dataset.name
        self.dataset = dataset
        self._samples: dict[int, Sample] = {}

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Sample:
        if index not in self._samples:
            self._samples[index] = self.dataset[index]
        return self._samples[index]

    def key(self, index: int) -> str:
        """The key of sample `index`, without reading it."""
        return self.dataset.key(index)
