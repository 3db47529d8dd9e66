"""SIGKILL at every change that a label job makes to its folder, and at random moments.

The kill switch (`tests/kill_switch.c`) stands between Python and the kernel, so that also what
Arrow writes counts, and a write ends half way.
"""

import random
import re
import shutil
import signal
from collections import Counter

import pytest
from forked_jobs import forked_jobs
from PIL import Image
from tiny_teacher import contents, write_photos

from distill.labels.store import LabelStore

KILLED = -signal.SIGKILL


@pytest.fixture(scope="module")
def jobs(tmp_path_factory):
    with forked_jobs(tmp_path_factory.mktemp("switch")) as run:
        yield run


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Eleven, of which one is too small, in three shards."""
    root = write_photos(tmp_path_factory.mktemp("photos"), 11)
    Image.new("RGB", (20, 40)).save(root / "trip.0" / "IMG_002.v1.png")
    return root


@pytest.fixture(scope="module")
def whole(jobs, photos, tmp_path_factory):
    """The uninterrupted store: its contents, and every change on the way."""
    out = tmp_path_factory.mktemp("whole") / "store"
    ended = jobs(photos, out)
    assert ended["code"] == 1  # one image has no label and is named
    assert LabelStore(out).verify() == 10
    return contents(out), ended


def check_killed(out, expected):
    """Only whole shards, and what `sweep` removes; returns that state, without process numbers."""
    state = contents(out) if out.exists() else {}
    for name, data in state.items():
        if ".tmp-" not in name and name != "quarantine.jsonl":
            is_shard = name.endswith(".tar")  # a tar whose index is still to come is whole, too
            assert expected[name] == data, f"{name} is torn, is_shard={is_shard}"
    if "store.json" in state:
        LabelStore(out, allow_incomplete=True).verify()
    return frozenset((re.sub(r"\d+$", "", name), data) for name, data in state.items())


@pytest.mark.parametrize("every", [5, pytest.param(1, marks=pytest.mark.slow)])
def test_killed_at_every_change(jobs, photos, whole, tmp_path, every):
    """Killed at each once; resumed from each, or every fifth, new state of the folder."""
    expected, ended = whole
    out, states, kills = tmp_path / "store", set(), 0
    what = Counter(change[0] for change in ended["changes"])
    assert all(what[name] for name in ("write", "fsync", "rename", "unlink", "mkdir"))
    joined = [n for n, change in enumerate(ended["changes"]) if ".index.arrow" in change[1]]
    spared = set(joined[1:-3]) - set(joined[::12])  # Arrow writes it in a hundred pieces
    syncs = [n for n, change in enumerate(ended["changes"]) if change[0] == "fsync"]
    spared |= set(syncs[::2]) if every > 1 else set()
    for number in sorted(set(range(len(ended["changes"]))) - spared):
        assert jobs(photos, out, kill_at=number + 1)["code"] == KILLED
        kills += 1
        state = check_killed(out, expected)
        if state not in states:
            states.add(state)
            if len(states) % every == 0:
                assert jobs(photos, out)["code"] == 1
                assert contents(out) == expected
        shutil.rmtree(out, ignore_errors=True)
    assert kills >= 50
    assert len(states) > 15


def test_killed_again_and_again_while_resuming(jobs, photos, whole, tmp_path):
    """At a random change of each resumed run, until one ends by itself."""
    expected, ended = whole
    out, draw, codes = tmp_path / "store", random.Random(0), []
    while not codes or codes[-1] == KILLED:
        at = draw.randrange(1, len(ended["changes"]))
        codes.append(jobs(photos, out, kill_at=at)["code"])
        check_killed(out, expected)
    assert codes[-1] == 1
    assert contents(out) == expected


@pytest.mark.slow
def test_killed_at_fifty_random_moments(jobs, photos, whole, tmp_path):
    expected, ended = whole
    out, draw, kills = tmp_path / "store", random.Random(1), 0
    while kills < 50:
        code = jobs(photos, out, kill_after=draw.uniform(0, ended["seconds"]))["code"]
        check_killed(out, expected)
        if code == KILLED:
            kills += 1
            continue
        assert code == 1
        assert contents(out) == expected
        shutil.rmtree(out)
    jobs(photos, out)
    assert contents(out) == expected


def test_a_commit_reaches_the_disk_in_order(whole):
    """What loses power loses what was not synced: then no index may stand beside another tar."""
    _, ended = whole
    synced, named, seen = set(), set(), 0
    for what, path, other in ended["changes"]:
        if what == "write":
            synced.discard(path)
            assert path not in named, f"{path} is written to after it was renamed into place"
        elif what == "fsync":
            synced.add(path)
        elif what == "rename":
            assert path in synced, f"{path} is renamed before it is synced"
            folder = other.rpartition("/")[0]
            synced.discard(folder)
            named.add(other)
            if other.endswith(".parquet"):
                root = folder.rpartition("/")[0]
                assert root in synced, f"{other} is committed before its shard's name is synced"
                seen += 1
    assert seen == 3
    assert {path.rpartition("/")[0] for path in named} <= synced
