"""How many wrong labels the firewall finds, and how many good ones it names: a table by fault.

    make demo
    .venv/bin/python -m benchmarks.firewall runs/demo --worlds runs/firewall

Photographs of two worlds of their own seeds, rendered there if they are not yet: the first gives
trusted labels, and what is reported was measured on the second. One label in twenty there has a
fault, each fault in stores of its own. Limits are `trusted`, from the first world, or `own`, from
the store with its faults. Kinds of labels and witnesses:

- demo, student: labels by the demo's teacher (mean of two mirrored looks, short side 56); the
  witness is the demo's student.
- demo, teacher: the same labels; the witness is the teacher, asked once more with one look.
- sharp, model: rendered disparity at the picture's size, short side 112, with smooth errors of a
  quarter of its spread; the witness has errors of its own, of that size, at a quarter of the
  resolution.
- demo, store: the labels of the demo; the witness is fitted to the store, faults included, each
  fault in one label of a hundred.
"""

import argparse
import json
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate, pad
from torchvision.transforms.functional import to_pil_image

from benchmarks.origin import origin
from distill.atomic import write_text
from distill.datasets.images import read_image, resized
from distill.inspection.evidence import Look, Witness, looks
from distill.inspection.firewall import Firewall, asked, learn
from distill.inspection.store_witness import store_witness
from distill.labels.codec import JpegXl, decode
from distill.models.foreign import DepthPredictor, load_predictor
from distill.types import Sample, Space
from distill.worlds.job import RenderJob

RESULTS = Path(__file__).parent / "results" / "firewall.json"
SEEDS = {"trusted": 101, "measured": 303}
FAULTS = ("mirrored", "inverted", "sky made near", "another image's", "8 bits", "shifted by 4 px")
TABLES = ("demo, student", "demo, teacher", "sharp, model", "demo, store")
ALARMS = 0.015
_EACH = 20  # one label in so many is wrong
_STORES = 3  # of each fault, wrong in other places
_MIXED = 8  # stores with all faults at once, for the witness that is fitted to them
_SKY = 0.03  # of a picture, below which there is no sky to make near

Looks = dict[str, Look]


def spoilt(fault: str, sample: Sample, sky: Tensor, other: Tensor, number: int) -> Tensor | None:
    """The target of a sample with a fault; None where it cannot have it."""
    target = sample.target
    assert target is not None
    if fault == "mirrored":
        return target.flip(-1)
    if fault == "inverted":
        return target.max() + target.min() - target
    if fault == "8 bits":
        low, high = target.min(), target.max()
        return (((target - low) / (high - low) * 255).round() / 255) * (high - low) + low
    if fault == "another image's":
        return interpolate(other[None, None], tuple(target.shape), mode="bilinear")[0, 0]
    if fault == "sky made near":
        return torch.where(sky, target.max(), target) if sky.float().mean() > _SKY else None
    down, right = ((0, 4), (0, -4), (4, 0), (-4, 0))[number % 4]
    edged = pad(target[None, None], (4, 4, 4, 4), mode="replicate")[0, 0]
    height, width = target.shape
    return edged[4 - down : 4 - down + height, 4 - right : 4 - right + width].contiguous()


def stored(sample: Sample, target: Tensor) -> Sample:
    """With a target as the store's codec gives it back."""
    values, valid = decode(JpegXl().encode(target.numpy().astype(np.float32)))
    return replace(sample, target=torch.from_numpy(values), valid=torch.from_numpy(valid))


def world(out: Path, seed: int, count: int) -> Path:
    """Photographs with rendered depth; rendered only if there are none."""
    folder = out / f"world-{seed}"
    photos = folder / "photos" / "evaluation"
    if not (photos / "rgb").is_dir():
        job = RenderJob(seed=seed, photos=0, evaluation=count, worlds=("photos",))
        job.run(folder, resume=True)
    return photos


def by_teacher(folder: Path, teacher: DepthPredictor, count: int) -> list[Sample]:
    """The photographs with a teacher's labels, at the labels' size, as a flip job makes them."""
    samples: list[Sample] = []
    for path in sorted((folder / "rgb").iterdir())[:count]:
        image = read_image(path)
        pixels = teacher.prepare(to_pil_image(image))[None]
        with torch.no_grad():
            straight = teacher.predict_network(pixels)[0].float()
            mirrored = teacher.predict_network(pixels.flip(-1))[0].float().flip(-1)
        height, width = straight.shape
        small = resized(image, height, width).clamp(0, 1)
        bare = Sample(key=f"photos/{path.name}", image=small, space=teacher.space)
        samples.append(stored(bare, (straight + mirrored) / 2))
    return samples


def rendered(folder: Path, count: int, *, seed: int, coarse: int) -> list[Sample]:
    """The photographs with rendered disparity, at a part of its resolution, with smooth errors."""
    draw = torch.Generator().manual_seed(seed)
    samples: list[Sample] = []
    for path in sorted((folder / "rgb").iterdir())[:count]:
        image, sky = read_image(path), skies(folder, path.stem)
        truth = torch.where(sky, 0.0, 256 / depth(folder, path.stem).clamp(min=1))
        size = tuple(truth.shape)
        small = interpolate(truth[None, None], scale_factor=1 / coarse, mode="area")
        blurred = interpolate(small, size, mode="bicubic")[0, 0]
        spread = (blurred - blurred.median()).abs().mean()
        for points, level in ((6, 0.25), (12, 0.125)):
            noise = torch.randn(1, 1, points, points, generator=draw)
            blurred = blurred + level * spread * interpolate(noise, size, mode="bicubic")[0, 0]
        bare = Sample(key=f"photos/{path.name}", image=image, space=Space.AFFINE_DISPARITY)
        samples.append(stored(bare, blurred))
    return samples


def depth(folder: Path, name: str) -> Tensor:
    """In 1/256 m; 0 is sky."""
    data: Any = imagecodecs.png_decode((folder / "depth" / f"{name}.png").read_bytes())
    return torch.from_numpy(data.astype(np.float32))


def skies(folder: Path, name: str) -> Tensor:
    """Where nothing was hit."""
    return depth(folder, name) == 0


def faulty(fault: str, folder: Path, samples: list[Sample], number: int) -> Sample | None:
    """A sample with the fault, if it can have it; another image is half the store away."""
    sample = samples[number]
    assert sample.target is not None
    sky = skies(folder, Path(sample.key).stem).float()[None, None]
    small = interpolate(sky, tuple(sample.target.shape), mode="area")[0, 0] > 0.5
    other = samples[(number + len(samples) // 2) % len(samples)].target
    assert other is not None
    target = spoilt(fault, sample, small, other, number)
    return None if target is None else stored(sample, target)


def stores(fault: str, folder: Path, samples: list[Sample], count: int) -> list[dict[int, Sample]]:
    """What takes the place of which samples in each store."""
    able: list[tuple[int, Sample]] = []
    for number in range(len(samples)):
        wrong = faulty(fault, folder, samples, number)
        if wrong is not None:
            able.append((number, wrong))
    wrongs = len(samples) // _EACH
    order = torch.randperm(len(able), generator=torch.Generator().manual_seed(0)).tolist()
    return [dict(able[i] for i in order[k * wrongs : (k + 1) * wrongs]) for k in range(count)]


def verdicts(walls: dict[str, Firewall], good: Iterable[Look], wrong: Iterable[Look]) -> dict:
    """Of each firewall: whether good ones were named, and with which reasons wrong ones."""
    found: dict[str, Any] = {}
    good, wrong = list(good), list(wrong)
    for name, wall in walls.items():
        alarms = [named is not None for named in wall.judged(good)] if good else []
        named = wall.judged(wrong) if wrong else []
        found[name] = alarms, [s.reason if s else None for s in named]
    return found


def row(parts: list[tuple[list[bool], list[str | None]]]) -> dict[str, Any]:
    """Shares over all stores of a fault."""
    alarms = [alarm for part in parts for alarm in part[0]]
    reasons = [reason for part in parts for reason in part[1]]
    named = [reason for reason in reasons if reason]
    return {
        "wrong": len(reasons),
        "found": round(len(named) / max(1, len(reasons)), 4),
        "false alarms": round(sum(alarms) / max(1, len(alarms)), 4),
        "reasons": {name: named.count(name) for name in sorted(set(named))},
    }


def by_model(
    folder: Path, trusted: list[Sample], samples: list[Sample], witnesses: tuple[Witness, Witness]
) -> dict[str, Any]:
    """The table of a witness that does not depend on the store: trusted and own limits."""
    first, second = witnesses
    firm = learn(looks(trusted, first, faults=True), trusted=True, alarms=ALARMS)
    clean: list[Looks] = list(looks(samples, second, faults=True))
    walls = {"trusted": firm, "own": learn(clean, trusted=False, alarms=ALARMS)}
    parts = verdicts(walls, (found[""] for found in clean), ())
    result: dict[str, Any] = {"without faults": {name: row([part]) for name, part in parts.items()}}
    for fault in FAULTS:
        rows: dict[str, list[Any]] = {"trusted": [], "own": []}
        for wrong in stores(fault, folder, samples, _STORES):
            again = dict(zip(wrong, looks(wrong.values(), second, faults=True), strict=True))
            mixed = [again.get(number, found) for number, found in enumerate(clean)]
            walls = {"trusted": firm, "own": learn(mixed, trusted=False, alarms=ALARMS)}
            good = (found[""] for number, found in enumerate(clean) if number not in wrong)
            for name, part in verdicts(walls, good, (f[""] for f in again.values())).items():
                rows[name].append(part)
        result[fault] = {name: row(parts) for name, parts in rows.items()}
    return result


def by_store(folder: Path, samples: list[Sample]) -> dict[str, Any]:
    """The table of a witness that is fitted to the store: each store has all faults, 1 % each."""
    parts: dict[str, list[Any]] = {fault: [] for fault in ("", *FAULTS)}
    few = len(samples) // 100
    for store in range(_MIXED):
        wrong: dict[int, tuple[str, Sample]] = {}
        for place, fault in enumerate(FAULTS):
            able = range(1 + store * len(FAULTS) + place, len(samples), 17)
            spoiled = ((number, faulty(fault, folder, samples, number)) for number in able)
            found = [(n, (fault, s)) for n, s in spoiled if s is not None and n not in wrong]
            wrong |= dict(found[:few])
        mixed = [wrong[n][1] if n in wrong else sample for n, sample in enumerate(samples)]
        seen: list[Looks] = list(looks(mixed, store_witness(mixed), faults=True))
        walls = {"own": learn(seen, trusted=False, alarms=ALARMS)}
        for kind in parts:
            good = [f[""] for n, f in enumerate(seen) if not kind and n not in wrong]
            bad = [f[""] for n, f in enumerate(seen) if n in wrong and wrong[n][0] == kind]
            parts[kind].append(verdicts(walls, good, bad)["own"])
    return {kind or "without faults": {"own": row(part)} for kind, part in parts.items()}


def known(samples: list[Sample]) -> Witness:
    """Whose labels are the answers."""
    maps = {sample.key: sample.target for sample in samples}

    def witness(sample: Sample) -> Tensor:
        found = maps[sample.key]
        assert found is not None
        return found

    return witness


def table(name: str, *, demo: Path, folders: tuple[Path, Path], count: int) -> dict[str, Any]:
    """One of `TABLES`, printed too."""
    kind, second = name.split(", ")
    if kind == "demo":
        teacher = load_predictor(demo / "teacher" / "model")
        first = by_teacher(folders[0], teacher, count) if second != "store" else []
        last = by_teacher(folders[1], teacher, count)
        witness = asked(load_predictor(demo / second / "model")) if second != "store" else None
        witnesses = (witness, witness)
    else:
        first, last = (rendered(folder, count, seed=1, coarse=2) for folder in folders)
        witnesses = tuple(known(rendered(f, count, seed=2, coarse=4)) for f in folders)
    if witnesses[0] is None or witnesses[1] is None:
        found = by_store(folders[1], last)
    else:
        found = by_model(folders[1], first, last, (witnesses[0], witnesses[1]))
    print(json.dumps({name: found}), flush=True)
    return found


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("demo", type=Path, help="where `make demo` wrote")
    parser.add_argument("--worlds", type=Path, required=True, help="of the photographs")
    parser.add_argument("--count", type=int, default=400, help="photographs of each world")
    args = parser.parse_args()
    torch.set_num_threads(1)
    a, b = (world(args.worlds, seed, args.count) for seed in SEEDS.values())
    result: dict[str, Any] = {
        "command": f"python -m benchmarks.firewall {args.demo} --worlds {args.worlds} "
        f"--count {args.count}",
        "seeds": SEEDS,
        "photographs": args.count,
        "wrong": f"1 in {_EACH}",
        "alarms asked for": ALARMS,
        **origin(),
    }
    with ProcessPoolExecutor(len(TABLES), get_context("fork")) as pool:
        measure = partial(table, demo=args.demo, folders=(a, b), count=args.count)
        for name, found in zip(TABLES, pool.map(measure, TABLES), strict=True):
            result[name] = found
    write_text(RESULTS, json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
