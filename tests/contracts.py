"""Contracts: one test body for every loss, data set and model."""

import dataclasses
import pickle
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import cast

import pytest
import torch
from scenes import Scene
from torch import Tensor, nn

from distill import geometry
from distill.types import Dataset, Sample, Space, View

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]


def check_loss(
    loss: Loss,
    *,
    invariances: Sequence[Callable[[Tensor], Tensor]] = (),
    example: tuple[list[list[float]], list[list[float]], float],
) -> None:
    """What every per-sample loss over `(pred, target, valid)` promises.

    Args:
        loss: to check; zero where `pred` equals `target`.
        invariances: changes of `pred` that leave the loss as it is.
        example: prediction, target and the loss computed by hand, all pixels valid.
    """
    _check_values(loss, invariances, example)
    _check_gradient(loss)
    _check_invalid_pixels(loss)
    _check_too_few_pixels(loss)
    _check_batch(loss)
    _check_precision(loss)
    _check_no_wait(loss)


def _maps(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    """Two samples of 6 x 7 with a fifth of the pixels invalid."""
    generator = torch.Generator().manual_seed(0)
    pred, target, chance = torch.rand(3, 2, 6, 7, generator=generator, dtype=torch.float64)
    return (pred + 0.5).to(dtype), (3 * target + 1).to(dtype), chance > 0.2


def _value_and_gradient(loss: Loss, pred: Tensor, target: Tensor, valid: Tensor) -> tuple:
    pred = pred.clone().requires_grad_()
    value = loss(pred, target, valid)
    (gradient,) = torch.autograd.grad(value.sum(), pred)
    return value.detach(), gradient


def _check_values(loss: Loss, invariances: Sequence[Callable], example: tuple) -> None:
    pred, target, valid = _maps()
    assert loss(target, target, valid).abs().max() < 1e-6, "not 0 at the optimum"
    before = loss(pred, target, valid)
    assert before.shape == (2,)
    assert (before > 0).all()
    for change in invariances:
        torch.testing.assert_close(loss(change(pred), target, valid), before)
    pred, target = (torch.tensor([values]) for values in example[:2])
    by_hand = torch.tensor([example[2]])
    torch.testing.assert_close(loss(pred, target, torch.ones_like(pred) > 0), by_hand)


def _check_gradient(loss: Loss) -> None:
    pred, target, valid = _maps(torch.float64)
    assert torch.autograd.gradcheck(lambda x: loss(x, target, valid), pred.requires_grad_())
    for degenerate in (target, torch.full_like(target, 2.0)):
        _, gradient = _value_and_gradient(loss, degenerate.float(), target.float(), valid)
        assert gradient.isfinite().all()


def _check_invalid_pixels(loss: Loss) -> None:
    pred, target, valid = _maps()
    value, gradient = _value_and_gradient(loss, pred, target, valid)
    assert (gradient[~valid] == 0).all()
    for junk in (torch.nan, torch.inf, -torch.inf, -1e30, 0.0):
        junk_pred, junk_target = (torch.where(valid, x, junk) for x in (pred, target))
        junk_value, junk_gradient = _value_and_gradient(loss, junk_pred, junk_target, valid)
        assert torch.equal(junk_value, value), f"{junk} outside valid changed the loss"
        assert torch.equal(junk_gradient, gradient), f"{junk} outside valid changed the gradient"


def _check_too_few_pixels(loss: Loss) -> None:
    pred, target, valid = _maps()
    whole, whole_gradient = _value_and_gradient(loss, pred, target, valid)
    nine = torch.zeros_like(valid[0]).flatten().index_fill(0, torch.arange(9), True)
    for few in (torch.zeros_like(valid[0]), nine.view_as(valid[0])):
        target = target.clone()
        target[0] = torch.where(few, target[0], torch.nan)
        value, gradient = _value_and_gradient(loss, pred, target, torch.stack([few, valid[1]]))
        assert value[0] == 0
        assert (gradient[0] == 0).all()
        assert torch.equal(value[1], whole[1])
        assert torch.equal(gradient[1], whole_gradient[1])


def _check_batch(loss: Loss) -> None:
    maps = _maps()
    alone = torch.cat([loss(*(x[i : i + 1] for x in maps)) for i in range(2)])
    torch.testing.assert_close(loss(*maps), alone, rtol=1e-6, atol=0)


def _check_precision(loss: Loss) -> None:
    pred, target, valid = _maps()
    whole = loss(pred, target, valid)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(loss(pred, target, valid), whole, rtol=1e-3, atol=0)
        half = loss(pred.bfloat16(), target, valid)
    assert half.dtype == torch.float32
    torch.testing.assert_close(
        half, loss(pred.bfloat16().float(), target, valid), rtol=1e-3, atol=0
    )


def _check_no_wait(loss: Loss) -> None:
    """The meta device holds no numbers: reading one, or a shape that depends on one, raises."""
    assert loss(*(x.to("meta") for x in _maps())).shape == (2,)


def check_dataset(
    build: Callable[[], Dataset],
    scenes: Mapping[str, Scene],
    *,
    space: Space | None,
    depth_tolerance: float = 1e-5,
    image_tolerance: float = 0.01,
) -> None:
    """What every data set promises, on a miniature that a test wrote from `scenes.py`.

    Args:
        build: makes the data set anew.
        scenes: what was written, by key.
        space: what `target` means; None for images without labels.
        depth_tolerance: of points, relative; what the file format rounds.
        image_tolerance: mean absolute difference; what the image format loses.
    """
    dataset = build()
    keys = [dataset.key(i) for i in range(len(dataset))]
    assert sorted(keys) == sorted(scenes), "keys are not the ones that were written, each once"
    assert keys == [build().key(i) for i in range(len(dataset))], "keys are not stable"
    assert all(key.startswith(f"{dataset.name}/") for key in keys)
    for i, key in enumerate(keys):
        sample = dataset[i]
        assert sample.key == key
        _check_image(sample, scenes[key], image_tolerance)
        _check_target(sample, scenes[key], space, depth_tolerance)
    with pytest.raises(IndexError):
        _ = dataset[len(dataset)]
    _check_workers(dataset)


def _check_image(sample: Sample, scene: Scene, tolerance: float) -> None:
    assert sample.image.dtype == torch.float32
    assert sample.image.shape == scene.image.shape
    assert sample.image.min() >= 0
    assert sample.image.max() <= 1
    assert sample.image.is_contiguous()
    different = (sample.image - scene.image).abs().mean(dim=(1, 2))
    assert different.max() < tolerance, f"red, green, blue are off by {different.tolist()}"


def _check_target(sample: Sample, scene: Scene, space: Space | None, tolerance: float) -> None:
    assert sample.space is space
    assert (sample.target is None) == (sample.valid is None) == (space is None)
    if sample.target is None or sample.valid is None:
        return
    assert sample.target.dtype == torch.float32
    assert torch.equal(sample.target.isnan(), ~sample.valid), "NaN exactly where not valid"
    assert sample.target[sample.valid].isfinite().all()
    assert torch.equal(sample.valid, scene.valid)
    if sample.far is not None:
        assert not (sample.far & sample.valid).any(), "the sky is never valid"
    assert space is not None
    truth = 1 / scene.depth if space.is_inverse else scene.depth
    near = {"rtol": tolerance, "atol": tolerance, "equal_nan": True, "check_dtype": False}
    torch.testing.assert_close(sample.target, truth, **near)
    if sample.K is not None and not space.is_inverse:
        points = geometry.backproject(sample.target, sample.K)
        torch.testing.assert_close(points, scene.points, **near)


def _check_workers(dataset: Dataset) -> None:
    """A pickled copy, and two processes, read the same samples in the same order."""
    alone = [dataset[i] for i in range(len(dataset))]
    copy = pickle.loads(pickle.dumps(dataset))
    loader = torch.utils.data.DataLoader(dataset, batch_size=None, num_workers=2)  # type: ignore[arg-type]  # a Protocol, not their class
    for others in ([copy[i] for i in range(len(copy))], list(loader)):
        assert len(others) == len(alone)
        for mine, other in zip(alone, others, strict=True):
            for field in dataclasses.fields(Sample):
                same = _same(getattr(mine, field.name), getattr(other, field.name))
                assert same, f"{mine.key}: {field.name} depends on who reads it"


def _same(a: object, b: object) -> bool:
    """Equal, NaN to NaN, also within a tuple of views."""
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return torch.equal(a.nan_to_num(), b.nan_to_num())
    if isinstance(a, tuple) and isinstance(b, tuple):
        return len(a) == len(b) and all(map(_same, a, b))
    if isinstance(a, View) and isinstance(b, View):
        return _same(tuple(vars(a).values()), tuple(vars(b).values()))
    return a == b


def check_sky(sample: Sample) -> None:
    """Whatever has no depth is the sky, and its disparity is 0."""
    assert sample.target is not None
    assert sample.valid is not None
    assert sample.far is not None
    assert sample.far.any()
    assert torch.equal(sample.far, ~sample.valid)
    spaces = {"source": Space.METRIC_DEPTH, "target": Space.AFFINE_DISPARITY}
    values, valid = geometry.to_space(sample.target, sample.valid, sample.far, **spaces)
    assert valid.all()
    assert (values[sample.far] == 0).all()


def unchecked(function: Callable) -> Callable:
    """`function` without the shape annotations, which hold under pytest only."""
    while hasattr(function, "__wrapped__"):
        function = function.__wrapped__  # type: ignore[attr-defined]  # tested just above
    return function


def check_model(model: nn.Module, *, space: Space, load: Callable[[Path], nn.Module]) -> None:
    """What every depth model promises that maps images in [0, 1] to values in its `space`.

    Args:
        model: to check, in training mode.
        space: what it must declare.
        load: reads what `save_pretrained` wrote.
    """
    assert model.space is space
    side = cast(int, model.multiple)
    generator = torch.Generator().manual_seed(0)
    for rows, columns in ((3, 4), (5, 2)):
        image = torch.rand(2, 3, rows * side, columns * side, generator=generator)
        values = model(image)
        assert values.shape == (2, rows * side, columns * side)
        assert values.isfinite().all()
        alone = torch.cat([model(one[None]) for one in image])
        torch.testing.assert_close(values, alone, rtol=1e-4, atol=1e-5)
        _check_parameters(model, values)
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(Path(folder))  # type: ignore[operator] - part of the contract
        again = load(Path(folder)).train(model.training)
    assert again.space is space
    assert torch.equal(again(image), values)


def _check_parameters(model: nn.Module, values: Tensor) -> None:
    """Each trainable parameter is in one group and has a finite gradient; the others have none."""
    groups = model.parameter_groups().values()  # type: ignore[operator] - part of the contract
    grouped = [parameter for group in groups for parameter in group]
    trainable = {parameter for parameter in model.parameters() if parameter.requires_grad}
    assert len(grouped) == len(trainable)
    assert set(grouped) == trainable
    model.zero_grad()
    values.square().mean().backward()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, f"{name} has no gradient"
            assert parameter.grad.isfinite().all(), f"{name} has a gradient that is not finite"
        else:
            assert parameter.grad is None, f"{name} is frozen but has a gradient"
