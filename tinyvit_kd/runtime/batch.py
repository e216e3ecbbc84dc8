"""What a loader hands to a training step."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch


class SparseTargets(NamedTuple):
    """Teacher probabilities of one batch, as the store keeps them."""

    indices: torch.Tensor  # int64 [B, K], ascending classes
    probs: torch.Tensor  # float32 [B, K]
    residual: torch.Tensor  # float32 [B], mass outside the K classes


class Batch(NamedTuple):
    """One rank's share of one optimiser step."""

    views: torch.Tensor  # uint8 [B, 3, S, S], not normalised
    weights: torch.Tensor  # float32 [B], 0 for holes
    labels: torch.Tensor  # int64 [B], -1 where there is none
    targets: SparseTargets | None  # stage two
    checked: int = 0  # views whose digest was compared with the stored one

    def to(self, device: torch.device) -> Batch:
        """The batch on ``device``; copies from pinned memory do not block."""
        views, weights, labels = (
            tensor.to(device, non_blocking=True) for tensor in (self.views, self.weights, self.labels)
        )
        targets = None
        if self.targets is not None:
            targets = SparseTargets(*(tensor.to(device, non_blocking=True) for tensor in self.targets))
        return Batch(views, weights, labels, targets, self.checked)

    def chunks(self, count: int) -> Iterator[Batch]:
        """Split into ``count`` equal parts, for gradient accumulation; ``count`` divides B."""
        size = len(self.weights) // count
        for start in range(0, size * count, size):
            part = slice(start, start + size)
            targets = None if self.targets is None else SparseTargets(*(t[part] for t in self.targets))
            yield Batch(self.views[part], self.weights[part], self.labels[part], targets)
