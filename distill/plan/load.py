"""What a job computes, holds and moves, whatever the speed of the device."""

from dataclasses import dataclass, field

from distill.plan.hardware import Kind


@dataclass(frozen=True, kw_only=True)
class Load:
    """The work of a whole job.

    Attributes:
        kind: of job.
        images: that the network sees, each time counted.
        together: images of one update, or of one batch of labels.
        size: what the network sees, for people.
        precision: of its arithmetic.
        flops: an image.
        flops_apart: an update beside its images, in the optimizer.
        memory: bytes on each device, by what they are.
        accumulate: batches of an update on each device, as they fit; None for labels.
        sent: bytes that each device sends for an update.
        image_bytes: read for an image; None where no data was read.
        label_bytes: of a label, read in training, written in labelling; None where there is none.
        written: bytes that the finished job leaves.
        events: how often training validates or writes a checkpoint.
        notes: what was assumed.
    """

    kind: Kind
    images: int
    together: int
    size: str
    precision: str
    flops: float
    flops_apart: float = 0.0
    memory: dict[str, float]
    accumulate: int | None = None
    sent: float = 0.0
    image_bytes: float | None = None
    label_bytes: float | None = None
    written: float = 0.0
    events: int = 0
    notes: tuple[str, ...] = field(default=())

    @property
    def updates(self) -> int:
        """Or batches."""
        return -(-self.images // self.together)

    @property
    def total(self) -> float:
        """FLOPs of the whole job."""
        return self.images * self.flops + self.updates * self.flops_apart

    @property
    def held(self) -> float:
        """Bytes on each device."""
        return sum(self.memory.values())
