"""Samples set aside: named once, over kills and other numbers of processes."""

import json

import pytest

from distill.job import GuardStop
from distill.quarantine import Quarantine


def opened(out, rank=0, world_size=1, samples=100, budget=0.02, start=9):
    return Quarantine(out, rank, world_size, samples=samples, budget=budget, start=start)


def test_a_key_is_named_once(tmp_path):
    first = opened(tmp_path)
    first.add({"a/1": "cut short"}, step=3)
    first.add({"a/1": "cut short", "a/2": "no image"}, step=3)
    again = opened(tmp_path)
    again.add({"a/2": "no image"}, step=3)
    assert len(first) == len(again) == 2
    lines = [json.loads(line) for line in (tmp_path / "quarantine.jsonl").read_text().splitlines()]
    assert lines == [
        {"key": "a/1", "reason": "cut short", "step": 3},
        {"key": "a/2", "reason": "no image", "step": 3},
    ]


def test_without_any_there_is_no_file(tmp_path):
    opened(tmp_path).add({}, step=3)
    assert not list(tmp_path.iterdir())


def test_a_line_that_a_kill_cut_off_is_written_again(tmp_path):
    opened(tmp_path).add({"a/1": "cut short", "a/2": "no image"}, step=3)
    path = tmp_path / "quarantine.jsonl"
    whole = path.read_text()
    path.write_text(whole[:-9])
    again = opened(tmp_path)
    assert len(again) == 1
    again.add({"a/2": "no image"}, step=3)
    assert path.read_text() == whole


def test_what_a_resumed_run_will_do_again_is_taken_back(tmp_path):
    first = opened(tmp_path)
    first.add({"a/1": "cut short"}, step=3)
    first.add({"a/2": "no image"}, step=4)
    path = tmp_path / "quarantine.jsonl"
    assert len(opened(tmp_path, start=5)) == 2
    assert len(opened(tmp_path, start=4)) == 1
    assert [json.loads(line)["key"] for line in path.read_text().splitlines()] == ["a/1"]
    assert len(opened(tmp_path, start=0)) == 0
    assert not path.exists()


def test_files_of_others_are_left(tmp_path):
    for name in ("quarantine.old.jsonl", "quarantine-mine.jsonl", "quarantine_1.jsonl"):
        (tmp_path / name).write_text("mine")
    assert len(opened(tmp_path)) == 0
    assert {path.read_text() for path in tmp_path.iterdir()} == {"mine"}


def test_processes_write_side_by_side_and_fewer_take_over_all(tmp_path):
    for rank in range(3):
        opened(tmp_path, rank, 3).add({f"a/{rank}": "no image"}, step=3)
    assert len(list(tmp_path.iterdir())) == 3
    assert [len(opened(tmp_path, rank, 2)) for rank in range(2)] == [2, 1]
    assert len(opened(tmp_path)) == 3


def test_the_budget_is_a_share_of_all_samples(tmp_path):
    aside = opened(tmp_path)
    aside.add({"a/1": "cut short", "a/2": "no image"}, step=3)
    aside.check(len(aside))
    aside.check(3)  # another process has met one of the two, too
    aside.add({"a/3": "no image"}, step=3)
    with pytest.raises(
        GuardStop, match=r"3 of 100 samples .* budget of 2\.00%; .*quarantine\.jsonl"
    ):
        aside.check(len(aside))
