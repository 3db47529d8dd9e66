"""A folder of photographs without labels, as deep and as large as it may be."""

from pathlib import Path

import numpy as np

from distill.datasets import images
from distill.types import Sample


class ImageFolder:
    """All images below `root`, sorted by relative path. Keys: `"<name>/<relative path>"`.

    Names are kept as one string of bytes: 62 million of them fit, and worker processes share them.

    Raises:
        FileNotFoundError: `root` is not a folder.
        ValueError: it holds no image.
    """

    def __init__(self, root: Path, *, name: str = "photos") -> None:
        self.root, self.name = root, name
        joined, ends = bytearray(), [0]
        for path in images.list_images(root):
            joined += path.encode()
            ends.append(len(joined))
        if len(ends) == 1:
            raise ValueError(
                f"{name}: no image in {root}; give a folder with files such as .jpg, .png or .webp"
            )
        self._joined, self._ends = bytes(joined), np.array(ends, np.int64)

    def __len__(self) -> int:
        return len(self._ends) - 1

    def key(self, index: int) -> str:
        """The key of sample `index`, without reading it."""
        return f"{self.name}/{self._relative(index)}"

    def path(self, index: int) -> Path:
        """The file of sample `index`."""
        return self.root / self._relative(index)

    def __getitem__(self, index: int) -> Sample:
        """Read one image.

        Raises:
            ValueError: the file is damaged or too large (`images.read_pil`).
            IndexError: there is no such sample.
        """
        return Sample(key=self.key(index), image=images.read_image(self.path(index)))

    def _relative(self, index: int) -> str:
        index = range(len(self))[index]  # IndexError, and negative indices, as a list has them
        return self._joined[self._ends[index] : self._ends[index + 1]].decode()
