"""Several teachers make one target: the weighted mean of their recovered distributions."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.loss import SoftTargetCrossEntropy

from tests.training.test_loss import recover, stored
from tinyvit_kd.training.batch import SparseTargets
from tinyvit_kd.training.loss import soft_loss
from tinyvit_kd.training.targets import Targets, Teachers


def dense(targets: Targets, classes: int) -> torch.Tensor:
    """A sparse distribution as [B, C]."""
    distinct = torch.ones_like(targets.probs, dtype=torch.bool) if targets.distinct is None else targets.distinct
    missing = classes - distinct.sum(dim=1, keepdim=True)
    tail = targets.residual.unsqueeze(1) / missing.clamp(min=1)
    rows = tail.repeat(1, classes).double()
    for row, (indices, probs, first) in enumerate(zip(targets.indices, targets.probs, distinct, strict=True)):
        rows[row, indices[first]] = probs[first].double()
    return rows


def side_by_side(classes: int, topks: list[int], seed: int) -> tuple[SparseTargets, list[torch.Tensor]]:
    """The records of several teachers for three samples, and each teacher's recovered distribution [3, C]."""
    parts = [stored(3, classes, topk, seed + number)[1:] for number, topk in enumerate(topks)]
    indices, probs, residual = zip(*parts, strict=True)
    joined = SparseTargets(torch.cat(indices, dim=1), torch.cat(probs, dim=1), torch.stack(residual, dim=1))
    return joined, [recover(indices, probs, classes) for indices, probs, _ in parts]


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_the_mean_equals_that_of_the_dense_distributions(data: st.DataObject) -> None:
    classes, count = data.draw(st.integers(2, 30)), data.draw(st.integers(2, 4))
    topks = [data.draw(st.integers(1, classes)) for _ in range(count)]
    weights = [data.draw(st.floats(0.1, 5)) for _ in range(count)]
    temperature = data.draw(st.sampled_from([1.0, 1.0, 3.0]))
    targets, each = side_by_side(classes, topks, data.draw(st.integers(0, 1 << 32)))
    mean = torch.einsum("t,tbc->bc", torch.tensor(weights).double() / sum(weights), torch.stack(each))
    found = Teachers(topks, weights).mean(targets, classes)
    torch.testing.assert_close(dense(found, classes), mean, rtol=1e-4, atol=1e-6)
    assert torch.equal(found.top1, found.indices.gather(1, found.probs.argmax(1, keepdim=True))[:, 0])
    torch.testing.assert_close(mean.gather(1, found.top1[:, None])[:, 0], mean.max(dim=1).values, rtol=1e-5, atol=0)

    logits = torch.randn(3, classes)
    loss = soft_loss(
        logits, found.indices, found.probs, found.residual, torch.ones(3), temperature, distinct=found.distinct
    )
    softened = (mean.log() / temperature).softmax(dim=1)
    expected = SoftTargetCrossEntropy()(logits.double() / temperature, softened) * temperature**2
    torch.testing.assert_close(loss.double(), expected, rtol=1e-4, atol=1e-5)


def test_the_mean_may_have_a_best_class_that_neither_teacher_has() -> None:
    indices = torch.tensor([[0, 1, 1, 2]])
    probs = torch.tensor([[0.5, 0.4, 0.4, 0.6]])
    targets = SparseTargets(indices, probs, torch.tensor([[0.1, 0.0]]))
    assert Teachers([2, 2], [1, 1]).mean(targets, 5).top1.tolist() == [1]
    assert Teachers([2, 2], [1, 9]).mean(targets, 5).top1.tolist() == [2]


def test_records_of_a_single_teacher_are_not_changed() -> None:
    targets, _ = side_by_side(9, [3, 2], 0)
    single = SparseTargets(targets.indices[:, :3], targets.probs[:, :3], targets.residual[:, 0])
    found = Teachers([3], [7.0]).mean(single, 9)
    assert found.indices is single.indices
    assert found.probs is single.probs
    assert found.distinct is None


@pytest.mark.parametrize("weight", [0.25, 4.0])
def test_only_the_ratios_of_weights_matter(weight: float) -> None:
    targets, _ = side_by_side(12, [4, 5], 3)
    one = Teachers([4, 5], [1, 2]).mean(targets, 12)
    other = Teachers([4, 5], [weight, 2 * weight]).mean(targets, 12)
    torch.testing.assert_close(one.probs, other.probs)
