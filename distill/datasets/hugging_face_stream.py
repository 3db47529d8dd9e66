"""Photographs from a stream of Hugging Face `datasets`, which has no random access."""

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import datasets
from torch.utils.data import IterableDataset, get_worker_info

from distill.datasets import images
from distill.datasets.hugging_face import encoded_image, undecoded
from distill.types import Sample


class Streamed(IterableDataset[Sample]):
    """A column of images of a `datasets.IterableDataset`, in order. Keys: `"<name>/<number>"`.

    For what has no random access. The number is the place in the stream, the same on every node and
    in every worker of a `DataLoader`: each reads the whole stream and decodes its share, and all
    together get every sample once. `state_dict` is where the stream is; `load_state_dict` puts
    another one there, in another process too. A stream that was read to its end starts anew. What
    is in Parquet files is better read by `ParquetImages`, by its rows and in any order.

    Args:
        rows: the stream.
        column: of type `Image`, of structs with `bytes`, or of bytes.
        name: of the data set.
        node: this process, from 0.
        nodes: processes that share the stream.
        seed: shuffles within `buffer` samples; None keeps the order. A shuffled stream resumes by
            reading again what it had read, undecoded; one in order jumps.
        buffer: samples that shuffling holds in memory.

    Raises:
        ValueError: no such column of images, or `node` is none of `nodes`.
    """

    def __init__(
        self,
        rows: "datasets.IterableDataset",
        *,
        column: str = "image",
        name: str = "photos",
        node: int = 0,
        nodes: int = 1,
        seed: int | None = None,
        buffer: int = 1000,
    ) -> None:
        if not 0 <= node < nodes:
            raise ValueError(f"{name}: node {node} of {nodes}; nodes count from 0")
        self.name, self.column, self._node, self._nodes = name, column, node, nodes
        self._shuffled = seed is not None
        plain = undecoded(rows, column, name)
        self._rows = plain if seed is None else plain.shuffle(seed=seed, buffer_size=buffer)
        self._next: int = 0
        self._place: dict[str, Any] | None = None  # of `_rows`, always that of `_next`

    def __iter__(self) -> Iterator[Sample]:
        """The samples from where the stream is.

        Raises:
            ValueError: an image is damaged or too large, or a row holds none.
            FileNotFoundError: the file that a row names is gone.
            OSError: it cannot be reached.
        """
        worker = get_worker_info()
        part, parts = (worker.id, worker.num_workers) if worker else (0, 1)
        part, parts = self._node * parts + part, self._nodes * parts
        if not self._shuffled:
            self._rows.load_state_dict(self._place)
        rows = self._rows.iter(batch_size=1)  # unlike `iter`, the same in every worker
        for row in itertools.islice(rows, self._next if self._shuffled else 0, None):
            number, self._next = self._next, self._next + 1
            if not self._shuffled:
                self._place = self._rows.state_dict()
            if number % parts == part:
                key = f"{self.name}/{number:09d}"
                data = encoded_image(row[self.column][0], key)
                yield Sample(key=key, image=images.read_image(data, name=key))
        self._next, self._place = 0, None

    def state_dict(self) -> dict[str, Any]:
        """Where the stream is, as plain JSON; of a worker's copy only the worker knows."""
        return {"next": self._next, "rows": self._place}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`."""
        self._next, self._place = state["next"], state["rows"]
