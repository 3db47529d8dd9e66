"""Depth Anything V2's own run on H200s, as `distill plan` reckons it: the table of the README.

    python -m benchmarks.plan_v2

Nothing is run: each cell is `distill plan RECIPE --hardware h200 --gpus N`, for labels with
`--images 62000000 --set teacher=vitg dtype=bfloat16`. The 62 million are taken as 4:3 pictures.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

from distill.plan.question import Question
from distill.plan.reckoning import digits, duration, reckon, scaled
from recipes import labels, student, teacher

_GPUS = (1, 8, 64)
_IMAGES = 62_000_000


def main() -> None:
    """Print the table as Markdown."""
    data = Path("DATA")
    jobs: dict[str, Any] = {
        "teacher G, 160 000 x 64": teacher.vitg(data),
        "labels by G, 62 M": replace(labels.plain(data, teacher="vitg"), dtype="bfloat16"),
        "student S, 480 000 x 192": student.vits(data),
        "student B, 480 000 x 192": student.vitb(data),
        "student L, 480 000 x 192": student.vitl(data),
    }
    heads = [f"{n} x H200: time, memory of each" for n in _GPUS]
    print("| " + " | ".join(["", "arithmetic", "GPU-hours", *heads, "disk"]) + " |")
    print("|---" * (len(heads) + 4) + "|")
    total = 0.0
    for name, job in jobs.items():
        plans = [reckon(job, Question(hardware="h200", gpus=n, images=_IMAGES)) for n in _GPUS]
        total += plans[0].device_hours
        cells = [f"{duration(p.seconds)}, {scaled(p.load.held, 'B')}" for p in plans]
        first = plans[0]
        row = [name, scaled(first.load.total, "FLOP"), digits(first.device_hours), *cells]
        print("| " + " | ".join([*row, scaled(first.written, "B")]) + " |")
    times = [duration(3600 * total / n) for n in _GPUS]
    print("| " + " | ".join(["all of it", "", digits(total), *times, ""]) + " |")


if __name__ == "__main__":
    main()
