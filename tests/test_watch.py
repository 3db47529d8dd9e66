"""The guards: what is bad is held back at once and named one update later."""

import pytest
import torch

from distill.job import GuardStop
from distill.limits import DEAD, FIRST, Limits
from distill.types import Batch
from distill.watch import BadUpdate, Watch


def batch(*values: float) -> Batch:
    images = torch.zeros(len(values), 3, 2, 2)
    images[:, 0, 0, 0] = torch.tensor(values)
    keys = [f"set/{i}" for i in range(len(values))]
    return Batch(key=keys, image=images, space=[None] * len(values))


def numbers(**values: float) -> dict[str, torch.Tensor]:
    return {name: torch.tensor(value) for name, value in values.items()}


def test_good_numbers_come_back_once():
    watch = Watch(torch.device("cpu"))
    assert watch.read() is None
    watch.put(4, numbers(loss=0.5, zeros=0.25), [batch(0.0)])
    assert watch.veto == 0
    assert watch.read() == (4, {"loss": 0.5, "zeros": 0.25})
    assert watch.read() is None


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_bad_numbers_veto_for_good_and_are_named(bad: float):
    watch = Watch(torch.device("cpu"))
    watch.put(4, numbers(loss=0.5, grad_norm=bad), [batch(0.0, 1.0), batch(2.0)])
    assert watch.veto == 1
    with pytest.raises(GuardStop, match=r"update 4 is not finite .*loss 0\.5, grad_norm") as caught:
        watch.read()
    assert "its samples: set/0, set/1, set/0" in str(caught.value)
    watch.put(5, numbers(loss=0.5, grad_norm=1.0), [batch(0.0)])
    assert watch.veto == 1


def test_the_broken_image_is_singled_out():
    watch = Watch(torch.device("cpu"))
    watch.put(0, numbers(loss=float("nan")), [batch(0.0, float("nan"))])
    with pytest.raises(GuardStop, match=r"not finite: set/1$"):
        watch.read()


def test_the_veto_is_on_the_device_before_anybody_reads(monkeypatch):
    watch = Watch(torch.device("cpu"))
    monkeypatch.setattr(torch.Tensor, "tolist", lambda self: pytest.fail("the host waited"))
    watch.put(0, numbers(loss=float("nan")), [batch(0.0)])
    assert watch.veto == 1


def test_a_spike_is_vetoed_before_anybody_reads_and_then_named():
    watch = Watch(torch.device("cpu"), Limits(spike=5.0))
    for step in range(FIRST):
        watch.put(step, numbers(loss=2.0 + step % 2), [batch(0.0)])
        assert watch.veto == 0
        watch.read()
    limit = watch.limits.loss
    watch.put(FIRST, numbers(loss=limit), [batch(0.0)])
    assert watch.veto == 0, "the bound itself is allowed"
    assert watch.read() == (FIRST, {"loss": limit})
    bound = watch.limits.loss
    above = float(torch.nextafter(torch.tensor(bound), torch.tensor(torch.inf)))
    watch.put(FIRST + 1, numbers(loss=above), [batch(0.0, 1.0)])
    assert watch.veto == 1
    with pytest.raises(
        BadUpdate, match=r"update 51 was not applied: its loss is .* times"
    ) as caught:
        watch.read()
    assert "checkpoint is from before it" in str(caught.value)
    assert "its samples: set/0, set/1" in str(caught.value)
    assert caught.value.batches[0]["key"] == ["set/0", "set/1"]


def test_an_output_of_zeros_stops_after_a_while():
    watch = Watch(torch.device("cpu"))
    for step in range(DEAD - 1):
        watch.put(step, numbers(zeros=0.6), [])
        watch.read()
    watch.put(DEAD, numbers(zeros=0.4), [])  # one that is alive
    watch.read()
    for step in range(DEAD - 1):
        watch.put(step, numbers(zeros=0.6), [])
        watch.read()
    watch.put(99, numbers(zeros=0.6), [])
    with pytest.raises(GuardStop, match=r"60% of the output is exactly 0 in 10 updates up to 99"):
        watch.read()
