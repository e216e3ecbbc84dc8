"""What a loader hands to a training step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import torch


class SparseTargets(NamedTuple):
    """Teacher probabilities of one batch as the store keeps them; records of several teachers stand side by side."""

    indices: torch.Tensor  # int64 [B, K], ascending classes; [B, ΣK] for several teachers
    probs: torch.Tensor  # float32 [B, K]; [B, ΣK] for several teachers
    residual: torch.Tensor  # float32 [B], mass outside the K classes; [B, T] for several teachers


class MixedLabels(NamedTuple):
    """The second label of each mixed view."""

    labels: torch.Tensor  # int64 [B], labels of the samples that were mixed in
    lam: torch.Tensor  # float32 [B], λ: weight of the view's own label; 1 where the view is not mixed


class Batch(NamedTuple):
    """One rank's part of the batch of one optimiser step."""

    views: torch.Tensor  # uint8 [B, 3, S, S], not normalised
    weights: torch.Tensor  # float32 [B], 0 for holes
    labels: torch.Tensor | None  # int64 [B], -1 where unknown; in stage three, and in two if its loss uses labels
    targets: SparseTargets | None  # in stage two
    mixed: MixedLabels | None = None  # where there are labels and views are mixed
    checked: int = 0  # views whose digest was compared with the stored one

    @classmethod
    def of(cls, tensors: Mapping[str, torch.Tensor], checked: int = 0) -> Batch:
        """A batch from tensors by name: views, weights, labels, and the fields of targets and mixed labels."""
        targets = SparseTargets(*map(tensors.__getitem__, SparseTargets._fields)) if "probs" in tensors else None
        mixed = MixedLabels(tensors["mixed_labels"], tensors["lam"]) if "lam" in tensors else None
        return cls(tensors["views"], tensors["weights"], tensors.get("labels"), targets, mixed, checked)

    def chunks(self, count: int) -> Iterator[Batch]:
        """Split into ``count`` equal micro-batches, for gradient accumulation; ``count`` divides B."""
        size = len(self.weights) // count
        for start in range(0, size * count, size):
            yield self._map(lambda tensor, first=start: tensor[first : first + size])  # type: ignore[misc]

    def clone(self) -> Batch:
        """A copy in its own memory; a loader reuses the memory of the batches that it hands out."""
        return self._map(torch.clone)

    def to(self, device: torch.device, *, copy: bool = False) -> Batch:
        """This batch on a device: itself if it is there already, unless a copy is asked for."""
        return self._map(lambda tensor: tensor.to(device, copy=copy))

    def _map(self, change: Callable[[torch.Tensor], torch.Tensor]) -> Batch:
        return Batch(
            views=change(self.views),
            weights=change(self.weights),
            labels=None if self.labels is None else change(self.labels),
            targets=None if self.targets is None else SparseTargets(*map(change, self.targets)),
            mixed=None if self.mixed is None else MixedLabels(*map(change, self.mixed)),
            checked=self.checked,
        )
