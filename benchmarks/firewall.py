"""How many wrong labels the firewall finds, and how many good ones it names: a table by fault.

    make demo
    .venv/bin/python -m benchmarks.firewall runs/demo --out runs/firewall

Two worlds of photographs, of seeds of their own: limits come from the labels of the first, which
are taken as they are, and what is reported was measured on the second. Each label there is judged
as it is and under each fault. Kinds of labels and witnesses:

- demo, model: labels by the demo's teacher; the witness is the demo's student.
- demo, store: the same labels; the witness is fitted to them, 5 % of them wrong.
- sharp, model: rendered disparity at the picture's size, with smooth errors of a quarter of its
  spread; the witness has errors of its own, of that size, at a quarter of the resolution.
"""

import argparse
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate, pad

from distill.atomic import write_text
from distill.datasets.image_folder import ImageFolder
from distill.datasets.images import read_image
from distill.datasets.pseudo_labelled import PseudoLabelled
from distill.labels.codec import JpegXl, decode
from distill.models.foreign import load_predictor
from distill.types import Sample, Space
from distill.worlds.job import RenderJob
from pseudo_labels.firewall import Witness, asked, calibrate, scores, suspicion
from pseudo_labels.generate import LabelJob
from pseudo_labels.store_witness import store_witness
from pseudo_labels.strategies.tta import flip

RESULTS = Path(__file__).parent / "results" / "firewall.json"
SEEDS = {"calibrated": 101, "measured": 202}
FAULTS = ("mirrored", "shifted by 4 px", "inverted", "sky made near", "8 bits", "another image's")
ALARMS = 0.02
_SHARE = 0.05  # of the labels that are wrong in the store that becomes its own witness
_SKY = 0.03  # of a picture, below which there is no sky to make near


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
    """Photographs with rendered depth, rendered once."""
    job = RenderJob(seed=seed, photos=0, evaluation=count, worlds=("photos",))
    job.run(out / f"world-{seed}", resume=True)
    return out / f"world-{seed}" / "photos" / "evaluation"


def by_teacher(folder: Path, teacher: Path) -> list[Sample]:
    """The photographs with a teacher's labels, at the labels' size."""
    images, store = partial(ImageFolder, folder / "rgb"), folder / "labels"
    LabelJob(images=images, teacher=teacher, strategy=flip, threads=1).run(store, resume=True)
    labelled = PseudoLabelled(images(), store)
    return [labelled[index] for index in range(len(labelled))]


def rendered(folder: Path, *, seed: int, coarse: int) -> list[Sample]:
    """The photographs with rendered disparity, at a part of its resolution, with smooth errors."""
    draw = torch.Generator().manual_seed(seed)
    samples: list[Sample] = []
    for path in sorted((folder / "rgb").iterdir()):
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


def faulty(fault: str, folder: Path, samples: list[Sample]) -> Iterator[Sample]:
    """Every sample that can have the fault, with it."""
    for number, sample in enumerate(samples):
        assert sample.target is not None
        sky = skies(folder, Path(sample.key).stem).float()[None, None]
        small = interpolate(sky, tuple(sample.target.shape), mode="area")[0, 0] > 0.5
        other = samples[(number + len(samples) // 2) % len(samples)].target
        assert other is not None
        target = spoilt(fault, sample, small, other, number)
        if target is not None:
            yield stored(sample, target)


def mixed(samples: list[Sample]) -> list[Sample]:
    """A store of which 5 % is wrong, each fault as often, but for near skies, left as they are."""
    found = list(samples)
    for place, number in enumerate(range(0, len(samples), round(1 / _SHARE))):
        fault = FAULTS[place % len(FAULTS)]
        other = samples[(number + len(samples) // 2) % len(samples)].target
        assert other is not None
        nothing = torch.zeros_like(other, dtype=torch.bool)
        target = spoilt(fault, samples[number], nothing, other, number)
        if target is not None:
            found[number] = stored(samples[number], target)
    return found


def once(witness: Witness) -> Witness:
    """Asked once for each image, since each is judged under seven labels."""
    answers: dict[str, Tensor] = {}

    def remembered(sample: Sample) -> Tensor:
        if sample.key not in answers:
            answers[sample.key] = witness(sample)
        return answers[sample.key]

    return remembered


def table(
    folder: Path, trusted: list[Sample], samples: list[Sample], witnesses: tuple[Witness, Witness]
) -> dict[str, Any]:
    """Share of false alarms, and of each fault what was found and what got that very reason."""
    first, second = map(once, witnesses)
    limits = calibrate((found for _, found in scores(trusted, first)), alarms=ALARMS)
    judged: Callable[..., list[Any]] = lambda s: [  # noqa: E731 - one expression, used twice
        suspicion(key, found, limits) for key, found in scores(s, second)
    ]
    clean = judged(samples)
    rows: dict[str, Any] = {"false alarms": round(np.mean([s is not None for s in clean]), 4)}
    for fault in FAULTS:
        verdicts = judged(faulty(fault, folder, samples))
        reasons = [verdict.reason for verdict in verdicts if verdict is not None]
        rows[fault] = {
            "labels": len(verdicts),
            "found": round(len(reasons) / max(1, len(verdicts)), 4),
            "reasons": {name: reasons.count(name) for name in sorted(set(reasons))},
        }
    return {"trusted": len(trusted), "measured": len(samples), "limits": limits, **rows}


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("demo", type=Path, help="where `make demo` wrote")
    parser.add_argument("--out", type=Path, required=True, help="for the worlds and their labels")
    parser.add_argument("--count", type=int, default=400, help="photographs of each world")
    args = parser.parse_args()
    torch.set_num_threads(1)
    a, b = (world(args.out, seed, args.count) for seed in SEEDS.values())
    old, new = (by_teacher(folder, args.demo / "teacher" / "model") for folder in (a, b))
    network: Any = load_predictor(args.demo / "student" / "model")
    student = asked(network)
    own = store_witness(mixed(old)), store_witness(mixed(new))
    places = f"{args.demo} --out {args.out}"
    result: dict[str, Any] = {
        "command": f"python -m benchmarks.firewall {places} --count {args.count}",
        "seeds": SEEDS,
        "alarms asked for": ALARMS,
        "demo, model": table(b, old, new, (student, student)),
        "demo, store": table(b, old, new, own),
    }
    write_text(RESULTS, json.dumps(result, indent=2) + "\n")
    old, new = (rendered(folder, seed=1, coarse=2) for folder in (a, b))
    second = [{s.key: s.target for s in rendered(f, seed=2, coarse=4)} for f in (a, b)]
    known = [cache(lambda key, maps=maps: maps[key]) for maps in second]
    looks = tuple((lambda sample, look=look: look(sample.key)) for look in known)
    result["sharp, model"] = table(b, old, new, (looks[0], looks[1]))
    write_text(RESULTS, json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
