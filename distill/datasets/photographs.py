"""Photographs without labels, in whatever form they are: the reader is chosen by what is there."""

import itertools
import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from distill.datasets import images, remote, video_file
from distill.datasets.image_folder import ImageFolder
from distill.datasets.tar_shards import TarShards
from distill.types import Dataset

_PACKED = (".tar.gz", ".tgz", ".zip", ".7z")
_LOOKED_AT = 2000  # files of a folder, before its kind is decided


def open_photographs(source: str | Path, *, name: str = "photos") -> Dataset:
    """The images of `source`, sorted by key.

    A folder of images (Places365, Open Images, unpacked Objects365), a folder or pattern of tar
    shards (SA-1B, Google Landmarks, ImageNet-21K by synset, WebDataset), of Parquet files (Hugging
    Face), of LMDB folders (LSUN) or of videos (BDD100K); a URL of shards or Parquet files; a folder
    that `datasets` saved. Other files beside them (`.json`, `.csv`, `.txt`) do not matter.

    Args:
        source: a path, a URL, or a pattern (`shard-{000..123}.tar`, `*.parquet`).
        name: of the data set.

    Raises:
        FileNotFoundError: nothing is there.
        ValueError: images of several forms lie there, or of none.
        ImportError: the form needs the extra `[data]`.
        OSError: it cannot be reached.
    """
    text = str(source)
    pattern = not Path(text).exists() and any(sign in text for sign in "*?[{")
    if remote.is_remote(text) or pattern:
        kind = "parquet" if re.search(r"\.parquet(\?|$)", text) else "tar"
        if text.startswith("hf://") and not text.endswith(".tar"):
            kind = "parquet"
        return _open(kind, text, name)
    path = Path(source)
    if not path.exists():
        raise FileNotFoundError(
            f"{path}: no such file or folder; give one of photographs (a recipe takes it as --data)"
        )
    return _open(_kind(path, name), path, name)


def _open(kind: str, source: str | Path, name: str) -> Dataset:
    if kind == "tar":
        return TarShards(source, name=name)
    if kind == "parquet":
        from distill.datasets.parquet_images import ParquetImages

        return ParquetImages(source, name=name)
    path = Path(source)
    if kind == "lmdb":
        from distill.datasets.lmdb_images import LmdbImages

        return LmdbImages(path, name=name)
    if kind == "video":
        from distill.datasets.video_frames import VideoFrames

        return VideoFrames(path, name=name)
    if kind == "saved":
        from distill.datasets.hugging_face import HuggingFace

        return HuggingFace(path, name=name)
    return ImageFolder(path, name=name)


def _kind(path: Path, name: str) -> str:
    """What lies at `path`; `image` for a folder without files, whose error is the reader's."""
    if any((path / mark).is_file() for mark in ("dataset_info.json", "dataset_dict.json")):
        return "saved"
    files = [path.name] if path.is_file() else list(itertools.islice(_files(path), _LOOKED_AT))
    found = Counter(filter(None, map(_kind_of, files)))
    packed = [file for file in files if file.lower().endswith(_PACKED)]
    if packed and not found:
        raise ValueError(f"{name}: {path} holds {packed[0]}; unpack it (`gunzip` does for shards)")
    if len(found) > 1:
        counts = ", ".join(f"{n} of {kind}" for kind, n in sorted(found.items()))
        raise ValueError(
            f"{name}: {path} holds images of several forms ({counts}); give one folder for each, "
            "or only the one that is meant"
        )
    if path.is_file() and (not found or found["image"]):
        raise ValueError(f"{name}: {path} is no folder, shard, Parquet file or video")
    return next(iter(found), "image")


def _kind_of(file: str) -> str | None:
    suffix = os.path.splitext(file)[1].lower()  # noqa: PTH122 many names, no need of paths
    if file == "data.mdb":
        return "lmdb"
    if suffix in (".tar", ".parquet"):
        return suffix[1:]
    if suffix in video_file.SUFFIXES:
        return "video"
    return "image" if suffix in images.suffixes_of_images() else None


def _files(root: Path) -> Iterator[str]:
    for _, folders, files in os.walk(root, followlinks=True):
        folders[:] = [f for f in folders if not f.startswith(".") and f != "__MACOSX"]
        yield from (file for file in files if not file.startswith("."))
