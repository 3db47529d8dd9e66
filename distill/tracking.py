"""What a run says while it works: metrics.jsonl, TensorBoard, pictures and a progress bar."""

import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType

import matplotlib
import numpy as np
import torch
from jaxtyping import Float, UInt8
from numpy import ndarray
from PIL import Image
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from distill import atomic
from distill.geometry import to_space
from distill.types import Batch, Space


class Tracker:
    """Writes a run's numbers and pictures below `out`; does nothing where it is not `enabled`.

    A row is `{"step": updates done, name: number, ...}`. What a resumed run will do again is
    first taken back: rows after `start` go.
    """

    def __init__(self, out: Path, *, start: int, steps: int, enabled: bool = True) -> None:
        self._out, self._enabled = out, enabled
        self._bar = tqdm(total=steps, initial=start, unit="step", disable=not enabled)
        if not enabled:
            return
        path = out / "metrics.jsonl"
        rows = [row for row in read_rows(path) if row["step"] <= start]
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
        """One row of metrics after `step` updates."""
        if not self._enabled:
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


def panel(batch: Batch, pred: Float[Tensor, "b h w"], space: Space) -> UInt8[ndarray, "y x 3"]:
    """One row a sample: the image, the target where there is one, the prediction."""
    if "target" not in batch or "valid" not in batch:
        return side_by_side(batch["image"], pred)
    rows = zip(batch["target"], batch["valid"], batch["space"], strict=True)
    shown = [
        target if source is None else to_space(target, valid, None, source=source, target=space)[0]
        for target, valid, source in rows
    ]
    return side_by_side(batch["image"], torch.stack(shown), pred)


def side_by_side(
    image: Float[Tensor, "b 3 h w"], *maps: Float[Tensor, "b h w"]
) -> UInt8[ndarray, "rows columns 3"]:
    """One row a sample: the image, then each map in colour, each from its 2nd to 98th percentile.

    Warm is large. Where a map is NaN, black.
    """
    columns = [image.permute(0, 2, 3, 1).cpu().numpy(), *[_coloured(map_) for map_ in maps]]
    rows = np.concatenate(np.concatenate(columns, 2), 0)
    return np.round(np.clip(rows, 0, 1) * 255).astype(np.uint8)


def _coloured(maps: Float[Tensor, "b h w"]) -> Float[ndarray, "b h w 3"]:
    flat = maps.flatten(1).double().cpu()
    low, high = torch.nanquantile(flat, torch.tensor([0.02, 0.98]).double(), 1)
    spread = (high - low).clamp(min=1e-12)[:, None]
    unit = ((flat - low[:, None]) / spread).clamp(0, 1).reshape(maps.shape).numpy()
    colours = matplotlib.colormaps["turbo"](np.nan_to_num(unit))[..., :3]
    return colours * np.isfinite(unit)[..., None]
