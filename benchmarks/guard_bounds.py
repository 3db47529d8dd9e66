"""What the bounds of the training guards (`distill.limits`) rest on.

    .venv/bin/python -m benchmarks.guard_bounds drift runs/demo
    .venv/bin/python -m benchmarks.guard_bounds spikes runs/*/metrics.jsonl

`drift`: the demo's student goes on with its output made larger, smaller or moved, which changes no
loss; what it learns in the next updates says where arithmetic begins to hurt. `spikes`: how often
losses of known distributions would stop a sound run, and how near those of finished runs came,
which wrote a row for every update (`--set log_every=1`). Results go to
`benchmarks/results/guard_bounds.json`.
"""

import argparse
import copy
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from torch import nn

from benchmarks.origin import origin
from distill import job
from distill.atomic import write_text
from distill.limits import FIRST, RECENT, bound
from distill.loading import Batches
from distill.models.depth_anything import load_depth_anything
from distill.objectives.supervised import Supervised
from distill.optim import adamw, set_rates
from distill.tracking import read_rows
from distill.train import TrainJob
from recipes import demo

RESULTS = Path(__file__).parent / "results" / "guard_bounds.json"
LEARN, BATCH, RATE, NOISE, LAST = 30, 4, 2e-4, 1.0, 10
SCALES = (1.0, 1e-7, 1e-6, 1e-5, 1e-4, 1e-2, 1e3, 1e4, 1e5, 1e6, 1e7)
SHIFTS = (1e1, 1e2, 1e3, 1e4, 1e5)  # in standard deviations of a map
FACTOR, DRAWN, AT_ONCE = cast(float, TrainJob.spike), 1_000_000, 50_000  # updates; windows at once
Draw = Callable[[np.random.Generator, int], np.ndarray[Any, Any]]
# Losses around 1. Batches of few samples whose own losses are skewed come nearest to the last ones.
DISTRIBUTIONS: dict[str, Draw] = {
    "normal, deviation 0.3": lambda rng, n: np.abs(rng.normal(1, 0.3, n)),
    "lognormal, sigma 0.2": lambda rng, n: rng.lognormal(0, 0.2, n),
    "lognormal, sigma 0.5": lambda rng, n: rng.lognormal(0, 0.5, n),
    "lognormal, sigma 1": lambda rng, n: rng.lognormal(0, 1, n),
    "exponential": lambda rng, n: rng.exponential(1, n),
    "Pareto, index 3": lambda rng, n: 1 + rng.pareto(3, n),
}


def spikes(paths: Iterable[Path]) -> Iterator[dict[str, Any]]:
    """How often the bound is passed, by what is drawn and by the losses of runs."""
    for path in paths:
        rows = [row for row in read_rows(path) if "loss" in row]
        if [row["step"] for row in rows] != list(range(1, len(rows) + 1)) or len(rows) <= FIRST:
            raise ValueError(f"{path} has not a row for each of more than {FIRST} updates")
        shares = reached(np.array([row["loss"] for row in rows]))
        yield {"run": path.parent.name, "updates": len(rows), "nearest": float(shares.max())}
    for name, draw in DISTRIBUTIONS.items():
        losses = draw(np.random.default_rng(0), DRAWN + RECENT)
        shares = reached(losses)
        yield {"losses": name, "updates": DRAWN, "stops": int((shares > 1).sum())}


def reached(losses: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Each loss as a share of the most that it might have been, from the first that has a bound."""
    few = [losses[n] / bound(losses[:n], FACTOR) for n in range(FIRST, min(RECENT, len(losses)))]
    windows = sliding_window_view(losses, RECENT)[:-1]
    parts = (windows[start : start + AT_ONCE] for start in range(0, len(windows), AT_ONCE))
    most = [bound(part, FACTOR) for part in parts]
    return np.concatenate([np.array(few), losses[RECENT:] / np.concatenate([[], *most])])


def drift(data: Path) -> Iterator[dict[str, Any]]:
    """A row for each change of the output: the mean loss of the last updates, beside none's."""
    job.seed_everything(0)
    torch.set_num_threads(1)
    begun = Supervised(partial(load_depth_anything, data / "student" / "model"), demo.TERMS)
    head: Any = cast(Any, begun.student).network.head
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():  # something to learn
        for layer in (head.conv1, head.conv2):
            noise = torch.randn(layer.weight.shape, generator=draw)
            layer.weight.add_(NOISE * layer.weight.std() * noise)
        maps = cast(Any, begun.student)(next(_drawn(data, seed=1))["image"])
    spread = float(maps.flatten(1).std(dim=1).mean())
    yield {"mean": float(maps.abs().mean()), "spread": spread}
    changes = [{"scale": scale} for scale in SCALES] + [{"shift": s * spread} for s in SHIFTS]
    for change in changes:
        for bf16 in (False, True):
            losses = _learn(_moved(begun, **change), data, bf16=bf16)
            yield {**change, "bf16": bf16, "loss": sum(losses[-LAST:]) / LAST}


def _moved(objective: Supervised, *, scale: float = 1.0, shift: float = 0.0) -> Supervised:
    """The same network whose output is `scale` times as large and then moved by `shift`."""
    made = copy.deepcopy(objective)
    last = cast(Any, made.student).network.head.conv3
    with torch.no_grad():
        last.weight.mul_(scale)
        last.bias.mul_(scale).add_(shift)
    return made


def _drawn(data: Path, *, seed: int) -> Batches:
    """The photographs with the labels that the network was trained on."""
    photos = data / "worlds" / "photos" / "unlabelled"
    return demo._pseudo_labelled(photos, data / "labels", batch_size=BATCH, seed=seed)


def _learn(objective: Supervised, data: Path, *, bf16: bool) -> list[float]:
    """The losses of updates at a constant rate."""
    optimizer, drawn, losses = adamw(objective.parameter_groups()), _drawn(data, seed=0), []
    set_rates(optimizer, dict.fromkeys(("encoder", "head"), RATE))
    for _step in range(LEARN):
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = objective(next(drawn))["loss"]
        loss.backward()
        nn.utils.clip_grad_norm_(objective.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    drawn.close()
    return losses


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=("drift", "spikes"))
    parser.add_argument("paths", nargs="+", type=Path)
    given = parser.parse_args()
    rows = []
    for row in drift(given.paths[0]) if given.what == "drift" else spikes(given.paths):
        print(row, file=sys.stderr, flush=True)
        rows.append(row)
    before = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    measured = {**before, **origin(), given.what: rows}
    write_text(RESULTS, json.dumps(measured, indent=2) + "\n")


if __name__ == "__main__":
    main()
