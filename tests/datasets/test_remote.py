"""Whether files are the ones that were listed; the readers' tests hold the rest."""

import os
from pathlib import Path

from distill.datasets import remote


def test_files_are_unchanged_until_one_is_written_or_gone(tmp_path: Path):
    paths = [tmp_path / "a.tar", tmp_path / "b.tar"]
    for path in paths:
        path.write_bytes(b"x")
    versions = {str(path): remote.version(str(path)) for path in paths}
    assert remote.unchanged(versions)
    then = paths[1].stat().st_mtime_ns
    paths[1].write_bytes(b"xy")
    os.utime(paths[1], ns=(then, then))
    assert not remote.unchanged(versions), "longer, at the same time"
    paths[1].write_bytes(b"x")
    os.utime(paths[1], ns=(then, then + 1))
    assert not remote.unchanged(versions), "later, of the same length"
    os.utime(paths[1], ns=(then, then))
    assert remote.unchanged(versions)
    paths[0].unlink()
    assert not remote.unchanged(versions)


def test_names_come_in_the_order_of_their_keys():
    """`a-b/` is before `a/`, though `a` is before `a-b`."""
    assert list(remote.short_names(["/x/a", "/x/a-b"]).values()) == ["a-b", "a"]
    assert list(remote.short_names(["/y/c", "/x/d", "/x/c"]).values()) == ["x/c", "x/d", "y/c"]
