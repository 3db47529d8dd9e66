"""Benchmarks: a reader, the protocol its images are measured under, and a name.

A new one is a row in `BENCHMARKS`. Of a set's protocols the plain name is the one for relative
models (least squares in disparity); `-depth` fits in depth (Marigold's rules; of a plain folder it
is `rgb-depth-affine`), `-metric` fits nothing, `-median` a scale (self-supervised models),
`-moge...` follows MoGe's rules, `-boundaries` measures where depth steps.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from distill.datasets.da2k import Da2k
from distill.datasets.ddad import Ddad
from distill.datasets.diode import Diode
from distill.datasets.eth3d import Eth3d
from distill.datasets.ibims import Ibims
from distill.datasets.kitti import Kitti
from distill.datasets.middlebury import Middlebury
from distill.datasets.nyu import Nyu
from distill.datasets.rgb_depth_folder import RgbDepthFolder
from distill.datasets.scannet import ScanNet
from distill.datasets.sintel import Sintel
from distill.evaluation import house, published
from distill.evaluation.protocols import Protocol
from distill.types import Dataset

_PAIRED = "rgb/NAME.jpg|png and depth/NAME.png, uint16 of 1/256 m, 0 where nothing was measured"


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """A protocol and the reader of the images it is measured on.

    Attributes:
        name: what `--benchmark` takes.
        open: the data folder to its data set; targets are metric depth, or there are pairs.
        protocol: for the list it names.
        other_list: the protocol when the data is not the published list. None: the same rules
            under an id and with a source that say so.
        home: where the data lies when no folder is given. None: a folder must be given.
        layout: what the folder holds, for messages.
    """

    name: str
    open: Callable[[Path], Dataset]
    protocol: Protocol
    other_list: Protocol | None = None
    home: Path | None = None
    layout: str = _PAIRED

    def folder(self, data: Path | None) -> Path:
        """`data`, or where the benchmark's data lies.

        Raises:
            ValueError: no folder was given and the benchmark has no place of its own.
            FileNotFoundError: there is no such folder.
        """
        chosen = data or self.home
        if chosen is None:
            raise ValueError(f"benchmark {self.name}: give --data DIR holding {self.layout}")
        if not chosen.is_dir():
            raise FileNotFoundError(
                f"benchmark {self.name}: no folder {chosen}; it should hold {self.layout}"
            )
        return chosen

    def protocol_for(self, images: int) -> Protocol:
        """The protocol under its own id only where the number of images is the published one."""
        if self.protocol.expected_images in (None, images):
            return self.protocol
        return self.other_list or self.protocol.on_other_images()


def find(name: str) -> Benchmark:
    """The benchmark called `name`.

    Raises:
        ValueError: there is none; the message lists them.
    """
    for benchmark in BENCHMARKS:
        if benchmark.name == name:
            return benchmark
    known = ", ".join(benchmark.name for benchmark in BENCHMARKS)
    raise ValueError(f"no benchmark named {name!r}; there are {known}")


def _kitti(root: Path) -> Dataset:
    """KITTI's own folders, or image and depth pairs that were copied out of them."""
    if (root / "rgb").is_dir():
        return RgbDepthFolder(root, name="kitti")
    return Kitti(root, split="eigen_benchmark", truth="annotated")


def _on(
    open_set: Callable[[Path], Dataset], layout: str, protocols: Mapping[str, Protocol]
) -> tuple[Benchmark, ...]:
    """One data set under several protocols, by name."""
    return tuple(
        Benchmark(name=name, open=open_set, protocol=protocol, layout=layout)
        for name, protocol in protocols.items()
    )


def _moge(name: str, rules: Protocol) -> dict[str, Protocol]:
    return {
        f"{name}-moge": rules,
        f"{name}-moge-affine": house.moge_affine(rules),
        f"{name}-moge-scale": house.moge_scale(rules),
    }


_NYU_LAYOUT = "nyu_depth_v2_labeled.mat and splits.mat"
_KITTI_LAYOUT = (
    f"{_PAIRED}; or KITTI raw's folders by date and data_depth_annotated, as they are unpacked"
)

BENCHMARKS: tuple[Benchmark, ...] = (
    Benchmark(
        name="photos",
        open=partial(RgbDepthFolder, name="photos"),
        protocol=house.PHOTOS,
        home=Path("runs/demo/worlds/photos/evaluation"),
    ),
    Benchmark(
        name="kitti",
        open=_kitti,
        protocol=published.KITTI_DISPARITY,
        other_list=published.KITTI_DISPARITY.on_other_images(
            "KITTI images that are not the list of 652, lidar truth"
        ),
        layout=_KITTI_LAYOUT,
    ),
    *_on(
        partial(RgbDepthFolder, name="rgb-depth"),
        _PAIRED,
        {
            "rgb-depth": house.FOLDER,
            "rgb-depth-affine": house.FOLDER_DEPTH,
            "rgb-depth-metric": house.FOLDER_METRIC,
        },
    ),
    *_on(
        _kitti,
        _KITTI_LAYOUT,
        {
            "kitti-depth": published.KITTI_DEPTH,
            "kitti-metric": published.KITTI_METRIC,
            "kitti-median": published.KITTI_FULL_MEDIAN,
            **_moge("kitti", house.KITTI),
        },
    ),
    *_on(
        partial(Kitti, split="eigen", truth="velodyne"),
        "KITTI raw's folders by date, as they are unpacked",
        {"kitti-eigen-median": published.KITTI_EIGEN_MEDIAN},
    ),
    *_on(
        Nyu,
        _NYU_LAYOUT,
        {
            "nyu": published.NYU_DISPARITY,
            "nyu-depth": published.NYU_DEPTH,
            "nyu-metric": published.NYU_METRIC,
            **_moge("nyu", house.NYU),
        },
    ),
    *_on(partial(Nyu, truth="filled"), _NYU_LAYOUT, {"nyu-median": published.NYU_LINEAGE}),
    *_on(
        Eth3d,
        "SCENE/images/dslr_images and SCENE/ground_truth_depth/dslr_images",
        {
            "eth3d-depth": published.ETH3D_DEPTH,
            "eth3d-metric": published.ETH3D_METRIC,
            **_moge("eth3d", house.ETH3D),
        },
    ),
    *_on(
        partial(Diode, scenes=("indoors",)),
        "val/indoors, as it is unpacked",
        {"diode-indoor": published.DIODE_INDOOR},
    ),
    *_on(
        Diode,
        "val/indoors and val/outdoor, as they are unpacked",
        {"diode-depth": published.DIODE_DEPTH, **_moge("diode", house.DIODE)},
    ),
    *_on(
        ScanNet,
        "SCAN/color/N.jpg and SCAN/depth/N.png, and the list of the 800",
        {"scannet-depth": published.SCANNET_DEPTH},
    ),
    *_on(
        Sintel,
        "training/final, training/depth and training/camdata_left, as they are unpacked",
        {
            "sintel": house.SINTEL_DISPARITY,
            "sintel-metric": published.SINTEL_METRIC,
            **_moge("sintel", house.SINTEL),
            "sintel-boundaries": house.boundaries(house.SINTEL),
            "sintel-boundaries-metric": house.SINTEL_BOUNDARIES,
        },
    ),
    *_on(
        Ddad,
        "ddad_train_val, as it is unpacked",
        {"ddad-metric": published.DDAD_METRIC, **_moge("ddad", house.DDAD)},
    ),
    *_on(
        Ibims,
        "ibims1_core_raw or ibims1_core_mat, as they are unpacked",
        {
            "ibims-metric": house.IBIMS_METRIC,
            **_moge("ibims", house.IBIMS),
            "ibims-boundaries": house.boundaries(house.IBIMS),
            "ibims-boundaries-metric": house.IBIMS_BOUNDARIES,
        },
    ),
    *_on(
        Middlebury,
        "the scenes' folders, as they are unpacked",
        {
            "middlebury-metric": published.MIDDLEBURY_METRIC,
            **_moge("middlebury", house.MIDDLEBURY),
        },
    ),
    *_on(Da2k, "images and annotations.json of DA-2K", {"da2k": published.DA2K_PAIRS}),
)
