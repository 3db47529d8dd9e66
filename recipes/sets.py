"""Sets with depth or a teacher's labels: what is learned from, and what a run is watched on."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from distill.datasets.blended_mvs import BlendedMvs
from distill.datasets.hypersim import Hypersim
from distill.datasets.irs import Irs
from distill.datasets.opening import open_all
from distill.datasets.photographs import open_photographs
from distill.datasets.pseudo_labelled import PseudoLabelled
from distill.datasets.rgb_depth_folder import RgbDepthFolder
from distill.datasets.tartanair import TartanAir
from distill.datasets.virtual_kitti2 import VirtualKitti2
from distill.evaluation.protocols import Protocol
from distill.evaluation.validation import PROTOCOL, HeldOut, pictures
from distill.transforms import sky
from distill.types import Dataset, Sample

V2_FIVE = "hypersim virtual_kitti2 tartanair irs blended_mvs"
V1_READ = "blended_mvs irs tartanair"


@dataclass(frozen=True, kw_only=True)
class Truth:
    """Sets with exact or measured depth, each in a folder of its name."""

    sets: Annotated[
        str,
        "V2 table 7: all five; V1 table 1: the last three, and DIML, HRWSI, MegaDepth",
        "any of hypersim virtual_kitti2 tartanair irs blended_mvs, concatenated (V2 section 7.1)",
    ] = "hypersim virtual_kitti2"
    sky: Annotated[
        Literal["infinite", "farthest", "ignored"],
        "V1 section 3.1: disparity 0; V2: silent on rendered sky",
        "farthest: if V1 set it to 0 behind 0 ... 1; ignored: V2 issue 109, of metric depth",
    ] = "infinite"

    def open(self, root: Path) -> list[Dataset]:
        """The sets that are chosen.

        Raises:
            ValueError: none, or an unknown one.
        """
        known: Mapping[str, list[Callable[[], Dataset]]] = {
            "hypersim": [partial(Hypersim, root / "hypersim")],
            "virtual_kitti2": [partial(VirtualKitti2, root / "virtual_kitti2")],
            "tartanair": [partial(TartanAir, root / "tartanair")],
            # both lists: the paper's 103 thousand images, the test frames are of the same scenes
            "irs": [partial(Irs, root / "irs", split=split) for split in ("train", "test")],
            "blended_mvs": [partial(BlendedMvs, root / "blended_mvs")],
        }
        names = self.sets.replace(",", " ").split()
        if not names or not set(names) <= known.keys():
            raise ValueError(f"sets={self.sets!r}; choose some of {', '.join(known)}")
        return open_all(opener for name in names for opener in known[name])

    def seen(self, sample: Sample) -> Sample:
        """Truth with its sky as chosen; a pseudo-label as it is."""
        return sample if sample.pseudo_label else sky(sample, self.sky)

    def validation(self, root: Path) -> Callable[[], Dataset] | None:
        """Opens Hypersim's validation split, where Hypersim is learned from."""
        if "hypersim" not in self.sets:
            return None
        return partial(Hypersim, root / "hypersim", split="val")


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Which labels are learned from."""

    matching: Annotated[bool, "ours", "true: images and labels that have each other"] = False
    where: Annotated[str | None, "ours", "a condition, such as confidence > 0.8"] = None
    min_confidence: Annotated[float, "ours: less sure pixels are not learned from"] = 0.0
    weighted: Annotated[bool, "ours", "true: pixels weigh as they are sure"] = False

    def open(self, images: Path | str, labels: Path) -> PseudoLabelled:
        """The images with their labels."""
        found = open_photographs(images)
        return PseudoLabelled(found, labels, partial=self.matching, where=self.where)


@dataclass(frozen=True, kw_only=True)
class Watched:
    """Images that nothing is learned from, on which a run is scored and seen."""

    held_out: Annotated[Path | None, "ours: a folder with rgb/ and depth/, as `rgb-depth`"] = None
    held_out_images: Annotated[int, "ours: at most so many, evenly spread"] = 100
    held_out_size: Annotated[int, "V2 section 7.1: the short side"] = 518

    def fields(
        self, otherwise: Callable[[], Dataset] | None = None, protocol: Protocol = PROTOCOL
    ) -> dict[str, Any]:
        """Of a `TrainJob`; none where nothing is held out.

        Args:
            otherwise: opens what is looked at without `held_out`.
            protocol: of the scores.
        """
        found = otherwise
        if self.held_out is not None:
            found = partial(RgbDepthFolder, self.held_out, name="held_out")
        if found is None:
            return {}
        size, images = self.held_out_size, self.held_out_images
        held_out = HeldOut(open=found, size=size, images=images, protocol=protocol)
        return {"validation": held_out, "pictures": partial(pictures, held_out)}
