"""A disk that fills up, and one that is read-only: real ones, of memory, in a namespace."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from namespaces import alone, make_read_only, mount_memory, resize_memory
from tiny_teacher import contents, job, write_photos

from distill.labels.store import LabelStore

ROOT = Path(__file__).parents[2]
PAGE = 4096


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return write_photos(tmp_path_factory.mktemp("photos"), 10)


def check_stopped(out):
    """No temporary file is left to fill the disk, and what is committed is whole."""
    left = contents(out)
    assert not [name for name in left if ".tmp-" in name]
    if "store.json" in left:
        LabelStore(out, allow_incomplete=True).verify()
    return left


def test_a_full_disk_stops_the_job_and_a_larger_one_ends_it(photos, uninterrupted, tmp_path):
    """Full in each of the places where a store grows: first shard, its index, last shard, ..."""

    def fill():
        stopped = []
        for pages in (0, 1, 3, 6, 8, 10, 13, 16, 19):
            out = tmp_path / f"disk-{pages}" / "store"
            mount_memory(out.parent, 1 << 20)
            filler = out.parent / "filler"
            filler.write_bytes(bytes((1 << 20) - pages * PAGE))
            with pytest.raises(OSError, match=r"No space left.*are free on that disk") as caught:
                job(photos).run(out)
            assert str(caught.value).startswith(str(out.parent))
            stopped.append(len(check_stopped(out)) if out.exists() else 0)
            filler.unlink()
            resize_memory(out.parent, 2 << 20)
            job(photos).run(out, resume=True)
            assert contents(out) == uninterrupted
        assert len(set(stopped)) > 3, stopped  # it filled at several stages

    alone(fill)


def test_a_full_disk_is_told_on_the_command_line(photos, tmp_path):
    """Exit code 2, one line that names the file, the room it needs and the room there is."""
    script = "mount -t tmpfs -o size=64k none $1 && shift && exec $0 -m distill run $@"
    out = tmp_path / "disk" / "store"
    out.parent.mkdir()
    recipe = ["tests/tiny_teacher.py:recipe", "--data", str(photos), "--out", str(out)]
    unshare = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script]
    ran = subprocess.run(
        [*unshare, sys.executable, str(out.parent), *recipe],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "tests")},
        capture_output=True,
        text=True,
    )
    if "unshare" in ran.stderr and "not permitted" in ran.stderr:
        pytest.skip("this kernel permits no user namespaces (unshare)")
    assert ran.returncode == 2, ran.stderr
    last = ran.stderr.splitlines()[-1]
    assert last.startswith(f"distill: error: {out}/"), ran.stderr
    assert "bytes are to be written" in last
    assert "Traceback" not in ran.stderr


def unwanted(*_, **__):
    raise AssertionError("the teacher was loaded before the folder was tried")


def test_a_read_only_folder_is_told_before_the_teacher_is_loaded(photos, tmp_path):
    def fill():
        place = tmp_path / "disk"
        mount_memory(place, 1 << 20)
        (place / "store").mkdir()
        make_read_only(place)
        with pytest.raises(OSError, match=r"Read-only file system.*disk/store"):
            job(photos, load=unwanted).run(place / "store")
        with pytest.raises(OSError, match=r"Read-only file system.*disk/new"):
            job(photos, load=unwanted).run(place / "new")

    alone(fill)


def test_a_finished_store_on_a_read_only_disk_is_read(photos, uninterrupted, tmp_path):
    def read():
        place = tmp_path / "disk"
        mount_memory(place, 1 << 20)
        job(photos).run(place / "store")
        (place / "store" / ".index.arrow").unlink()
        make_read_only(place)
        store = LabelStore(place / "store")
        assert store.verify() == 10
        store.read(store.keys()[0])
        assert contents(place / "store") == uninterrupted

    alone(read)
