"""Where and when a result was measured, written beside it."""

import os
import platform
import subprocess
import time
from pathlib import Path


def origin() -> dict[str, str]:
    """Processor and cores, commit (`+` behind it when files were changed), day."""
    return {
        "machine": f"{_processor()}, {os.cpu_count()} cores",
        "commit": _git("rev-parse", "HEAD")[:12] + ("+" if _git("status", "-s", "-uno") else ""),
        "day": time.strftime("%Y-%m-%d", time.gmtime()),
    }


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()


def _git(*arguments: str) -> str:
    root = Path(__file__).parents[1]
    found = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True)
    return found.stdout.strip()
