"""What stops a label job: too many images without a label, or a teacher whose ReLU is dead."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from distill.job import GuardStop
from distill.labels.encoded import EncodedLabel
from distill.labels.shards import ShardReport

_MANY = 100  # images; fewer may all be of the sky


@dataclass(frozen=True)
class Zeros:
    """How much of the labels of some images is exactly zero.

    Attributes:
        images: also those without a label.
        pixels: of the labels.
        zeros: those of the pixels that are 0.
    """

    images: int = 0
    pixels: int = 0
    zeros: int = 0

    def __add__(self, other: "Zeros") -> "Zeros":
        return Zeros(
            self.images + other.images, self.pixels + other.pixels, self.zeros + other.zeros
        )


def zeros_reported(report: ShardReport) -> Zeros:
    """Of a committed shard."""
    return Zeros(report.labels + len(report.quarantined), report.pixels, report.zeros)


def zeros_of(labels: Sequence[EncodedLabel], reasons: Mapping[str, str]) -> Zeros:
    """Of a shard that is to be written; `reasons` name its images without a label."""
    pixels = sum(label.height * label.width for label in labels)
    return Zeros(len(labels) + len(reasons), pixels, sum(label.zeros for label in labels))


@dataclass(frozen=True, kw_only=True)
class Guards:
    """The bounds of a job, over what all its processes have found so far.

    Attributes:
        images: of the whole job.
        teacher: its name.
        max_quarantined: share of `images` that may stay without a label.
        max_zeros: share of the labels' pixels that may be exactly 0.
    """

    images: int
    teacher: str
    max_quarantined: float
    max_zeros: float

    def check_quarantined(self, reasons: Mapping[str, str]) -> None:
        """Stop once too many images have got no label.

        Raises:
            GuardStop: they are more than `max_quarantined` of all; the last one is named.
        """
        if len(reasons) > self.max_quarantined * self.images:
            key, reason = max(reasons.items())
            raise GuardStop(
                f"{len(reasons)} of {self.images} images got no label, more than max_quarantined="
                f"{self.max_quarantined:g} of all, the last of them {key}: {reason}. The "
                "store's quarantine.jsonl names them all: mend them or raise --set "
                "max_quarantined=, then --resume"
            )

    def check_zeros(self, found: Zeros) -> None:
        """Stop a teacher whose maps are mostly zero; one such map may show the sky, many do not.

        Raises:
            GuardStop: more than `max_zeros` of at least 100 images, or of all there are.
        """
        if found.images >= min(_MANY, self.images) and found.zeros > self.max_zeros * found.pixels:
            raise GuardStop(
                f"{found.zeros / found.pixels:.1%} of the pixels that {self.teacher} predicted for "
                f"{found.images} images are exactly zero, more than max_zeros={self.max_zeros:g}: "
                "its final ReLU may be dead. Look at some maps with `distill predict`; if the "
                "images show that much sky, --resume with a larger --set max_zeros="
            )
