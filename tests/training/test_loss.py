"""Losses equal their dense definitions, in value and gradient."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.data.mixup import mixup_target
from timm.loss import LabelSmoothingCrossEntropy, SoftTargetCrossEntropy

from tinyvit_kd.training.loss import plain_loss, soft_loss


def stored(batch: int, classes: int, k: int, seed: int) -> tuple[torch.Tensor, ...]:
    """Student logits [B, C], and the indices, probs and residual of a random teacher's top k."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(batch, classes, generator=generator) * 3
    teacher = (torch.randn(batch, classes, generator=generator) * 3).softmax(dim=1)
    probs, indices = teacher.topk(k, dim=1)
    indices, order = indices.sort(dim=1)
    probs = probs.gather(1, order)
    return logits, indices, probs, (1 - probs.double().sum(dim=1)).clamp(min=0).float()


def recover(indices: torch.Tensor, probs: torch.Tensor, classes: int) -> torch.Tensor:
    """The official recovery: [B, C] of the minor value, with the stored values scattered over it; in float64."""
    probs = probs.double()
    missing = classes - probs.shape[1]
    minor = (1 - probs.sum(dim=1, keepdim=True)).clamp(min=0) / max(missing, 1)
    return minor.repeat(1, classes).scatter_(1, indices, probs)


def gradient(loss: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
    return torch.autograd.grad(loss, logits)[0]


def require_same(loss: torch.Tensor, logits: torch.Tensor, dense: torch.Tensor, reference: torch.Tensor) -> None:
    """Compare a loss and its gradient with a dense reference in float64."""
    torch.testing.assert_close(loss.double(), dense, rtol=2e-5, atol=1e-6)
    torch.testing.assert_close(gradient(loss, logits).double(), gradient(dense, reference), rtol=1e-4, atol=1e-6)


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_the_soft_loss_is_that_of_the_recovered_distribution(data: st.DataObject) -> None:
    batch, classes = data.draw(st.integers(1, 5)), data.draw(st.integers(2, 40))
    k, seed = data.draw(st.integers(1, classes)), data.draw(st.integers(0, 1 << 32))
    logits, indices, probs, residual = stored(batch, classes, k, seed)
    logits, reference = logits.requires_grad_(), logits.double().detach().requires_grad_()
    loss = soft_loss(logits, indices, probs, residual, torch.ones(batch))
    dense = SoftTargetCrossEntropy()(reference, recover(indices, probs, classes))
    require_same(loss, logits, dense, reference)


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_a_temperature_softens_both_distributions(data: st.DataObject) -> None:
    classes = data.draw(st.integers(2, 30))
    temperature = data.draw(st.floats(0.5, 8))
    k, seed = data.draw(st.integers(1, classes)), data.draw(st.integers(0, 1 << 32))
    logits, indices, probs, residual = stored(4, classes, k, seed)
    logits, reference = logits.requires_grad_(), logits.double().detach().requires_grad_()
    loss = soft_loss(logits, indices, probs, residual, torch.ones(4), temperature)
    softened = (recover(indices, probs, classes).log() / temperature).softmax(dim=1)
    dense = SoftTargetCrossEntropy()(reference / temperature, softened) * temperature**2
    torch.testing.assert_close(loss.double(), dense, rtol=2e-5, atol=1e-5)
    torch.testing.assert_close(gradient(loss, logits).double(), gradient(dense, reference), rtol=1e-3, atol=2e-5)


@pytest.mark.parametrize("k", [1, 3, 8])
def test_rounded_probabilities_that_sum_to_more_than_one_leave_no_negative_tail(k: int) -> None:
    logits = torch.randn(2, 8, generator=torch.Generator().manual_seed(0)).requires_grad_()
    indices = torch.arange(k).expand(2, k)
    probs = torch.full((2, k), 1 / k).half().float() + 2**-10
    reference = logits.double().detach().requires_grad_()
    loss = soft_loss(logits, indices, probs, 1 - probs.sum(dim=1), torch.ones(2))
    dense = SoftTargetCrossEntropy()(reference, recover(indices, probs, 8))
    assert (recover(indices, probs, 8) >= 0).all()
    require_same(loss, logits, dense, reference)


@given(st.integers(0, 1 << 32), st.integers(1, 20))
@settings(deadline=None, max_examples=30)
def test_float16_probabilities_give_the_loss_of_the_official_recovery(seed: int, k: int) -> None:
    logits, indices, probs, _ = stored(3, 20, k, seed)
    probs = probs.half().float()
    logits, reference = logits.requires_grad_(), logits.double().detach().requires_grad_()
    loss = soft_loss(logits, indices, probs, 1 - probs.sum(dim=1), torch.ones(3))
    require_same(loss, logits, SoftTargetCrossEntropy()(reference, recover(indices, probs, 20)), reference)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_a_hole_counts_in_the_batch_and_has_no_gradient(temperature: float) -> None:
    logits, indices, probs, residual = stored(4, 12, 3, 0)
    logits.requires_grad_()
    alone = soft_loss(logits[:3], indices[:3], probs[:3], residual[:3], torch.ones(3), temperature)
    indices[3], probs[3], residual[3] = 0, 0, 0  # as the store returns a hole
    loss = soft_loss(logits, indices, probs, residual, torch.tensor([1.0, 1, 1, 0]), temperature)
    torch.testing.assert_close(loss, alone * 3 / 4)
    slope = gradient(loss, logits)
    assert torch.count_nonzero(slope[3]) == 0
    assert torch.isfinite(slope).all()


def test_22k_classes_do_not_cost_precision() -> None:
    logits, indices, probs, residual = stored(4, 21841, 100, 0)
    logits, reference = logits.requires_grad_(), logits.double().detach().requires_grad_()
    loss = soft_loss(logits, indices, probs, residual, torch.ones(4))
    dense = SoftTargetCrossEntropy()(reference, recover(indices, probs, 21841))
    torch.testing.assert_close(loss.double(), dense, rtol=1e-6, atol=0)


def test_half_precision_logits_are_summed_in_float32() -> None:
    logits, indices, probs, residual = stored(4, 2000, 10, 0)
    rounded = logits.bfloat16()
    labels = torch.arange(4)
    ones = torch.ones(4)
    for low, full in (
        (
            soft_loss(rounded, indices, probs, residual, ones),
            soft_loss(rounded.float(), indices, probs, residual, ones),
        ),
        (plain_loss(rounded, labels, ones, 0.1), plain_loss(rounded.float(), labels, ones, 0.1)),
    ):
        assert low.dtype == torch.float32
        assert torch.equal(low, full)


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 6), st.integers(2, 30), st.floats(0, 0.9), st.integers(0, 1 << 32))
def test_the_plain_loss_is_timms_label_smoothing(batch: int, classes: int, smoothing: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = (torch.randn(batch, classes, generator=generator) * 3).requires_grad_()
    labels = torch.randint(classes, (batch,), generator=generator)
    reference = logits.double().detach().requires_grad_()
    loss = plain_loss(logits, labels, torch.ones(batch), smoothing)
    require_same(loss, logits, LabelSmoothingCrossEntropy(smoothing)(reference, labels), reference)


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 6), st.integers(2, 30), st.floats(0, 0.9), st.integers(0, 1 << 32))
def test_mixed_labels_give_the_loss_of_timms_mixed_targets(
    batch: int, classes: int, smoothing: float, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = (torch.randn(batch, classes, generator=generator) * 3).requires_grad_()
    labels = torch.randint(classes, (batch,), generator=generator)
    lam = torch.rand(batch, generator=generator)
    reference = logits.double().detach().requires_grad_()
    targets = mixup_target(labels, classes, lam.double().unsqueeze(1), smoothing)  # mixes with the flipped batch
    loss = plain_loss(logits, labels, torch.ones(batch), smoothing, labels.flip(0), lam)
    require_same(loss, logits, SoftTargetCrossEntropy()(reference, targets.double()), reference)


def test_a_sample_that_is_not_mixed_keeps_its_own_label() -> None:
    logits = torch.randn(3, 5)
    labels = torch.tensor([1, 2, 4])
    mixed = plain_loss(logits, labels, torch.ones(3), 0.1, torch.tensor([-1, 0, 3]), torch.ones(3))
    torch.testing.assert_close(mixed, plain_loss(logits, labels, torch.ones(3), 0.1))


def test_a_hole_may_have_any_negative_label() -> None:
    logits = torch.randn(3, 5, requires_grad=True)
    labels = torch.tensor([1, 4, -1])
    loss = plain_loss(logits, labels, torch.tensor([1.0, 1, 0]), 0.1)
    torch.testing.assert_close(loss, plain_loss(logits[:2], labels[:2], torch.ones(2), 0.1) * 2 / 3)
    assert torch.count_nonzero(gradient(loss, logits)[2]) == 0
