"""The figure's own steps, on few files."""

from pathlib import Path

import pytest

from benchmarks import list_million


def test_what_is_measured_is_a_start_on_every_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(list_million, "FOLDERS", 2)
    monkeypatch.setattr(list_million, "EACH", 502)
    tree = list_million._tree(tmp_path / "photos")
    assert len(list(tree.rglob("*.jpg"))) == 2 * 502
    for how in ("ours", "paths"):
        found = list_million._child(how, tree)
        assert found["images"] == 2 * 502
        assert 0 <= found["seconds"] < 60
        assert 0 <= found["peak"] < 500
