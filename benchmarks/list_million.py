"""A folder of a million photographs: what listing it costs, and starting again."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.inputs import Figure, photos

FOLDERS, EACH = 1000, 1000


def list_million(folder: Path) -> Figure:
    """MiB above the process before listing a million files; a list of their paths as strings.

    Each in a process of its own. The second start's first sample must come within 10 s.
    """
    root = _tree(folder / "photos")
    first, again, paths = (_measured(folder, how, root) for how in ("ours", "ours", "paths"))
    for name, run in (("first start", first), ("second start", again), ("list of paths", paths)):
        print(f"  {name}: {json.dumps(run)}")
    if again["seconds"] > 10:
        raise RuntimeError(f"the second start's first sample came after {again['seconds']:.1f} s")
    return max(first["peak"], again["peak"]), paths["peak"], "MiB"


def _tree(root: Path) -> Path:
    """A thousand folders of a thousand links to one photograph."""
    picture = next(photos(root.parent / "one", count=1, size=(64, 48)).iterdir())
    for number in range(FOLDERS):
        original = root / f"{number:04d}" / f"{0:08d}.jpg"
        original.parent.mkdir(parents=True)
        original.write_bytes(picture.read_bytes())
        for each in range(1, EACH):
            os.link(original, original.with_name(f"{each:08d}.jpg"))
    return root


def _measured(folder: Path, how: str, root: Path) -> dict[str, float]:
    environment = os.environ | {"XDG_CACHE_HOME": str(folder / "cache")}
    command = [sys.executable, "-m", "benchmarks.list_million", how, str(root)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def _memory(name: str) -> float:
    """MiB of this process, as the kernel counts: `VmHWM` is the peak, `RssAnon` what is its own."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:")) / 1024


def _child(how: str, root: Path) -> dict[str, float]:
    from distill.datasets.image_folder import ImageFolder

    Path("/proc/self/clear_refs").write_text("5")  # forget the peak of importing
    before, own, start = _memory("VmRSS"), _memory("RssAnon"), time.perf_counter()
    if how == "ours":
        listed = ImageFolder(root)
        count = len(listed)
        listed[count // 2]
    else:
        files = sorted(str(path) for path in root.rglob("*.jpg"))
        count = len(files)
    return {
        "images": count,
        "seconds": round(time.perf_counter() - start, 2),
        "peak": round(_memory("VmHWM") - before, 1),
        "own": round(_memory("RssAnon") - own, 1),
    }


if __name__ == "__main__":
    print(json.dumps(_child(sys.argv[1], Path(sys.argv[2]))))
