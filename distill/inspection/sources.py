"""What a path holds, ready to be looked at: a known set, pairs of files, photographs, labels."""

import io
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from numpy.typing import NDArray
from PIL import Image

from distill.datasets import depth_files, images, remote
from distill.datasets.photographs import open_photographs
from distill.evaluation.rows import as_picture
from distill.inspection.layouts import recognise, recognise_below
from distill.inspection.pairing import MOST, Pairs, find_pairs
from distill.labels.store import LabelStore
from distill.types import Dataset, Sample

_ORIENTATION = 0x0112  # of EXIF


@dataclass(frozen=True, kw_only=True)
class Seen:
    """One sample as it was read.

    Attributes:
        image: upright; None for a label without its photograph.
        size: of the image, (h, w), upright.
        form: of the image's file, such as `JPEG` or `PNG, grey`; "" where it is not known.
        turned: by the image's EXIF tag, which says that its rows are columns or upside down.
        depth: as stored or, by a reader, in metres with NaN where it is not valid; or None.
        far: where a reader says sky.
    """

    image: UInt8[np.ndarray, "h w 3"] | None = None
    size: tuple[int, int] | None = None
    form: str = ""
    turned: bool = False
    depth: NDArray[Any] | None = None
    far: NDArray[np.bool_] | None = None


@dataclass(frozen=True, kw_only=True)
class Source:
    """Something to look at.

    Attributes:
        layout: what it is, for people.
        kind: `set`, `pairs`, `photos` or `labels`.
        parts: names of its parts and their numbers of samples.
        key: of a sample, by number.
        read: a sample, by number.
        recipe: how a recipe opens it, in Python; by part for a known set.
        commands: what to run with it.
        median: metres between which the median of its depth should lie.
        depth_as_read: what the reader makes of the depth; None where it is as stored.
        pairs: of a folder of pairs.
        datasets: of a known set, by part.
        doubts: that opening it left.
    """

    layout: str
    kind: str
    parts: Mapping[str, int]
    key: Callable[[int], str]
    read: Callable[[int], Seen]
    recipe: list[str] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)
    median: tuple[float, float] | None = None
    depth_as_read: str | None = None
    pairs: Pairs | None = None
    datasets: Mapping[str, Dataset] = field(default_factory=dict)
    doubts: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return sum(self.parts.values())


def open_source(place: Path | str) -> Source:
    """What lies at `place`, without reading any of it.

    Raises:
        FileNotFoundError: nothing lies there.
        ValueError: it holds several sets, or nothing that is known.
        OSError: it cannot be reached.
    """
    if isinstance(place, str) or not place.is_dir():
        return _photos(place, [])
    if (place / "store.json").is_file():
        return _labels(place)
    doubts: list[str] = []
    if source := _known(place, doubts):
        return source
    pairs = find_pairs(place)
    if pairs is not None:
        return _paired(place, pairs, doubts)
    return _photos(place, doubts)


def evaluation(benchmark: str, root: Path) -> str:
    """The command that scores a model on what lies at `root`."""
    data = _shell(root)
    return f"distill evaluate --model MODEL --benchmark {benchmark} --data {data} --out scores"


def _known(root: Path, doubts: list[str]) -> Source | None:
    row = recognise(root)
    if row is None:
        below = recognise_below(root)
        if len(below) > 1:
            named = "\n".join(f"  {folder}  {found.title}" for folder, found in below.items())
            raise ValueError(f"{root} holds several sets; inspect them one by one:\n{named}")
        if not below:
            return None
        root, row = next(iter(below.items()))
        doubts.append(f"looked at {root}, which is the root of the set")
    try:
        parts = row.open(root)
    except (ValueError, OSError) as error:
        doubts.append(f"it looks like {row.title}, but its reader says: {error}")
        return None
    datasets = list(parts.values())
    return Source(
        layout=row.title,
        kind="set",
        parts={part: len(dataset) for part, dataset in parts.items()},
        key=lambda n: _at(datasets, n)[0].key(_at(datasets, n)[1]),
        read=lambda n: _of_sample(_sample(datasets, n)),
        recipe=[row.line(root, part) for part in parts],
        commands=[evaluation(row.benchmark, root)] if row.benchmark else [],
        median=row.median,
        depth_as_read="metres" if row.median else "up to scale",
        datasets=parts,
        doubts=doubts,
    )


def _at(datasets: list[Dataset], number: int) -> tuple[Dataset, int]:
    for dataset in datasets:
        if number < len(dataset):
            return dataset, number
        number -= len(dataset)
    raise IndexError(number)


def _sample(datasets: list[Dataset], number: int) -> Sample:
    dataset, index = _at(datasets, number)
    return dataset[index]


def _of_sample(sample: Sample) -> Seen:
    pixels = np.asarray(as_picture(sample))
    depth = None if sample.target is None else sample.target.numpy()
    far = None if sample.far is None else sample.far.numpy()
    size = (pixels.shape[0], pixels.shape[1])
    return Seen(image=pixels, size=size, depth=depth, far=far)


def _paired(root: Path, pairs: Pairs, doubts: list[str]) -> Source:
    if not pairs.pairs:
        raise ValueError(
            f"{root}: {len(pairs.images)} images and {len(pairs.depths)} depth maps, and no two "
            f"of one name: first {pairs.images[:1]} and {pairs.depths[:1]}; name partners alike "
            "but for one folder, or a word such as `_rgb` and `_depth`"
        )

    if pairs.cut:
        doubts.append(f"only the first {MOST} files were looked at")

    def read(number: int) -> Seen:
        rgb, depth = pairs.pairs[number]
        pixels = np.asarray(images.read_pil(root / rgb))
        form, turned = _form(root / rgb)
        stored = depth_files.read_stored(root / depth)
        size = (pixels.shape[0], pixels.shape[1])
        return Seen(image=pixels, size=size, form=form, turned=turned, depth=stored)

    suffixes = ", ".join(sorted({Path(depth).suffix for _, depth in pairs.pairs}))
    where = f": {pairs.rgb} and {pairs.depth}" if pairs.rgb else ""
    return Source(
        layout=f"images with depth in {suffixes}{where}",
        kind="pairs",
        parts={"": len(pairs.pairs)},
        key=lambda n: " + ".join(pairs.pairs[n]),
        read=read,
        pairs=pairs,
        doubts=doubts,
    )


def _photos(place: Path | str, doubts: list[str]) -> Source:
    dataset = open_photographs(place)

    def read(number: int) -> Seen:
        if not hasattr(dataset, "encoded"):
            return _of_sample(dataset[number])
        data: bytes = dataset.encoded(number)  # type: ignore[attr-defined]  # tested above
        pixels = np.asarray(images.read_pil(data, name=dataset.key(number)))
        form, turned = _form(data)
        size = (pixels.shape[0], pixels.shape[1])
        return Seen(image=pixels, size=size, form=form, turned=turned)

    return Source(
        layout=f"images without depth, {_CONTAINERS.get(type(dataset).__name__, 'a folder')}",
        kind="photos",
        parts={"": len(dataset)},
        key=dataset.key,
        read=read,
        recipe=[f"open_photographs({_python(place)})"],
        commands=[f"distill run recipes.labels:plain --data {_shell(place)} --out runs/labels"],
        doubts=doubts,
    )


_CONTAINERS = {
    "TarShards": "tar shards",
    "ParquetImages": "Parquet files",
    "HuggingFace": "a folder that `datasets` saved",
    "LmdbImages": "LMDB folders",
    "VideoFrames": "frames of videos",
}


def _labels(root: Path) -> Source:
    store = LabelStore(root, allow_incomplete=True)
    keys = store.keys()
    if not keys:
        raise ValueError(f"{root} is a label store without a label; run the label job")

    def read(number: int) -> Seen:
        label = store.read(keys[number])
        values = np.where(label.valid.numpy(), label.prediction.values.numpy(), np.nan)
        return Seen(size=label.image_size, depth=values)

    meta = store.meta
    missing = store.missing()
    doubts = [f"{len(missing)} of {meta.shards} shards are not written yet"] if missing else []
    return Source(
        layout=f"label store of {meta.dataset} by {meta.teacher_names}",
        kind="labels",
        parts={"": len(keys)},
        key=lambda n: keys[n],
        read=read,
        recipe=[f"PseudoLabelled(open_photographs(Path('IMAGES')), Path({str(root)!r}))"],
        commands=[f"distill labels verify {_shell(root)}"],
        depth_as_read=meta.space.value,
        doubts=doubts,
    )


def _form(source: Path | bytes) -> tuple[str, bool]:
    """Format and kind of an image, and whether its EXIF tag turns it."""
    with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
        kinds = {"L": ", grey", "CMYK": ", CMYK", "P": ", palette", "I;16": ", 16-bit grey"}
        turned = image.getexif().get(_ORIENTATION, 1) in range(2, 9)
        return f"{image.format}{kinds.get(image.mode, '')}", turned


def _shell(place: Path | str) -> str:
    """As a shell takes it for one word, and expands nothing."""
    return shlex.quote(str(place))


def _python(place: Path | str) -> str:
    return repr(place) if remote.is_remote(str(place)) else f"Path({str(place)!r})"
