"""The doctor finds the stage that was made slow."""

import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_teacher import TinyTeacher, write_photos
from training import Planes, job, supervised

from distill.datasets.image_folder import ImageFolder
from distill.inspection.doctor import Diagnosis, diagnose
from distill.loading import Batches, Mixture, batches
from distill.types import Sample
from distill.worlds.job import RenderJob
from pseudo_labels.generate import LabelJob


class Slow(Planes):
    """Each sample comes out of bytes that take a while to arrive and a while to decode."""

    def __init__(self, fetch: float, decode: float) -> None:
        super().__init__()
        self._fetch, self._decode = fetch, decode

    def encoded(self, index: int) -> bytes:
        time.sleep(self._fetch)
        return b""

    def __getitem__(self, index: int) -> Sample:
        self.encoded(index)
        time.sleep(self._decode)
        return super().__getitem__(index)


def slow(sample: Sample, rng: np.random.Generator, *, seconds: float) -> Sample:
    time.sleep(seconds)
    return sample


def stages(fetch: float, decode: float, transform: float, **where: Any) -> Batches:
    mixture = Mixture([(Slow(fetch, decode), None)])
    return batches(mixture, transform=partial(slow, seconds=transform), **where)


def crawling() -> torch.nn.Module:
    """A network that takes half a second an update."""
    made = supervised()
    made.register_forward_pre_hook(lambda *_: time.sleep(0.5))
    return made


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distill.inspection.doctor._LEAST", 0.2)


@pytest.mark.parametrize(
    ("times", "limit", "advice"),
    [
        ((0.2, 0.0, 0.0), "fetching", "fetching dominates: keep the images in tar shards"),
        ((0.0, 0.2, 0.0), "decoding", "decoding dominates: store JPEGs whose short side"),
        ((0.0, 0.0, 0.2), "preparing", "preparing dominates: store images no larger"),
    ],
)
def test_the_slow_stage_is_named(times: tuple[float, ...], limit: str, advice: str):
    made = replace(job(), batches=partial(stages, *times))
    found = diagnose(made, samples=8)
    assert found.limit == limit
    assert advice in found.text
    assert f"limit: {limit}" in found.text
    fetch, decode, transform = (1e3 * seconds for seconds in times)
    assert _about(found.fetch, fetch)
    assert _about(found.read, fetch + decode)
    assert _about(found.transform, transform)
    assert found.batch == 4


def _about(measured: float | None, slept: float) -> bool:
    """Sleep is never shorter, and on a busy machine longer; milliseconds."""
    return measured is not None and slept <= measured < slept + 90


def test_a_slow_network_is_the_limit():
    made = replace(job(), objective=crawling, workers=1)
    found = diagnose(made, batch=2, samples=8)
    assert found.limit == "the network"
    assert 1 < found.model <= 4  # as `_about`
    assert found.loader is not None
    assert found.loader > found.model
    assert found.batch == 2
    assert found.needed == 1
    assert "workers=1 feed the network with a quarter to spare" in found.text
    assert "dominate" not in found.text


def test_a_label_job_too(tmp_path: Path):
    photos = write_photos(tmp_path / "photos", count=4)
    load = partial(TinyTeacher, delay=0.1)
    made = LabelJob(images=partial(ImageFolder, photos), teacher="tiny", batch_size=2, load=load)
    found = diagnose(made)
    assert found.limit == "the network"
    assert 5 < found.model <= 20  # as `_about`
    assert found.loader is None
    assert "- (not measured)" in found.text
    assert not (tmp_path / "store.json").exists()


def test_memory_that_runs_out_halves_the_batch(monkeypatch: pytest.MonkeyPatch):
    made = job()
    objective = made.objective()

    def small(module: torch.nn.Module, inputs: tuple[Any, ...]) -> None:
        if len(inputs[0]["key"]) > 2:
            raise torch.OutOfMemoryError("a small device")

    objective.register_forward_pre_hook(small)
    assert diagnose(replace(made, objective=lambda: objective), batch=8, samples=8).batch == 2


def test_more_processes_than_cores_are_not_proposed():
    found = Diagnosis(
        fetch=None,
        read=90.0,
        transform=10.0,
        loader=19.0,
        workers=2,
        model=100.0,
        batch=8,
        device="cpu",
        cores=4,
    )
    assert found.needed == 13
    assert (
        "13 reading processes would feed the network, there are 4 cores: at best 40" in found.text
    )


def test_other_jobs_and_empty_batches_are_refused():
    with pytest.raises(ValueError, match="RenderJob trains and labels nothing"):
        diagnose(RenderJob())
    with pytest.raises(ValueError, match="batch=0; measure one image at least"):
        diagnose(job(), batch=0)
