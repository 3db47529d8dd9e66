"""Evaluations: a model on a benchmark, under a protocol that is printed beside its numbers."""

from pathlib import Path

from distill.evaluation.evaluate import EvaluateJob
from distill.evaluation.several import SeveralJob

HOUSE = (
    *("nyu", "kitti", "diode-indoor", "eth3d-moge", "sintel-moge", "ddad-moge", "ibims-moge"),
    *("da2k", "sintel-boundaries", "ibims-boundaries"),
)


def student(
    data: Path | None = None, *, model: str = "runs/student/model", benchmark: str = "kitti"
) -> EvaluateJob:
    """The student of `make student`.

    `data` is the benchmark's folder; an error says what it holds.

    distill run recipes.evaluation:student --data kitti --out runs/evaluation
    """
    return EvaluateJob(model=model, benchmark=benchmark, data=data)


def house(
    data: Path, *, model: str = "runs/student/model", benchmarks: str = " ".join(HOUSE)
) -> SeveralJob:
    """What relative models are scored on here: indoors, streets, films, order, boundaries.

    `data` holds a folder for each set: nyu, kitti, diode, eth3d, sintel, ddad, ibims, da2k. Fewer:
    `--set benchmarks="nyu kitti"`.

    distill run recipes.evaluation:house --data evaluation --out runs/house
    """
    folders = {name: data / name.partition("-")[0] for name in benchmarks.split()}
    return SeveralJob(model=model, data=folders)
