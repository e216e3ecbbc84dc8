"""Accuracy, counted on the device."""

from __future__ import annotations

import torch


def topk_right(
    logits: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor, topk: tuple[int, ...] = (1, 5)
) -> list[torch.Tensor]:
    """Which samples have their label among the k best classes, for each k.

    Args:
        logits: [B, C], or anything that is higher for a better class.
        labels: int64 [B].
        weights: [B]; zero leaves a sample out.
        topk: each k; larger than C counts as C.

    Returns:
        [B] a k, on the device: the weight of a sample that is right, else zero.
    """
    best = logits.topk(min(max(topk), logits.shape[1]), dim=1).indices
    hits = (best == labels.unsqueeze(1)) * weights.unsqueeze(1)
    return [hits[:, :k].sum(dim=1) for k in topk]


def class_counts(right: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor, num_classes: int) -> torch.Tensor:
    """How many samples of each class were right, and how many were scored.

    Args:
        right: [B], 1 where the best class is the label, as ``topk_right`` says.
        labels: int64 [B]; any value where the weight is zero.
        weights: [B], 1 or 0; zero leaves a sample out.
        num_classes: C.

    Returns:
        float64 [2, C] on the device. Whole numbers, so that sums are the same in any order.
    """
    counts = torch.zeros(2, num_classes, dtype=torch.float64, device=right.device)
    return counts.index_add_(1, labels.clamp(min=0), torch.stack([right, weights]).double())


def mean_per_class(counts: torch.Tensor) -> float:
    """Mean over the classes that occur of the share of their samples that are right, from ``class_counts`` [2, C]."""
    right, scored = counts
    occurs = scored > 0
    return (right[occurs] / scored[occurs]).mean().item() if occurs.any() else 0.0
