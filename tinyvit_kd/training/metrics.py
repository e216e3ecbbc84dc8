"""Accuracy, counted on the device."""

from __future__ import annotations

import torch


def topk_correct(
    logits: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor, topk: tuple[int, ...] = (1, 5)
) -> list[torch.Tensor]:
    """How many samples have their label among the k best classes, for each k.

    Args:
        logits: [B, C].
        labels: int64 [B].
        weights: [B]; zero leaves a sample out.
        topk: each k; larger than C counts as C.

    Returns:
        one scalar a k, on the device.
    """
    best = logits.topk(min(max(topk), logits.shape[1]), dim=1).indices
    hits = (best == labels.unsqueeze(1)) * weights.unsqueeze(1)
    return [hits[:, :k].sum() for k in topk]
