"""Batches to a device and answers back; on the CPU nothing is copied but the stack."""

import torch

from pseudo_labels.predictor import Answer
from pseudo_labels.transfer import to_device, to_host


def test_each_view_is_stacked_over_the_images():
    images = [tuple(torch.rand(3, 2, width) for width in (4, 6)) for _ in range(3)]
    wide, wider = to_device(images, torch.device("cpu"))
    assert torch.equal(wide, torch.stack([first for first, _ in images]))
    assert torch.equal(wider, torch.stack([second for _, second in images]))


def test_an_answer_on_the_cpu_is_there_already():
    answer = Answer(values=torch.rand(2, 3, 4))
    wait = to_host(answer)
    assert wait() is answer
    assert wait() is answer
