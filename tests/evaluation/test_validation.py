"""Held-out images: a perfect student scores 0, sizes are the student's, pictures do not change."""

import dataclasses
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

from distill.evaluation.validation import METRIC, HeldOut, pictures
from distill.types import Dataset, Sample, Space


class Ramps:
    """Depth rises along x at a slope of its own; the image is its disparity."""

    name = "ramps"

    def __init__(self, *, length: int = 6, empty: int = -1) -> None:
        self._length, self._empty = length, empty

    def __len__(self) -> int:
        return self._length

    def key(self, index: int) -> str:
        return f"{self.name}/{index}"

    def __getitem__(self, index: int) -> Sample:
        depth = (1 + (index + 1) * torch.linspace(0, 1, 32)).expand(24, 32).contiguous()
        valid = torch.full_like(depth, index != self._empty, dtype=torch.bool)
        return Sample(
            key=self.key(index),
            image=(1 / depth).expand(3, 24, 32).contiguous(),
            target=torch.where(valid, depth, torch.nan),
            valid=valid,
            space=Space.METRIC_DEPTH,
        )


class Reads(nn.Module):
    """Answers with a power of the image's first channel."""

    space, multiple = Space.AFFINE_DISPARITY, 4

    def __init__(self, power: float = 1.0) -> None:
        super().__init__()
        self.power = nn.Parameter(torch.tensor(power))
        self.seen: list[tuple[int, ...]] = []

    def forward(self, image: Tensor) -> Tensor:
        self.seen.append(tuple(image.shape))
        return 5 + 2 * image[:, 0] ** self.power


@torch.no_grad()
def test_the_right_disparity_scores_nearly_zero_and_another_does_not():
    held_out = HeldOut(open=Ramps, size=24)
    right, wrong = held_out(Reads()), held_out(Reads(3.0))
    assert right["abs_rel"] < 1e-3
    assert right["delta1"] == 1.0
    assert wrong["abs_rel"] > 0.05


@torch.no_grad()
@pytest.mark.parametrize("garbage", [torch.nan, torch.inf, 0.0, -3.0, 1e30])
def test_what_is_not_valid_changes_no_number(garbage: float):
    class Half(Ramps):
        def __init__(self, outside: float) -> None:
            super().__init__()
            self._outside = outside

        def __getitem__(self, index: int) -> Sample:
            sample = super().__getitem__(index)
            assert sample.target is not None
            valid = torch.arange(32).expand(24, 32) < 20
            target = torch.where(valid, sample.target, self._outside)
            return dataclasses.replace(sample, target=target, valid=valid)

    student = Reads(3.0)
    clean = HeldOut(open=partial(Half, torch.nan), size=24)(student)
    assert HeldOut(open=partial(Half, garbage), size=24)(student) == clean
    assert clean != HeldOut(open=Ramps, size=24)(student)


@torch.no_grad()
def test_it_sees_the_size_asked_for_and_so_many_images():
    student = Reads()
    HeldOut(open=Ramps, size=12, images=3)(student)
    assert student.seen == [(1, 3, 12, 16)] * 3


@torch.no_grad()
def test_the_images_are_spread_over_the_set():
    asked = []

    class Asked(Ramps):
        def __getitem__(self, index: int) -> Sample:
            asked.append(index)
            return super().__getitem__(index)

    HeldOut(open=Asked, size=12, images=3)(Reads())
    assert asked == [0, 2, 4]


@torch.no_grad()
def test_an_image_without_truth_does_not_count():
    assert HeldOut(open=partial(Ramps, length=2, empty=0), size=24)(Reads())["abs_rel"] < 1e-3
    assert HeldOut(open=partial(Ramps, length=1, empty=0), size=24)(Reads()) == {}


@torch.no_grad()
def test_truth_in_another_space_is_no_truth():
    """A store's disparity would be scored as if it were metres."""
    disparity = dataclasses.replace(Ramps()[0], space=Space.AFFINE_DISPARITY)
    with pytest.raises(ValueError, match=r"ramps/0: truth is .*metric depth is needed"):
        HeldOut(open=lambda: cast(Dataset, [disparity]), size=24)(Reads())


def test_pictures_are_always_the_same():
    held_out = HeldOut(open=Ramps, size=12)
    first, second = (pictures(held_out, multiple=4) for _ in range(2))
    assert first["key"] == second["key"]
    assert first["image"].shape == (4, 3, 12, 12)
    torch.testing.assert_close(first["image"], second["image"], rtol=0, atol=0)
    assert len(pictures(HeldOut(open=partial(Ramps, length=2), size=12), multiple=4)["key"]) == 2


@pytest.mark.parametrize("wrong", [{"size": 0}, {"images": 0}])
def test_senseless_numbers_are_refused(wrong: dict[str, Any]):
    with pytest.raises(ValueError, match="both must be >= 1"):
        HeldOut(open=partial(Ramps), **wrong)


def test_a_missing_set_is_named(tmp_path: Path):
    def missing() -> Ramps:
        raise FileNotFoundError(f"no folder {tmp_path}")

    with pytest.raises(FileNotFoundError, match="no folder"):
        pictures(HeldOut(open=missing))


@torch.no_grad()
def test_metres_are_scored_as_they_are():
    class Metres(Reads):
        space = Space.METRIC_DEPTH

        def forward(self, image: Tensor) -> Tensor:
            return self.power / image[:, 0]

    held_out = HeldOut(open=Ramps, size=24, protocol=METRIC)
    assert held_out(Metres())["abs_rel"] == pytest.approx(0, abs=0.02)
    assert held_out(Metres(1.2))["abs_rel"] == pytest.approx(0.2, abs=0.02)
    assert HeldOut(open=Ramps, size=24)(Metres(1.2))["abs_rel"] == pytest.approx(0, abs=0.02)
    with pytest.raises(ValueError, match="does not allow"):
        held_out(Reads())
