"""Checkpoints that earlier versions wrote: loaded, and trained on from as those would have."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from checkpoint_formats import FOLDER, outcome, run

from distill import checkpoint

KEPT = sorted(FOLDER.glob("format-*"))


def test_this_format_is_kept():
    assert FOLDER / f"format-{checkpoint.FORMAT}" in KEPT, "python tests/checkpoint_formats.py"


@pytest.mark.parametrize("kept", KEPT, ids=lambda folder: folder.name)
def test_a_run_goes_on_from_the_checkpoint_of_any_version(tmp_path: Path, kept: Path):
    (saved,) = kept.glob("step-*")
    assert f"format-{json.loads((saved / 'state.json').read_text())['format']}" == kept.name
    shutil.copytree(saved, tmp_path / "checkpoints" / saved.name)
    run().run(tmp_path, resume=True)
    expected = json.loads((kept / "expected.json").read_text())
    found = outcome(tmp_path, saved)
    assert found["draws"] == pytest.approx(expected["draws"], rel=1e-12)
    assert found["average"] == pytest.approx(expected["average"], rel=1e-4, abs=1e-6)
    assert len(found["rows"]) == len(expected["rows"])
    for ours, theirs in zip(found["rows"], expected["rows"], strict=True):
        # numbers that a version has begun to report since are its own
        assert {name: ours[name] for name in theirs} == pytest.approx(theirs, rel=1e-4)


def test_a_field_that_came_later_has_its_default_in_older_checkpoints(tmp_path: Path):
    (saved,) = (FOLDER / "format-1").glob("step-*")
    copied = tmp_path / "checkpoints" / saved.name
    shutil.copytree(saved, copied)
    state = json.loads((copied / "state.json").read_text())
    del state["job"]["activation_checkpointing"]
    (copied / "state.json").write_text(json.dumps(state))
    with pytest.raises(ValueError, match="activation_checkpointing: false -> true"):
        replace(run(), activation_checkpointing=True).run(tmp_path, resume=True)
    run().run(tmp_path, resume=True)
    assert (tmp_path / "summary.json").is_file()
