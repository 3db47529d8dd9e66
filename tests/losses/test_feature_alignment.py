import math

import pytest
import torch

from distill.losses.feature_alignment import feature_alignment


def tokens(*cosines):
    """Unit tokens at these cosines to the first axis, and the first axis."""
    student = torch.tensor([[[c, math.sqrt(1 - c * c)] for c in cosines]])
    return student, torch.tensor([[[1.0, 0.0]]]).expand_as(student).clone()


def test_vector():
    # test vector T5
    student, frozen = tokens(0.9, 0.8, 0.5, 0.86)
    assert feature_alignment(student, frozen).item() == pytest.approx(0.35)
    assert feature_alignment(student, frozen, tolerance=0.0).item() == pytest.approx(0.235)
    assert feature_alignment(student, frozen, divide_by="all").item() == pytest.approx(0.175)


def test_all_near_is_0_with_a_gradient_of_0():
    student, frozen = tokens(0.9, 0.95)
    student.requires_grad_()
    value = feature_alignment(student, frozen)
    (gradient,) = torch.autograd.grad(value.sum(), student)
    assert value.item() == 0
    assert (gradient == 0).all()


def test_length_of_tokens_does_not_matter_and_samples_do_not_mix():
    generator = torch.Generator().manual_seed(0)
    student, frozen = torch.randn(2, 2, 5, 8, generator=generator)
    both = feature_alignment(student, frozen)
    torch.testing.assert_close(feature_alignment(3 * student, 0.1 * frozen), both)
    alone = [feature_alignment(student[i : i + 1], frozen[i : i + 1]) for i in range(2)]
    torch.testing.assert_close(both, torch.cat(alone))


def test_gradient_reaches_the_student_only():
    generator = torch.Generator().manual_seed(0)
    student, frozen = torch.randn(2, 2, 5, 8, generator=generator, dtype=torch.float64)
    student.requires_grad_()
    frozen.requires_grad_()
    feature_alignment(student, frozen).sum().backward()
    assert student.grad is not None
    assert frozen.grad is None
    assert torch.autograd.gradcheck(lambda x: feature_alignment(x, frozen.detach()), student)


def test_a_token_of_zeros_is_far_and_finite():
    student, frozen = tokens(0.5, 0.5)
    student[0, 0] = 0
    student.requires_grad_()
    value = feature_alignment(student, frozen)
    (gradient,) = torch.autograd.grad(value.sum(), student)
    assert value.item() == pytest.approx(0.75)
    assert gradient.isfinite().all()


def test_nan_is_not_skipped():
    student, frozen = tokens(0.9, 0.9)
    student[0, 0] = torch.nan
    assert feature_alignment(student, frozen).isnan().all()


def test_half_precision_is_computed_in_float32():
    generator = torch.Generator().manual_seed(0)
    student, frozen = torch.randn(2, 2, 5, 64, generator=generator)
    with torch.autocast("cpu", torch.bfloat16):
        value = feature_alignment(student.bfloat16(), frozen.bfloat16())
    assert value.dtype == torch.float32
    reference = feature_alignment(student.bfloat16().float(), frozen.bfloat16().float())
    torch.testing.assert_close(value, reference, rtol=1e-3, atol=0)


def test_no_wait_for_the_device():
    assert feature_alignment(*torch.empty(2, 2, 5, 8, device="meta")).shape == (2,)


def test_tokens_of_another_size_are_refused():
    with pytest.raises(ValueError, match="8 channels, frozen ones 4; take the frozen encoder"):
        feature_alignment(torch.ones(1, 5, 8), torch.ones(1, 5, 4))


def test_a_negative_tolerance_is_refused():
    with pytest.raises(ValueError, match=r"tolerance is -0\.1"):
        feature_alignment(torch.ones(1, 5, 8), torch.ones(1, 5, 8), tolerance=-0.1)
