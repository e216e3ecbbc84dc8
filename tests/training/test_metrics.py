"""Accuracy is counted once a sample, holes left out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from timm.utils import accuracy

from tinyvit_kd.training.metrics import class_counts, mean_per_class, topk_right


def test_the_counts_are_timms_percentages() -> None:
    logits, labels = torch.randn(200, 10), torch.randint(0, 10, (200,))
    right = topk_right(logits, labels, torch.ones(200), (1, 3, 5))
    expected = accuracy(logits, labels, topk=(1, 3, 5))
    assert [each.sum().item() / 2 for each in right] == pytest.approx([share.item() for share in expected])


def test_holes_count_for_nothing() -> None:
    logits, labels = torch.eye(4), torch.tensor([0, 1, 2, -1])
    top1, top2 = topk_right(logits, labels, torch.tensor([1.0, 0.0, 1.0, 0.0]), (1, 2))
    assert (top1.tolist(), top2.tolist()) == ([1, 0, 1, 0], [1, 0, 1, 0])


def test_more_places_than_classes_count_as_all_classes() -> None:
    top1, top5 = topk_right(torch.tensor([[0.1, 0.9], [0.2, 0.8]]), torch.tensor([0, 1]), torch.ones(2), (1, 5))
    assert (top1.sum().item(), top5.sum().item()) == (1, 2)


def numpy_mean_per_class(best: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> float:
    """Class by class, in plain terms."""
    rows = [np.flatnonzero((labels == each) & (weights > 0)) for each in range(labels.max() + 1)]
    return float(np.mean([(best[row] == labels[row]).mean() for row in rows if len(row)]))


def test_the_mean_over_classes_is_numpys_and_the_same_however_samples_are_split() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(300, 9, generator=generator)
    labels = torch.randint(0, 8, (300,), generator=generator) ** 2 // 7  # uneven; no sample has the classes 4, 6 and 8
    weights = (torch.rand(300, generator=generator) > 0.2).float()
    labels[weights == 0] = torch.where(torch.rand(int((weights == 0).sum()), generator=generator) > 0.5, -1, 3)
    counts = class_counts(topk_right(logits, labels, weights, (1,))[0], labels, weights, 9)
    expected = numpy_mean_per_class(logits.argmax(dim=1).numpy(), labels.numpy(), weights.numpy())
    assert mean_per_class(counts) == pytest.approx(expected, rel=1e-12)
    assert counts[1].sum() == weights.sum()
    parts = zip(*(torch.split(each, 7) for each in (logits, labels, weights)), strict=True)
    in_parts = sum(class_counts(topk_right(z, y, w, (1,))[0], y, w, 9) for z, y, w in parts)
    assert isinstance(in_parts, torch.Tensor)
    assert torch.equal(in_parts, counts)


def test_the_mean_over_no_classes_is_zero() -> None:
    assert mean_per_class(torch.zeros(2, 3)) == 0
