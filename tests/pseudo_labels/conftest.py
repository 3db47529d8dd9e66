"""Photos and the store that an undisturbed job makes of them, once for each module."""

from pathlib import Path

import pytest
from tiny_teacher import contents, job, write_photos


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_photos(tmp_path_factory.mktemp("photos"))


@pytest.fixture(scope="module")
def finished(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("labels") / "store"
    job(photos).run(out)
    return out


@pytest.fixture(scope="module")
def uninterrupted(finished: Path) -> dict[str, bytes]:
    """The content of that store."""
    return contents(finished)
