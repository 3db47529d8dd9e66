"""Images in, maps out: 16-bit PNG with what its numbers mean, a colour preview, `.npy` on request.

For every input `NAME.jpg` the folder receives `NAME.png` (16-bit, stretched over the image's own
range), `NAME.json` (space, range, input; written last), `NAME.colour.png`, and `NAME.npy`.
"""

import hashlib
import io
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from PIL import Image
from torch.nn import functional
from tqdm import tqdm

from distill import atomic
from distill.colour import colourise
from distill.datasets import depth_maps, images
from distill.evaluation.rows import Predictor
from distill.job import PartialFailure
from distill.models.foreign import DepthPredictor, load_predictor
from distill.types import Prediction, Space

# a strip of 80:1 is 518 x 6 pixels to a processor that fits its long side, 41,440 x 518 to one that
# fits its short side: the first then fails, the second needs more memory than there is
MAX_ASPECT = 8
_STEPS = 65535


@dataclass(frozen=True, kw_only=True)
class Input:
    """One image to predict.

    Attributes:
        path: absolute.
        relative: its path below the folder that was given; its name when it was given itself.
    """

    path: Path
    relative: str


def predict(
    model: str | Path,
    inputs: Sequence[Path],
    out: Path,
    *,
    npy: bool = False,
    space: Space | None = None,
) -> Iterator[Path]:
    """Write the depth of each image at its original size; yields each 16-bit PNG.

    Args:
        model: folder or hub id of any depth model of transformers.
        inputs: images, and folders that are searched with all below them.
        out: receives the files, in the folders' structure; see `names`.
        npy: also write the float32 map in the model's own space.
        space: what the model's numbers mean; None: as its architecture declares.

    Raises:
        FileNotFoundError: an input does not exist (before anything is written).
        ValueError: nothing to predict, or `out` is one of the folders to read.
        PartialFailure: at the end, the images that could not be read or predicted.
    """
    found = find_inputs(inputs, out)
    named = names(found, out)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    predictor = load_predictor(model, device=device, space=space)
    failures: dict[str, str] = {}
    for item in tqdm(found, desc="predict", unit="image"):
        try:
            prediction = predict_one(predictor, images.read_pil(item.path))
        except (ValueError, OSError) as error:
            failures[str(item.path)] = str(error)
            continue
        yield _write(prediction, item, out / named[item], predictor, npy=npy)
    if failures:
        raise PartialFailure(failures)


def predict_one(predictor: Predictor, image: Image.Image) -> Prediction:
    """The prediction at the image's size; a strip is squeezed to `MAX_ASPECT` for the network.

    Raises:
        ValueError: the model gives numbers that are not finite.
    """
    width, height = image.size
    seen = (min(width, MAX_ASPECT * height), min(height, MAX_ASPECT * width))
    (prediction,) = predictor.predict([image if seen == image.size else image.resize(seen)])
    values = prediction.values
    if not values.isfinite().all():
        raise ValueError(f"{int((~values.isfinite()).sum())} predicted pixels are not finite")
    if seen != image.size:
        values = functional.interpolate(values[None, None], (height, width), mode="bilinear")[0, 0]
    return Prediction(values=values, space=prediction.space, confidence=prediction.confidence)


def find_inputs(inputs: Sequence[Path], out: Path) -> list[Input]:
    """Every image once, sorted by path; what lies in `out` was written by us and is left out.

    Raises:
        FileNotFoundError: an input does not exist.
        ValueError: there is no image, or `out` is one of the folders to read.
    """
    found: dict[Path, Input] = {}
    target = out.absolute()
    for given in inputs:
        root = given.absolute()
        if given.is_dir():
            if root.resolve() == target.resolve():
                raise ValueError(f"--out {out} is also a folder to read; choose another --out")
            listed = [Input(path=root / name, relative=name) for name in images.list_images(given)]
        elif given.is_file():
            listed = [Input(path=root, relative=root.name)]
        else:
            raise FileNotFoundError(f"{given}: no such image or folder")
        for item in listed:
            ours = given.is_dir() and item.path.is_relative_to(target)
            known = found.get(item.path)
            # given twice, the name with the most folders stands, whatever the order
            if not ours and (known is None or len(known.relative) < len(item.relative)):
                found[item.path] = item
    if not found:
        raise ValueError(f"no image in {', '.join(map(str, inputs))}")
    return [found[path] for path in sorted(found)]


def names(found: Sequence[Input], out: Path) -> dict[Input, str]:
    """What each input's files are called below `out`: its relative path without the suffix.

    Where two inputs would share a file, or a file would replace an input or what is not known to
    come from the same input, all of those concerned take a longer name: `x_jpg`, then
    `x_jpg-FOLDER`, then with a hash of the whole path. So the names depend on which inputs there
    are and what `out` holds, not on their order, and an input that is predicted again replaces its
    own files only.

    Raises:
        ValueError: even the longest name would replace another's file.
    """
    inputs = {item.path.resolve() for item in found}
    length = dict.fromkeys(found, 0)
    while True:
        chosen = {item: _candidates(item)[length[item]] for item in found}
        # casefold: on some disks x and X are one file
        uses = Counter(file.casefold() for name in chosen.values() for file in _files(name))
        crowded = [
            item
            for item, name in chosen.items()
            if any(uses[f.casefold()] > 1 or (out / f).resolve() in inputs for f in _files(name))
            or _is_taken(out, name, item)
        ]
        if not crowded:
            return chosen
        for item in crowded:
            length[item] += 1
            if length[item] == len(_candidates(item)):
                raise ValueError(
                    f"every name for {item.path} is an input's or belongs to another file in "
                    f"{out}; choose another --out"
                )


def _candidates(item: Input) -> list[str]:
    path = PurePosixPath(item.relative)
    stem = str(path.with_suffix(""))
    longer = f"{stem}_{path.suffix[1:]}"
    digest = hashlib.sha256(str(item.path).encode()).hexdigest()[:12]
    return [stem, longer, f"{longer}-{item.path.parent.name}", f"{longer}-{digest}"]


def _is_taken(out: Path, name: str, item: Input) -> bool:
    """Whether there are files of this name, and no record that they were made from `item`."""
    if not any((out / file).exists() for file in _files(name)):
        return False
    try:
        record = json.loads((out / f"{name}.json").read_text())
    except (OSError, ValueError):  # none, or somebody else's
        return True
    return not isinstance(record, dict) or record.get("input") != str(item.path)


def _files(name: str) -> tuple[str, ...]:
    return (f"{name}.png", f"{name}.json", f"{name}.colour.png", f"{name}.npy")


def _write(
    prediction: Prediction, item: Input, target: Path, predictor: DepthPredictor, *, npy: bool
) -> Path:
    values = prediction.values.float().cpu().numpy()
    low, high = float(values.min()), float(values.max())
    stretched = (values.astype(np.float64) - low) / ((high - low) or 1.0)
    depth, record, preview, array = (target.parent / name for name in _files(target.name))
    depth_maps.write_png16(depth, np.round(stretched * _STEPS).astype(np.uint16))
    picture = io.BytesIO()
    Image.fromarray(colourise(values)).save(picture, format="PNG")
    atomic.write_bytes(preview, picture.getvalue())
    if npy:
        buffer = io.BytesIO()
        np.save(buffer, values)
        atomic.write_bytes(array, buffer.getvalue())
    meaning = {
        "input": str(item.path),
        "space": prediction.space.value,
        "larger_is_closer": prediction.space.is_inverse,
        "minimum": low,
        "maximum": high,
        "values": "minimum + png / 65535 * (maximum - minimum)",
        "size": {"height": values.shape[0], "width": values.shape[1]},
        "model": predictor.name,
        "model_sha256": predictor.sha256,
    }
    atomic.write_text(record, json.dumps(meaning, indent=2) + "\n")
    return depth
