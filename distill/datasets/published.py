"""How many images the authors of each data set published, to hold a copy on the disk against.

A copy may rightly hold less (some scenes, one camera), so another number is no error by itself.
"""

from dataclasses import dataclass

_CSV = "metadata_images_split_scene_v1.csv of ml-hypersim"
_VKITTI = "Cabon et al. 2020; frames of each scene times ten variations, left camera"
_LISTS = "split files of monodepth2"


@dataclass(frozen=True)
class Published:
    """One published number.

    Attributes:
        reader: class that reads the set.
        part: of the set, as its authors call it.
        images: how many.
        source: who says so.
        within: relative; 0 where the number is exact.
    """

    reader: str
    part: str
    images: int
    source: str
    within: float = 0.0

    def fits(self, count: int) -> bool:
        """Whether `count` is this number."""
        return abs(count - self.images) <= self.within * self.images


COUNTS = (
    Published("Hypersim", "train", 59_543, _CSV),
    Published("Hypersim", "val", 7_386, _CSV),
    Published("Hypersim", "test", 7_690, _CSV),
    Published("Hypersim", "all released", 74_619, _CSV),
    Published("Hypersim", "Marigold's train list", 53_885, "filename_list_train_filtered.txt"),
    Published("VirtualKitti2", "left camera", 21_260, _VKITTI),
    Published("VirtualKitti2", "both cameras", 42_520, _VKITTI),
    Published("VirtualKitti2", "Scene01", 4_470, _VKITTI),
    Published("VirtualKitti2", "Scene02", 2_330, _VKITTI),
    Published("VirtualKitti2", "Scene06", 2_700, _VKITTI),
    Published("VirtualKitti2", "Scene18", 3_390, _VKITTI),
    Published("VirtualKitti2", "Scene20", 8_370, _VKITTI),
    Published("TartanAir", "left camera", 306_000, "Yang et al. 2024b (V2), table 7", 0.01),
    Published("Irs", "train", 88_554, "lists/irs_train.list of HKBU-HPML/IRS"),
    Published("Irs", "test", 14_762, "lists/irs_test.list of HKBU-HPML/IRS"),
    Published("Irs", "Home", 31_145, "README of HKBU-HPML/IRS, train and test"),
    Published("Irs", "Office", 43_417, "README of HKBU-HPML/IRS, train and test"),
    Published("Irs", "Restaurant", 22_058, "README of HKBU-HPML/IRS, train and test"),
    Published("Irs", "Store", 6_696, "README of HKBU-HPML/IRS, train and test"),
    Published("BlendedMvs", "BlendedMVG", 115_000, "Yang et al. 2024b (V2), table 7", 0.05),
    Published("BlendedMvs", "BlendedMVS alone", 17_000, "README of YoYo000/BlendedMVS", 0.05),
    Published("Nyu", "test", 654, "splits.mat of the authors"),
    Published("Nyu", "train", 795, "splits.mat of the authors"),
    Published("Kitti", "eigen test", 697, f"Eigen et al. 2014; {_LISTS}"),
    Published("Kitti", "eigen_benchmark test", 652, f"with annotated truth; {_LISTS}"),
    Published("KittiRaw", "eigen_full train", 45_200, _LISTS),
    Published("KittiRaw", "eigen_full val", 1_776, _LISTS),
    # Zhou et al. 2017: without frames in which the car stands
    Published("KittiRaw", "eigen_zhou train", 39_810, _LISTS),
    Published("KittiRaw", "eigen_zhou val", 4_424, _LISTS),
    Published("Eth3d", "training scenes", 454, "eth3d.net, high-resolution multi-view"),
    Published("Diode", "val", 771, "diode-dataset.org"),
    Published("Diode", "val indoors", 325, "diode-dataset.org"),
    Published("Diode", "val outdoor", 446, "diode-dataset.org"),
    Published("Diode", "train", 25_458, "diode-dataset.org"),
    Published("ScanNet", "Marigold's list", 800, "Marigold, scannet_val_sampled_list_800_1.txt"),
    Published("Sintel", "training", 1_064, "sintel.is.tue.mpg.de, depth training set"),
    Published("Ddad", "train, one camera", 12_650, "README of TRI-ML/DDAD"),
    Published("Ddad", "val, one camera", 3_950, "README of TRI-ML/DDAD"),
    Published("Ibims", "all", 100, "Koch et al. 2018"),
    Published("Middlebury", "MiddEval3 training", 15, "vision.middlebury.edu/stereo/eval3"),
    Published("Middlebury", "2014", 23, "vision.middlebury.edu/stereo/data/scenes2014"),
    Published("Da2k", "all", 1_033, "Yang et al. 2024b (V2): 1K images", 0.01),
)


def published(reader: str) -> tuple[Published, ...]:
    """All numbers about the set that this class reads."""
    return tuple(row for row in COUNTS if row.reader == reader)


def compared(reader: str, count: int) -> tuple[bool, str]:
    """Whether `count` images are a published number, and what is published; "" where nothing is."""
    rows = published(reader)
    for row in rows:
        if row.fits(count):
            about = "about " if row.within else ""
            return True, f"as published: {row.part}, {about}{row.images} ({row.source})"
    known = ", ".join(f"{row.part} {row.images}" for row in rows)
    return not rows, f"published: {known}" if rows else ""
