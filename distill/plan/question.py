"""What is asked of a plan."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Question:
    """Everything beside the job.

    Attributes:
        hardware: a name of `hardware.DEVICES`; None with `probe`, which measures this machine.
        gpus: devices; None: those of `launch`, or one.
        launch: a launch file of Accelerate, which says whether weights are cut into pieces (FSDP).
        images: of the data set; None counts them.
        size: width and height of an image where no data is read.
        price: USD of a device for an hour; without it nothing is said of money.
        probe: seconds for which the job itself runs first.
        reads_data: the job's data may be opened.

    Raises:
        ValueError: a number is out of its range, or neither hardware nor a probe is given.
    """

    hardware: str | None = None
    gpus: int | None = None
    launch: Path | None = None
    images: int | None = None
    size: tuple[int, int] | None = None
    price: float | None = None
    probe: float | None = None
    reads_data: bool = False

    def __post_init__(self) -> None:
        for name in ("gpus", "images", "probe"):
            number = getattr(self, name)
            if number is not None and number <= 0:
                raise ValueError(f"plan: --{name} {number}; it must be positive")
        if self.price is not None and self.price < 0:
            raise ValueError(f"plan: --price {self.price}; it must not be negative")
        if (self.hardware is None) == (self.probe is None):
            raise ValueError(
                "plan: give --hardware NAME (such as h200) for a machine of the table, or "
                "--probe 60 to measure this one; not both"
            )
