"""What stops a label job before harm is done: too many images without a label."""

from collections.abc import Mapping
from dataclasses import dataclass

from distill.job import GuardStop


@dataclass(frozen=True, kw_only=True)
class Guards:
    """The bounds of a job, over what all its processes have found so far.

    Attributes:
        images: of the whole job.
        max_quarantined: share of `images` that may stay without a label.
    """

    images: int
    max_quarantined: float

    def check_quarantined(self, reasons: Mapping[str, str]) -> None:
        """Stop once too many images have got no label.

        Raises:
            GuardStop: they are more than `max_quarantined` of all; the last one is named.
        """
        if len(reasons) > self.max_quarantined * self.images:
            key, reason = max(reasons.items())
            raise GuardStop(
                f"{len(reasons)} of {self.images} images got no label, more than max_quarantined="
                f"{self.max_quarantined:g} of all, the last of them {key}: {reason}; see "
                "quarantine.jsonl, then --resume"
            )
