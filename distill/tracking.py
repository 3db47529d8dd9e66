"""What a run says while it works: metrics.jsonl, TensorBoard, pictures and a progress bar."""

import io
import json
import resource
import sys
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from types import TracebackType

import torch
from jaxtyping import UInt8
from numpy import ndarray
from PIL import Image
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from distill import atomic


class Tracker:
    """Writes a run's numbers and pictures below `out`; does nothing where it is not `enabled`.

    A row is `{"step": updates done, name: number, ...}`. What a resumed run will do again is
    first taken back: rows after `start` go, all of them where it is 0.
    """

    def __init__(self, out: Path, *, start: int, steps: int, enabled: bool = True) -> None:
        self._out, self._enabled = out, enabled
        self._bar = tqdm(
            total=steps, initial=start, desc=out.name, unit="step", disable=not enabled
        )
        if not enabled:
            return
        path = out / "metrics.jsonl"
        rows = [row for row in read_rows(path) if row["step"] <= start] if start else []
        atomic.write_text(path, "".join(json.dumps(row) + "\n" for row in rows))
        self._rows = path.open("a")
        self._board = SummaryWriter(str(out / "tensorboard"), purge_step=start + 1)

    def __enter__(self) -> "Tracker":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.close()
        if self._enabled:
            self._rows.close()
            self._board.close()

    def advance(self, values: Mapping[str, float]) -> None:
        """One step more on the progress bar, with these numbers beside it."""
        self._bar.set_postfix({name: f"{value:.3g}" for name, value in values.items()}, False)
        self._bar.update()

    def row(self, step: int, values: Mapping[str, float]) -> None:
        """One row of metrics after `step` updates; none of no numbers."""
        if not self._enabled or not values:
            return
        self._rows.write(json.dumps({"step": step, **values}) + "\n")
        self._rows.flush()
        for name, value in values.items():
            self._board.add_scalar(name, value, step)

    def sync(self) -> None:
        """See that what was written outlives the machine; before a checkpoint that builds on it."""
        if self._enabled:
            atomic.fsync(self._out / "metrics.jsonl")

    def picture(self, step: int, panel: UInt8[ndarray, "h w 3"]) -> None:
        """Write one picture below `samples/`."""
        if not self._enabled:
            return
        data = io.BytesIO()
        Image.fromarray(panel).save(data, "PNG")
        atomic.write_bytes(self._out / "samples" / f"step-{step:09d}.png", data.getvalue())
        self._board.add_image("samples", panel, step, dataformats="HWC")


def read_rows(path: Path) -> Iterator[dict[str, float]]:
    """The rows of a metrics file, none where there is no file; a last line cut by a kill is left.

    Raises:
        ValueError: another line is not JSON.
    """
    lines = path.read_text().splitlines() if path.is_file() else []
    for number, line in enumerate(lines, 1):
        try:
            yield json.loads(line)
        except json.JSONDecodeError as error:
            if number < len(lines):
                raise ValueError(
                    f"{path}:{number}: not JSON; restore or remove the line"
                ) from error


def peak_bytes() -> int:
    """The most that this process has held: of a GPU what torch allocated, else resident memory."""
    if torch.cuda.is_initialized():
        return torch.cuda.max_memory_allocated()
    status = Path("/proc/self/status")
    if status.is_file():  # getrusage would tell of the parent, too
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return int(lines["VmHWM"].split()[0]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def write_summary(out: Path, *, steps: int, images: int, seconds: float) -> None:
    """`out/summary.json` of a finished run: its size and speed, and each metric's last value.

    Its memory is that of this process, on a GPU that of the device.
    """
    summary = {
        "steps": steps,
        "images": images,
        "seconds": seconds,
        "images_per_s": images / seconds,
        "peak_bytes": peak_bytes(),
        "last": {k: v for row in read_rows(out / "metrics.jsonl") for k, v in row.items()},
        "versions": {name: metadata.version(name) for name in ("distill", "torch")},
    }
    atomic.write_text(out / "summary.json", json.dumps(summary, indent=2) + "\n")
