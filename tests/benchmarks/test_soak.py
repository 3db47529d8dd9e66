"""What the soak compares: every decided byte, and no time."""

import json
import sys
from pathlib import Path

import pytest

from benchmarks import soak

LAZY = soak.Stage("lazy", "recipes.demo:worlds", ())


def write(out: Path, *, loss: float = 1.0, seconds: float = 2.0, label: bytes = b"a") -> Path:
    out.mkdir()
    (out / "metrics.jsonl").write_text(json.dumps({"step": 1, "loss": loss, "seconds": seconds}))
    (out / "label.tar").write_bytes(label)
    (out / "run.json").write_text(str(seconds))
    return out


def test_times_do_not_count_and_contents_do(tmp_path: Path):
    expected = soak.content(write(tmp_path / "a"))
    assert set(expected) == {"metrics.jsonl", "label.tar"}
    soak.compare(LAZY, expected, soak.content(write(tmp_path / "b", seconds=3.0)))
    with pytest.raises(RuntimeError, match=r"lazy: 1 files differ: \['metrics"):
        soak.compare(LAZY, expected, soak.content(write(tmp_path / "c", loss=1.5)))
    with pytest.raises(RuntimeError, match=r"1 files differ: \['label"):
        soak.compare(LAZY, expected, soak.content(write(tmp_path / "d", label=b"b")))


def test_a_resumed_run_that_fails_is_told(tmp_path: Path, monkeypatch):
    def command(_stage: soak.Stage, out: Path) -> list[str]:
        return [sys.executable, "-c", f"import sys; sys.exit({out.name!r} == 'lazy-victim')"]

    monkeypatch.setattr(soak.Stage, "command", command)
    (tmp_path / "lazy-reference").mkdir()

    class Late:
        def uniform(self, *_: float) -> float:
            return 60.0

    with pytest.raises(RuntimeError, match="lazy: a resumed run failed"):
        soak.soak(LAZY, tmp_path, 1, Late())  # type: ignore[arg-type]  # a generator that waits
