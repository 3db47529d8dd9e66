"""`distill plan`: what a job costs before it runs, on a machine of the table or on this one."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from distill.plan import hardware
from distill.plan.labelling import of_labelling
from distill.plan.load import Load
from distill.plan.probe import Speed, here, probe
from distill.plan.question import Question
from distill.plan.spread import Spread, spread
from distill.plan.training import of_training

_DAY = 24 * 3600


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A job on devices.

    Attributes:
        load: what is to be done.
        spread: over devices.
        device: its name.
        capacity: bytes of memory of each.
        calibration: where the speed comes from.
        flop_rate: FLOP/s that each device reaches.
        seconds: of wall time from start to end.
        start: of those, until the first image is through.
        price: USD of a device for an hour; None where none was given.
        speed: what a probe measured, if there was one.
    """

    load: Load
    spread: Spread
    device: str
    capacity: float
    calibration: str
    flop_rate: float
    seconds: float
    start: float
    price: float | None
    speed: Speed | None

    @property
    def images_per_s(self) -> float:
        """Over all devices together."""
        return self.load.images / self.seconds

    @property
    def device_hours(self) -> float:
        """Of all devices together."""
        return self.seconds * self.spread.devices / 3600

    @property
    def written(self) -> float:
        """Bytes that the job leaves; of labels as the probe measured them, if it did."""
        if self.speed is None or self.speed.label_bytes is None:
            return self.load.written
        return self.load.images * self.speed.label_bytes

    @property
    def held(self) -> float:
        """Bytes on each device; the most that the probe held, if there was one, else counted."""
        return self.load.held if self.speed is None else float(self.speed.held)

    @property
    def text(self) -> str:
        """For people: two digits, as becomes a plan."""
        return "\n".join(f"{name:<12}{line}" for name, line in self._lines())

    def as_json(self) -> dict[str, Any]:
        """For programs: SI units, nothing rounded."""
        load = asdict(self.load) | {
            "updates": self.load.updates,
            "flops_total": self.load.total,
            "memory_total": self.load.held,
        }
        own = {
            name: getattr(self, name)
            for name in ("images_per_s", "device_hours", "written", "held")
        }
        return asdict(self) | own | {"load": load, "dollars": self._dollars()}

    def _dollars(self) -> float | None:
        return None if self.price is None else self.price * self.device_hours

    def _lines(self) -> Iterator[tuple[str, str]]:
        load, devices = self.load, self.spread.devices
        unit = "updates" if load.kind == "training" else "batches"
        yield (
            "work",
            f"{grouped(load.images)} images at {load.size}, {grouped(load.updates)} {unit} of "
            f"{load.together}",
        )
        total, image = scaled(load.total, "FLOP"), scaled(load.flops, "FLOP")
        apart = load.flops_apart * load.updates / load.total
        own = f", {apart:.0%} of it the optimizer's" if apart > 0.005 else ""
        yield "arithmetic", f"{total} in {load.precision}, {image} an image{own}"
        yield "device", f"{devices} x {self.device}, each {scaled(self.flop_rate, 'FLOP/s')}"
        yield "because", self.calibration
        parts = ", ".join(f"{name} {scaled(n, 'B')}" for name, n in load.memory.items())
        counted = f"; counted: {parts}" if self.speed else f": {parts}"
        held = f"{scaled(self.held, 'B')} of {self.capacity / 1e9:.3g} GB on each{counted}"
        cut = load.accumulate
        yield "memory", held + (f"; with accumulate={cut}" if cut and cut > 1 else "")
        yield "time", f"{duration(self.seconds)}, {digits(self.device_hours)} device-hours"
        yield "reading", self._reading()
        if load.sent:
            needed = load.sent * load.updates / self.seconds
            yield (
                "network",
                f"{self.spread.kind}: each device sends {scaled(load.sent, 'B')} an update, "
                f"{scaled(needed, 'B/s')} on average; not in the time above",
            )
        kind = "labels" if load.kind == "labelling" else "checkpoints and model"
        yield "disk", f"{scaled(self.written, 'B')} of {kind}"
        if (dollars := self._dollars()) is not None:
            yield "money", f"{digits(dollars)} USD at {self.price:g} USD a device-hour"
        for note in load.notes:
            yield "assumed", note

    def _reading(self) -> str:
        load = self.load
        told = f"{digits(self.images_per_s)} images/s must be read and decoded"
        parts = [("images", load.image_bytes)]
        if load.kind == "training":
            parts.append(("labels", load.label_bytes))
        known = [f"{name} {scaled(n * self.images_per_s, 'B/s')}" for name, n in parts if n]
        return told + (": " + ", ".join(known) if known else "")


def reckon(job: Any, question: Question) -> Plan:
    """The plan of a training or label job.

    Raises:
        ValueError: a job of another kind, or something that the plan needs is not known; it says
            what to give.
    """
    _known(job)
    lies = spread(question)
    if question.probe is None:
        return _from_table(job, question, lies, hardware.find(question.hardware or ""))
    speed = probe(job, question.probe)
    load = _load(job, question, lies, None)
    name, capacity = here()
    return Plan(
        load=load,
        spread=lies,
        device=name,
        capacity=capacity,
        calibration=f"measured here on {speed.measured} images, loading and writing included",
        flop_rate=load.total / load.images / speed.image,
        seconds=load.images * speed.image / lies.devices + load.events * speed.event + speed.start,
        start=speed.start,
        price=question.price,
        speed=speed,
    )


def _from_table(job: Any, question: Question, lies: Spread, device: hardware.Device) -> Plan:
    load = _load(job, question, lies, device.memory)
    if load.precision == "fp32":
        raise ValueError(
            f"plan: nobody has measured fp32 on {device.name}; add --set dtype=bfloat16 (labels) "
            "or precision=bf16 (training), or run there with --probe 60"
        )
    share = hardware.utilisation(device, load.kind, load.flops)
    rate = share.share * device.peak
    return Plan(
        load=load,
        spread=lies,
        device=device.name,
        capacity=device.memory,
        calibration=f"{share.share:.0%} of its {device.peak / 1e12:.0f} TFLOP/s, {share.source}",
        flop_rate=rate,
        seconds=load.total / rate / lies.devices,
        start=0.0,
        price=question.price,
        speed=None,
    )


def _load(job: Any, question: Question, lies: Spread, memory: float | None) -> Load:
    """The work of `job`.

    Raises:
        ValueError: as `reckon`.
    """
    if hasattr(job, "batches"):
        return of_training(job, lies, reads_data=question.reads_data, memory=memory)
    return of_labelling(
        job, images=question.images, size=question.size, reads_data=question.reads_data
    )


def _known(job: Any) -> None:
    """Refuse a job that neither trains nor labels.

    Raises:
        ValueError: it does neither.
    """
    if not hasattr(job, "batches") and not (hasattr(job, "teacher") and hasattr(job, "strategy")):
        raise ValueError(
            f"plan: {type(job).__name__} trains and labels nothing; name such a recipe"
        )


def digits(number: float) -> str:
    """Two significant digits, thousands grouped."""
    return f"{float(f'{number:.1e}'):,.10g}".replace(",", " ") if number else "0"


def grouped(number: int) -> str:
    """A count, in full."""
    return f"{number:,}".replace(",", " ")


def scaled(number: float, unit: str) -> str:
    """Two significant digits with a prefix of the thousands."""
    rounded, prefixes = float(f"{number:.1e}"), ["", "k", "M", "G", "T", "P", "E", "Z", "Y"]
    while rounded >= 1000 and len(prefixes) > 1:
        rounded, prefixes = rounded / 1000, prefixes[1:]
    return f"{rounded:.3g} {prefixes[0]}{unit}"


def duration(seconds: float) -> str:
    """Two significant digits, in the unit that suits."""
    for unit, length in (("days", 2 * _DAY), ("hours", 2 * 3600), ("minutes", 120)):
        if seconds >= length:
            return f"{digits(seconds / {'days': _DAY, 'hours': 3600, 'minutes': 60}[unit])} {unit}"
    return f"{digits(seconds)} seconds"
