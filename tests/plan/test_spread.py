"""What several devices hold and send, by hand."""

from pathlib import Path

import pytest
from torch import nn

from distill.plan.question import Question
from distill.plan.spread import Spread, spread

CLUSTERS = Path(__file__).parents[2] / "recipes" / "clusters"


class Layer(nn.Linear):
    """Ten by ten, 400 bytes."""

    def __init__(self) -> None:
        super().__init__(10, 10, bias=False)


def network() -> nn.Module:
    """Three layers and 200 bytes outside of them, of which half is trained; the rest lies whole."""
    outside = nn.Linear(5, 5, bias=False)
    frozen = nn.Linear(5, 5, bias=False).requires_grad_(False)
    return nn.Sequential(Layer(), Layer(), Layer(), outside, frozen)


def test_ddp():
    lies = Spread(devices=4, kind="DDP")
    assert lies.share(100.0) == 100.0
    assert lies.beside(network()) == {"exchange buckets": 1300}
    assert lies.sent(network(), 3) == 2 * 3 / 4 * 1300  # once, however many batches


def test_fsdp():
    lies = Spread(devices=4, kind="FSDP", layer="Layer")
    assert lies.share(100.0) == lies.gradients(100.0, 1) == 25.0
    assert lies.gradients(100.0, 3) == 100.0
    assert lies.beside(network()) == {"put together": 3 * 400 + 2 * 100}
    assert lies.sent(network(), 3) == 3 / 4 * (3 * 2 + 1) * 1300


def test_one_device_sends_nothing():
    assert Spread(devices=1, kind="alone").sent(network(), 1) == 0


def test_fsdp_of_layers_that_are_not_there():
    with pytest.raises(ValueError, match=r"names \['Block'\], which Sequential has none of"):
        Spread(devices=4, kind="FSDP", layer="Block").beside(network())


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("one_gpu", Spread(devices=1, kind="alone")),
        ("eight_gpus", Spread(devices=8, kind="DDP")),
        ("teacher_vitg_4x8", Spread(devices=32, kind="FSDP", layer="Dinov2Layer")),
    ],
)
def test_launch_files(name: str, expected: Spread):
    assert spread(Question(hardware="h200", launch=CLUSTERS / f"{name}.yaml")) == expected


def test_gpus_against_the_launch_file():
    launch = CLUSTERS / "eight_gpus.yaml"
    with pytest.raises(ValueError, match="starts 8 processes, --gpus says 4"):
        spread(Question(hardware="h200", launch=launch, gpus=4))
    with pytest.raises(FileNotFoundError, match=r"no launch file nowhere\.yaml"):
        spread(Question(hardware="h200", launch=Path("nowhere.yaml")))


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({}, "give --hardware NAME"),
        ({"hardware": "h200", "probe": 60.0}, "not both"),
        ({"hardware": "h200", "gpus": 0}, "--gpus 0"),
        ({"hardware": "h200", "price": -1.0}, "--price -1"),
    ],
)
def test_questions_that_make_no_sense(fields: dict, says: str):
    with pytest.raises(ValueError, match=says):
        Question(**fields)
