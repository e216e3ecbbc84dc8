"""Accuracy is counted once a sample, holes left out."""

from __future__ import annotations

import pytest
import torch
from timm.utils import accuracy

from tinyvit_kd.training.metrics import topk_correct


def test_the_counts_are_timms_percentages() -> None:
    logits, labels = torch.randn(200, 10), torch.randint(0, 10, (200,))
    counts = topk_correct(logits, labels, torch.ones(200), (1, 3, 5))
    expected = accuracy(logits, labels, topk=(1, 3, 5))
    assert [count.item() / 2 for count in counts] == pytest.approx([share.item() for share in expected])


def test_holes_count_for_nothing() -> None:
    logits, labels = torch.eye(4), torch.tensor([0, 1, 2, -1])
    top1, top2 = topk_correct(logits, labels, torch.tensor([1.0, 0.0, 1.0, 0.0]), (1, 2))
    assert (top1.item(), top2.item()) == (2, 2)


def test_more_places_than_classes_count_as_all_classes() -> None:
    top1, top5 = topk_correct(torch.tensor([[0.1, 0.9], [0.2, 0.8]]), torch.tensor([0, 1]), torch.ones(2), (1, 5))
    assert (top1.item(), top5.item()) == (1, 2)
