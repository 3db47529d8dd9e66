"""The terms of data sets, and where a training sample's come from.

A README.md with a `license` in a data set's folder, the hub's data set card, goes before this
table: a reader knows a layout on the disk, and others write it too.
"""

import hashlib
from pathlib import Path

from distill import licences, lineage
from distill.datasets.apart import Apart
from distill.datasets.in_memory import InMemory
from distill.datasets.pseudo_labelled import PseudoLabelled
from distill.labels.store import LabelStore
from distill.licences import NON_COMMERCIAL
from distill.lineage import Lineage
from distill.types import Dataset

LICENCES = {  # of the data, by their reader: name on the hub, and who says so
    "Hypersim": ("cc-by-sa-3.0", "github.com/apple/ml-hypersim"),
    "VirtualKitti2": ("cc-by-nc-sa-3.0", "Bochkovskii et al. 2024 (Depth Pro), table 15"),
    "TartanAir": ("cc-by-4.0", "Bochkovskii et al. 2024 (Depth Pro), table 15"),
    "BlendedMvs": ("cc-by-4.0", "github.com/YoYo000/BlendedMVS"),
    "Irs": ("other", "Bochkovskii et al. 2024 (Depth Pro), table 15: custom"),
    "Kitti": ("cc-by-nc-sa-3.0", "cvlibs.net/datasets/kitti"),
    "KittiRaw": ("cc-by-nc-sa-3.0", "cvlibs.net/datasets/kitti"),
    "Nyu": ("other", "research; the page names no licence"),
    "Eth3d": ("cc-by-nc-sa-4.0", "eth3d.net"),
    "Diode": ("mit", "diode-dataset.org"),
    "Sintel": ("other", "sintel.is.tue.mpg.de: terms of its own, for research"),
    "Ddad": ("cc-by-nc-sa-4.0", "github.com/TRI-ML/DDAD"),
    "ScanNet": (NON_COMMERCIAL, "its terms of use"),
    "Ibims": ("other", "mediatum.ub.tum.de/1455541: terms of its own, for research"),
    "Middlebury": ("other", "research; the page names no licence"),
}


def of_dataset(dataset: Dataset) -> Lineage:
    """What is known of a data set; of pseudo-labels, their teachers and their images."""
    if isinstance(dataset, InMemory | Apart):
        return of_dataset(dataset.dataset)
    if isinstance(dataset, PseudoLabelled):
        return of_labels(dataset.store, dataset.images)
    root, reader = getattr(dataset, "root", None), type(dataset).__name__
    card = Path(root) / "README.md" if isinstance(root, str | Path) else None
    licence = licences.stated(card) or LICENCES.get(reader, (None, ""))[0]
    return Lineage(kind="data set", name=dataset.name, licence=licence)


def of_labels(store: LabelStore, images: Dataset) -> Lineage:
    """What a store of labels was made of.

    Raises:
        ValueError: what it says of a model is damaged.
    """
    teachers = []
    for teacher in store.meta.teachers:
        if teacher.lineage:
            teachers.append(lineage.from_json(teacher.lineage))
            continue
        sha256, licence = teacher.sha256 or None, teacher.licence
        teachers.append(Lineage(kind="model", name=teacher.name, sha256=sha256, licence=licence))
    made = hashlib.sha256((store.path / "store.json").read_bytes()).hexdigest()
    return Lineage(
        kind="labels",
        name=str(store.path),
        sha256=made,
        made_from=(*teachers, *map(lineage.from_json, store.meta.helpers), of_dataset(images)),
    )
