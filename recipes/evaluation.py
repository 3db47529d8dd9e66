"""Evaluations: a model on a benchmark, under a protocol that is printed beside its numbers."""

from pathlib import Path

from distill.evaluation.evaluate import EvaluateJob


def student(
    data: Path | None = None, *, model: str = "runs/student/model", benchmark: str = "kitti"
) -> EvaluateJob:
    """The student of `make student`.

    `data` is the benchmark's folder; an error says what it holds.

    distill run recipes.evaluation:student --data kitti --out runs/evaluation
    """
    return EvaluateJob(model=model, benchmark=benchmark, data=data)
