"""The mean loss of micro-batches, and so the mean gradient, is that of the whole batch."""

from __future__ import annotations

import pytest
import torch

from tinyvit_kd.training.batch import Batch, MixedLabels, SparseTargets
from tinyvit_kd.training.loss import plain_loss, soft_loss


def batch() -> Batch:
    """Twelve samples of seven classes, two of them holes, both of which fall into the first third."""
    generator = torch.Generator().manual_seed(0)
    probs, indices = torch.randn(12, 7, generator=generator).softmax(dim=1).topk(3, dim=1)
    weights = torch.ones(12)
    weights[[1, 2]] = 0
    labels = torch.randint(7, (12,), generator=generator)
    return Batch(
        views=torch.randint(0, 256, (12, 3, 4, 4), dtype=torch.uint8, generator=generator),
        weights=weights,
        labels=labels,
        targets=SparseTargets(indices, probs, 1 - probs.sum(dim=1)),
        mixed=MixedLabels(labels.flip(0), torch.rand(12, generator=generator)),
    )


def logits_of(part: Batch) -> torch.Tensor:
    return part.views.flatten(1)[:, :7].float() / 100


@pytest.mark.parametrize("count", [1, 2, 3, 12])
def test_the_mean_over_micro_batches_is_the_loss_of_the_batch(count: int) -> None:
    def losses(part: Batch) -> torch.Tensor:
        assert part.targets is not None
        assert part.mixed is not None
        assert part.labels is not None
        plain = plain_loss(logits_of(part), part.labels, part.weights, 0.1, *part.mixed)
        return torch.stack([soft_loss(logits_of(part), *part.targets, part.weights), plain])

    whole = batch()
    parts = list(whole.chunks(count))
    assert len(parts) == count
    torch.testing.assert_close(sum(losses(part) for part in parts) / count, losses(whole))


def test_micro_batches_are_the_batch_in_order() -> None:
    whole = batch()
    parts = list(whole.chunks(3))
    assert torch.equal(torch.cat([part.views for part in parts]), whole.views)
    assert whole.labels is not None
    assert torch.equal(torch.cat([part.labels for part in parts if part.labels is not None]), whole.labels)
    joined = torch.cat([part.targets.indices for part in parts if part.targets is not None])
    assert whole.targets is not None
    assert torch.equal(joined, whole.targets.indices)
