"""Files appear complete or not at all, whatever stops the writer."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from distill import atomic


def test_write_replaces(tmp_path: Path):
    path = tmp_path / "deep" / "file.json"
    atomic.write_text(path, "one")
    atomic.write_text(path, "two")
    assert path.read_text() == "two"
    assert [entry.name for entry in path.parent.iterdir()] == ["file.json"]


def test_an_error_leaves_the_old_file(tmp_path: Path):
    path = tmp_path / "file"
    atomic.write_text(path, "old")

    def half():
        with atomic.replacing_file(path) as temporary:
            temporary.write_text("half")
            raise KeyError("disk")

    with pytest.raises(KeyError):
        half()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_leaves_the_old_folder(tmp_path: Path):
    path = tmp_path / "folder"
    with atomic.replacing_folder(path) as temporary:
        (temporary / "a").write_text("old")

    def half():
        with atomic.replacing_folder(path) as temporary:
            (temporary / "a").write_text("new")
            raise KeyError("disk")

    with pytest.raises(KeyError):
        half()
    assert (path / "a").read_text() == "old"
    with atomic.replacing_folder(path) as temporary:
        (temporary / "b").write_text("new")
    assert [entry.name for entry in path.iterdir()] == ["b"]
    assert list(tmp_path.iterdir()) == [path]


def test_sweep_after_sigkill_between_the_renames(tmp_path: Path):
    """Killed after the old folder was moved aside: sweep puts it back."""
    script = (
        "import os, signal, sys; from pathlib import Path; from distill import atomic\n"
        "path = Path(sys.argv[1])\n"
        "atomic.commit = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "with atomic.replacing_folder(path) as t: (t / 'a').write_text('new')\n"
    )
    path = tmp_path / "folder"
    path.mkdir()
    (path / "a").write_text("old")
    killed = subprocess.run([sys.executable, "-c", script, str(path)], env=dict(os.environ))
    assert killed.returncode == -signal.SIGKILL
    assert not path.exists()
    atomic.sweep(tmp_path)
    assert (path / "a").read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_sweep_removes_temporaries(tmp_path: Path):
    (tmp_path / ".x.tmp-1").write_text("half")
    (tmp_path / ".y.tmp-2").mkdir()
    (tmp_path / "x").write_text("whole")
    (tmp_path / ".x.old").mkdir()
    atomic.sweep(tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["x"]
