"""What a label job computes, holds and writes.

Jobs are known by their fields: this package does not see the one that makes labels.
"""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from PIL import Image

from distill.labels.encoded import encode_label
from distill.labels.planes import Planes
from distill.plan.load import Load
from distill.plan.networks import Stand
from distill.types import Dataset, Encoded, Prediction, Sample, Space

_LOOKED_AT = 32  # images of the data
_SIDES = (640, 480)  # of an image where there is no data: most photographs are 4:3
_BLOCK = 512  # bytes, of which a tar is made
_ROW = 150  # bytes of a label in the index: two digests, and what zstd leaves of the rest


@dataclass(frozen=True, kw_only=True)
class _Seen:
    """The images looked at.

    Attributes:
        images: of the data, or a single one of an assumed size.
        count: of all images.
        key: of one of them.
        image_bytes: mean; None where not known.
        notes: what was assumed.
    """

    images: Sequence[Image.Image]
    count: int
    key: str
    image_bytes: float | None
    notes: tuple[str, ...]


def of_labelling(
    job: Any, *, images: int | None, size: tuple[int, int] | None, reads_data: bool
) -> Load:
    """The load of a `LabelJob`; the teachers may be sizes, such as `vitg`.

    Args:
        job: to be planned.
        images: how many; None counts them.
        size: width and height of an image, where no data is read.
        reads_data: the job's data may be opened.

    Raises:
        ValueError: neither data nor a number of images, or a teacher of unknown shape.
    """
    seen = _read(job) if reads_data else _assumed(images, size)
    teachers = [Stand(one, _space(job)) for one in _teachers(job)]
    asker = job.strategy(teachers)
    low = job.dtype != "float32"
    shapes = Counter(tuple(v.shape for v in asker.views(image)) for image in seen.images)
    flops, peaks, sizes = 0.0, [0], []
    costs: dict[tuple[str, torch.Size], tuple[float, int]] = {}
    for views, times in shapes.items():
        answer = asker.ask([torch.rand(job.batch_size, *shape) for shape in views])
        sizes += [_label_size(job, asker.space, answer, seen.key)] * times
        for teacher in teachers:
            for shape in teacher.asked:
                place = teacher.name, shape
                if place not in costs:
                    costs[place] = teacher.forward(shape, low=low)
                flops += times * costs[place][0] / job.batch_size
                peaks.append(costs[place][1])
            teacher.asked.clear()
    count = images or seen.count
    label_bytes = sum(sizes) / len(sizes)
    return Load(
        kind="labelling",
        images=count,
        together=job.batch_size,
        size=_told(shapes),
        precision="bf16" if low else "fp32",
        flops=flops / len(seen.images),
        memory={
            "weights": sum(4.0 * teacher.weights for teacher in teachers),
            "activations": float(max(peaks)),
        },
        image_bytes=seen.image_bytes,
        label_bytes=label_bytes,
        written=count * label_bytes,
        notes=seen.notes,
    )


def _teachers(job: Any) -> Sequence[Any]:
    return job.teacher if isinstance(job.teacher, tuple) else (job.teacher,)


def _space(job: Any) -> Space | None:
    known = (space for space in Space if job.space in (space.name, space.value))
    return next(known, None)


def _read(job: Any) -> _Seen:
    dataset: Dataset = job.images()
    count = min(_LOOKED_AT, len(dataset))
    if count == 0:
        raise ValueError(f"plan: {dataset.name} has no images; see --data")
    chosen = [n * len(dataset) // count for n in range(count)]
    read = [len(dataset.encoded(n)) for n in chosen] if isinstance(dataset, Encoded) else []
    return _Seen(
        images=[_picture(dataset[n]) for n in chosen],
        count=len(dataset),
        key=dataset.key(0),
        image_bytes=sum(read) / len(read) if read else None,
        notes=(),
    )


def _assumed(images: int | None, size: tuple[int, int] | None) -> _Seen:
    if images is None:
        raise ValueError("plan: how many images are there? give --images N, or --data")
    width, height = size or _SIDES
    note = f"images of {width}x{height} pixels (--size), or whatever --data holds"
    picture = Image.new("RGB", (width, height))
    return _Seen(
        images=[picture],
        count=images,
        key="set/folder/00000000.jpg",
        image_bytes=None,
        notes=(note,),
    )


def _picture(sample: Sample) -> Image.Image:
    return Image.fromarray((sample.image * 255).byte().permute(1, 2, 0).numpy())


def _label_size(job: Any, space: Space, answer: Any, key: str) -> int:
    """Bytes of a label in the store, its index row among them."""
    values = answer.values[0]
    here = partial(_first, answer)
    label = encode_label(
        key,
        Prediction(values=values, space=space),
        codec=job.codec,
        image_size=(values.shape[0], values.shape[1]),
        planes=Planes(confidence=here("confidence"), far=here("far"), classes=here("classes")),
    )
    told = json.dumps(label.description()).encode()
    members = (label.data, told, *label.planes.values())
    return _ROW + sum(_BLOCK * (1 + -(-len(data) // _BLOCK)) for data in members)


def _first(answer: Any, name: str) -> Any:
    plane = getattr(answer, name)
    return None if plane is None else plane[0]


def _told(shapes: Counter[tuple[torch.Size, ...]]) -> str:
    """The most frequent size and how many others there are."""
    (views, _), *others = shapes.most_common()
    first = " + ".join(f"{shape[2]}x{shape[1]}" for shape in views)
    return first + (f" and {len(others)} other sizes" if others else "")
