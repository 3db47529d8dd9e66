"""The figure's own steps, on few files."""

from pathlib import Path

import pytest

from benchmarks import list_million


def test_what_is_measured_is_a_start_on_every_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "")  # is set by what runs in a process of its own
    tree = list_million.grow(tmp_path / "photos", 3, 40)
    assert len(list(tree.rglob("*.png"))) == 120
    for work in (list_million.first_sample, list_million.sample_of_paths):
        found = list_million._measured(work, tree, tmp_path / "cache")
        assert found.count == 120
        assert 0 < found.seconds < 60
        assert 0 <= found.peak < 500
