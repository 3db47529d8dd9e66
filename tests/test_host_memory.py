"""Measured in a process of its own: how memory is kept is the whole process'."""

import subprocess
import sys

MEASURE = """
import resource, torch
from distill import host_memory
{}
faults = []
for _ in range(10):
    torch.zeros(1 << 25).add_(1)  # 128 MB
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
print(faults[-1] - faults[4])  # at first it takes several places, on huge pages or not
"""


def faults(setting: str) -> int:
    command = [sys.executable, "-c", MEASURE.format(setting)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def test_freed_memory_is_there_for_the_next_step():
    assert faults("host_memory.keep()") * 20 < faults("")
    assert faults("host_memory.keep(); host_memory.keep()") * 20 < faults("")
