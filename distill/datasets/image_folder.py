"""A folder of photographs without labels, as deep and as large as it may be."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from distill.datasets import folders, images
from distill.datasets.manifest import Entry, Place, kept_or_listed
from distill.types import Sample


class ImageFolder:
    """All images below `root`, sorted by relative path. Keys: `"<name>/<relative path>"`.

    A large folder is listed once (`manifest`): 62 million names fit on the disk, worker processes
    share them, and the next start only looks whether a folder has changed since. An image that is
    overwritten in its place is not noticed, for nothing depends on what is in it.

    Raises:
        FileNotFoundError: `root` is not a folder.
        ValueError: it holds no image.
    """

    def __init__(self, root: Path, *, name: str = "photos") -> None:
        self.root, self.name = root, name
        self._manifest = kept_or_listed(
            f"image_folder {root.resolve()}",
            fresh=partial(folders.unchanged, root),
            entries=partial(_entries, root),
            containers=(str(root.resolve()),),
        )
        if len(self._manifest) == 0:
            raise ValueError(
                f"{name}: no image in {root}; give a folder with files such as .jpg, .png or .webp"
            )

    def __len__(self) -> int:
        return len(self._manifest)

    def key(self, index: int) -> str:
        """The key of sample `index`, without reading it."""
        return f"{self.name}/{self._manifest.path(index)}"

    def path(self, index: int) -> Path:
        """The file of sample `index`."""
        return self.root / self._manifest.path(index)

    def place(self, index: int) -> Place:
        """Where the image lies."""
        path = self.path(index)
        return Place(str(path), 0, path.stat().st_size)

    def encoded(self, index: int) -> bytes:
        """The file's own bytes.

        Raises:
            FileNotFoundError: it is gone.
        """
        return self.path(index).read_bytes()

    def __getitem__(self, index: int) -> Sample:
        """Read one image.

        Raises:
            ValueError: the file is damaged or too large (`images.read_pil`).
            FileNotFoundError: it is gone.
            IndexError: there is no such sample.
        """
        return Sample(key=self.key(index), image=images.read_image(self.path(index)))


def _entries(root: Path, times: dict[str, str]) -> Iterator[Entry]:
    for path in images.list_images(root, times=times):
        yield Entry(0, path, 0, 0)  # a file of its own, which is read whole
