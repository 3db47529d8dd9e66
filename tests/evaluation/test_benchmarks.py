"""Protocols are data that say what they mean; each benchmark has one."""

import dataclasses
from pathlib import Path

import pytest

from distill.evaluation.benchmarks import BENCHMARKS, Benchmark, find


def test_names_and_ids_are_unique():
    names = [b.name for b in BENCHMARKS]
    assert len(set(names)) == len(names)
    protocols = [p for b in BENCHMARKS for p in (b.protocol, b.other_list) if p]
    assert len({p.id for p in protocols}) == len(protocols)
    assert len({p.as_json()["sha256"] for p in protocols}) == len(protocols)


def test_the_text_says_everything_that_decides_the_number():
    text = find("kitti").protocol.text
    for said in ("kitti652.garg.disp.v1", "above 0.001 m", "below 80 m", "garg crop", "0.0125 1/m",
                 "disparity (1/depth)", "mean over images", "fewer than 10"):  # fmt: skip
        assert said in text
    assert "1/(largest true depth)" in find("photos").protocol.text
    assert "clipped to 0.001-1000 m" in find("rgb-depth-metric").protocol.text


def test_the_hash_follows_every_field_and_nothing_else():
    protocol = find("photos").protocol
    assert protocol.as_json() == dataclasses.replace(protocol).as_json()
    changed = dataclasses.replace(protocol, min_pixels=11)
    assert changed.as_json()["sha256"] != protocol.as_json()["sha256"]


def test_only_the_published_number_of_images_carries_the_published_id():
    kitti = find("kitti")
    assert kitti.protocol_for(652).id == "kitti652.garg.disp.v1"
    assert kitti.protocol_for(3).id == "kitti.garg.disp.v1"
    assert kitti.protocol_for(3).as_json()["sha256"].startswith("ac88a2bb")  # never to change
    assert find("photos").protocol_for(3).id == "photos.disp.v1"


@pytest.mark.parametrize("benchmark", BENCHMARKS, ids=lambda b: b.name)
def test_every_reader_is_called_as_it_wants_and_names_what_it_misses(benchmark, tmp_path: Path):
    """A wrong keyword would be a TypeError; an empty folder is what its owner can repair."""
    with pytest.raises((FileNotFoundError, ValueError), match=str(tmp_path)):
        benchmark.open(tmp_path)
    assert benchmark.layout in _said(benchmark)
    expected = benchmark.protocol.expected_images
    if expected is not None:
        assert benchmark.protocol_for(expected) is benchmark.protocol
        other = benchmark.protocol_for(expected + 1)
        assert other.id != benchmark.protocol.id
        assert other.published == ()


def _said(benchmark: Benchmark) -> str:
    if benchmark.home:
        return benchmark.layout
    with pytest.raises(ValueError, match=f"benchmark {benchmark.name}: give --data DIR") as caught:
        benchmark.folder(None)
    return str(caught.value)


def test_find_lists_what_there_is():
    with pytest.raises(ValueError, match="there are photos, kitti, rgb-depth"):
        find("kiti")


def test_a_missing_folder_is_named_with_what_it_should_hold(tmp_path: Path):
    with pytest.raises(ValueError, match=r"give --data DIR holding rgb/NAME.*256 m"):
        find("kitti").folder(None)
    with pytest.raises(FileNotFoundError, match=r"no folder .*nowhere; it should hold rgb/"):
        find("kitti").folder(tmp_path / "nowhere")
    assert find("kitti").folder(tmp_path) == tmp_path
    home = find("photos").home
    assert home is not None
    assert home.parts[-2:] == ("photos", "evaluation")
