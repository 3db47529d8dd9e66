"""How far a converted network is from the official one where the position embedding is resized.

    .venv/bin/python -m benchmarks.position_embedding vits vitb

transformers resizes the embedding to the number of patches, the official code by a factor that is
0.1 patches larger; on the stored grid of 37 x 37 neither does. Weights are random; the embedding is
smooth, or independent at each patch, which is the worst case. Differences are shares of the range
of the official output. The result goes to `benchmarks/results/position_embedding.json`.
"""

import argparse
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate
from transformers import AutoModelForDepthEstimation

from distill.atomic import write_text
from distill.export import convert
from distill.models.depth_anything import SIZES, layout
from distill.models.dinov2 import ENCODERS
from tests.official_reference import predict, random_state

RESULTS = Path(__file__).parent / "results" / "position_embedding.json"
GRIDS = ((37, 37), (37, 49), (18, 24))  # patches: 518x518, 518x686, 252x336 pixels
EMBEDDINGS = ("smooth", "independent")


def noise(*shape: int) -> Tensor:
    """Standard normal, the same every time."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def official(size: str, embedding: str) -> dict[str, Tensor]:
    """Random official weights; a smooth embedding is drawn at 4 x 4 points and interpolated."""
    state = random_state({name: stored.shape for name, stored in layout(SIZES[size]).items()})
    state["depth_head.scratch.output_conv2.2.bias"] += 8  # so that the final ReLU hides nothing
    if embedding == "smooth":
        stored = state["pretrained.pos_embed"][:, 1:]
        side = int(stored.shape[1] ** 0.5)
        grid = interpolate(noise(1, stored.shape[2], 4, 4), (side, side), mode="bicubic")
        stored[:] = (grid * stored.std() / grid.std()).flatten(2).transpose(1, 2)
    return state


@torch.no_grad()
def differences(size: str, embedding: str) -> Iterator[dict[str, Any]]:
    """A row for each grid: largest and mean difference."""
    state = official(size, embedding)
    with tempfile.TemporaryDirectory() as folder:
        path, converted = Path(folder) / "official.pth", Path(folder) / "model"
        torch.save(state, path)
        convert(path, converted, kind="depth-anything-v2")
        model = AutoModelForDepthEstimation.from_pretrained(converted)
    for grid in GRIDS:
        image = interpolate(noise(1, 3, 20, 20), [14 * side for side in grid], mode="bicubic")
        expected = predict(state, image, [tap - 1 for tap in SIZES[size].taps])
        error = (model(image).predicted_depth - expected).abs() / (expected.max() - expected.min())
        found = {"largest": float(f"{error.max():.2g}"), "mean": float(f"{error.mean():.2g}")}
        print(size, embedding, grid, found, flush=True)
        yield {"size": size, "embedding": embedding, "patches": grid, **found}


def main() -> None:
    """Measure the sizes that are named and write the result."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("sizes", nargs="+", choices=ENCODERS)
    sizes = parser.parse_args().sizes
    rows = [row for size in sizes for entry in EMBEDDINGS for row in differences(size, entry)]
    result = {"command": f"python -m benchmarks.position_embedding {' '.join(sizes)}", "rows": rows}
    write_text(RESULTS, json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
