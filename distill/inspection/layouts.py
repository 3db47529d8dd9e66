"""Data sets that are known by the files and folders they are distributed as.

A new one is a row in `LAYOUTS`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from distill.datasets.blended_mvs import BlendedMvs
from distill.datasets.da2k import Da2k
from distill.datasets.ddad import Ddad
from distill.datasets.diode import Diode
from distill.datasets.eth3d import Eth3d
from distill.datasets.hypersim import Hypersim
from distill.datasets.ibims import Ibims
from distill.datasets.irs import Irs
from distill.datasets.kitti import Kitti
from distill.datasets.kitti_raw import KittiRaw
from distill.datasets.middlebury import Middlebury
from distill.datasets.nyu import Nyu
from distill.datasets.scannet import ScanNet
from distill.datasets.sintel import Sintel
from distill.datasets.tartanair import TartanAir
from distill.datasets.virtual_kitti2 import VirtualKitti2
from distill.types import Dataset

_LOOKED_AT = 100  # folders below the one that is given


@dataclass(frozen=True, kw_only=True)
class Layout:
    """A known set.

    Attributes:
        title: for people.
        marks: patterns below its root; one that matches something is enough.
        reader: its class.
        parts: arguments of `reader` for each part of the set, by the part's name.
        median: metres between which the median of its depth lies; None where it has no metres.
        benchmark: by which it is evaluated; None if by none.
    """

    title: str
    marks: Sequence[str]
    reader: Any
    parts: Mapping[str, Mapping[str, Any]]
    median: tuple[float, float] | None = None
    benchmark: str | None = None

    def open(self, root: Path) -> dict[str, Dataset]:
        """The parts that are there.

        Raises:
            ValueError: none is; the first reader's reason.
            FileNotFoundError: likewise.
        """
        found: dict[str, Dataset] = {}
        reasons: list[Exception] = []
        for part, arguments in self.parts.items():
            try:
                found[part] = self.reader(root, **arguments)
            except (ValueError, OSError) as error:
                reasons.append(error)
        if not found:
            raise reasons[0]
        return found

    def line(self, root: Path, part: str) -> str:
        """What to write in a recipe."""
        arguments = "".join(f", {key}={value!r}" for key, value in self.parts[part].items())
        return f"{self.reader.__name__}(Path({str(root)!r}){arguments})"


def recognise(root: Path) -> Layout | None:
    """The known set whose root this is; None if it is none."""
    return next((row for row in LAYOUTS if any(map(partial(_has, root), row.marks))), None)


def recognise_below(root: Path) -> dict[Path, Layout]:
    """The known sets in the folders of `root`, of which the first hundred are looked at."""
    folders = (f for f in sorted(root.iterdir()) if f.is_dir() and not f.name.startswith("."))
    found = {}
    for folder, _ in zip(folders, range(_LOOKED_AT), strict=False):
        if row := recognise(folder):
            found[folder] = row
    return found


def _has(root: Path, pattern: str) -> bool:
    return next(root.glob(pattern), None) is not None


def _split(*names: str) -> dict[str, dict[str, Any]]:
    return {name: {"split": name} for name in names}


_WHOLE: dict[str, dict[str, Any]] = {"": {}}

LAYOUTS: tuple[Layout, ...] = (
    Layout(
        title="Hypersim",
        marks=("ai_*_*/images/scene_cam_*_geometry_hdf5",),
        reader=Hypersim,
        parts=_split("train", "val", "test"),
        median=(0.3, 40.0),
    ),
    Layout(
        title="Virtual KITTI 2",
        marks=("Scene*/*/frames/depth/Camera_*",),
        reader=VirtualKitti2,
        parts=_WHOLE,
        median=(3.0, 200.0),
    ),
    Layout(
        title="TartanAir",
        marks=(
            "*/Easy/P*",
            "*/Hard/P*",
            "*/*/Easy/P*",
            "*/*/Hard/P*",
            "*/Data_easy",
            "*/Data_hard",
        ),
        reader=TartanAir,
        parts=_WHOLE,
        median=(0.3, 300.0),
    ),
    Layout(
        title="IRS",
        marks=tuple(f"{kind}/*/d_*.exr" for kind in ("Home", "Office", "Restaurant", "Store")),
        reader=Irs,
        parts=_split("train", "test"),
        median=(0.3, 40.0),
    ),
    Layout(
        title="BlendedMVS",
        marks=("*/rendered_depth_maps", "*/*/rendered_depth_maps"),
        reader=BlendedMvs,
        parts=_split("train", "val"),
    ),
    Layout(
        title="NYU Depth v2",
        marks=("nyu_depth_v2_labeled.mat", "test/*/filled_*.png", "train/*/filled_*.png"),
        reader=Nyu,
        parts=_split("test", "train"),
        median=(0.5, 8.0),
        benchmark="nyu",
    ),
    Layout(
        title="rendered drives in KITTI raw's layout",
        marks=("splits/drives/train_files.txt",),
        reader=KittiRaw,
        parts={part: {"split": "drives", "part": part} for part in ("train", "val")},
        median=(3.0, 40.0),
    ),
    Layout(
        title="KITTI with annotated depth",
        marks=("data_depth_annotated",),
        reader=Kitti,
        parts=_split("eigen_benchmark"),
        median=(3.0, 40.0),
        benchmark="kitti",
    ),
    Layout(
        title="KITTI raw",
        marks=("2011_*_*/2011_*_drive_*", "raw/2011_*_*/2011_*_drive_*"),
        reader=KittiRaw,
        parts={
            f"{split} {part}": {"split": split, "part": part}
            for split in ("eigen_zhou", "eigen_full", "eigen")
            for part in ("train", "val", "test")
        },
        median=(3.0, 40.0),
    ),
    Layout(
        title="ETH3D",
        marks=("*/ground_truth_depth/dslr_images", "rgb/*/images/dslr_images"),
        reader=Eth3d,
        parts=_WHOLE,
        median=(0.3, 100.0),
        benchmark="eth3d-moge",
    ),
    Layout(
        title="DIODE",
        marks=tuple(f"{s}/{k}/scene_*" for s in ("val", "train") for k in ("indoors", "outdoor")),
        reader=Diode,
        parts={
            f"{split} {kind}": {"split": split, "scenes": (kind,)}
            for split in ("val", "train")
            for kind in ("indoors", "outdoor")
        },
        median=(0.5, 150.0),
        benchmark="diode-depth",
    ),
    Layout(
        title="MPI Sintel",
        marks=("training/depth/*/*.dpt",),
        reader=Sintel,
        parts={kind: {"rendering": kind} for kind in ("final", "clean")},
        median=(0.1, 1000.0),
        benchmark="sintel",
    ),
    Layout(
        title="iBims-1",
        marks=("ibims1_core_raw/rgb", "ibims1_core_mat/*.mat", "mask_transp"),
        reader=Ibims,
        parts=_WHOLE,
        median=(0.5, 30.0),
        benchmark="ibims-moge",
    ),
    Layout(
        title="Middlebury",
        marks=("*/disp0.pfm", "*/disp0GT.pfm"),
        reader=Middlebury,
        parts=_WHOLE,
        median=(0.3, 20.0),
        benchmark="middlebury-metric",
    ),
    Layout(
        title="DDAD",
        marks=("ddad.json", "ddad_train_val/ddad.json"),
        reader=Ddad,
        parts=_split("val", "train"),
        median=(3.0, 100.0),
        benchmark="ddad-moge",
    ),
    Layout(
        title="ScanNet",
        marks=("scene*_*/depth", "scannet_frames/scene*_*/depth"),
        reader=ScanNet,
        parts=_WHOLE,
        median=(0.4, 8.0),
        benchmark="scannet-depth",
    ),
    Layout(
        title="DA-2K",
        marks=("annotations.json", "DA-2K/annotations.json"),
        reader=Da2k,
        parts=_WHOLE,
        benchmark="da2k",
    ),
)
