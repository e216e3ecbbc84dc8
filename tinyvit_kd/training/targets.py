"""What one or several teachers said, as one distribution."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from tinyvit_kd.training.batch import SparseTargets


@dataclass(frozen=True)
class Targets:
    """A sparse distribution a sample; as ``soft_loss`` takes it.

    Attributes:
        indices: int64 [B, K].
        probs: float32 [B, K].
        residual: float32 [B], mass of the classes that are not stored, spread evenly.
        distinct: bool [B, K], False where a class stands a second time, with probability 0; None: all True.
    """

    indices: torch.Tensor
    probs: torch.Tensor
    residual: torch.Tensor
    distinct: torch.Tensor | None = None

    @property
    def top1(self) -> torch.Tensor:
        """The most probable class: int64 [B]."""
        return self.indices.gather(1, self.probs.argmax(dim=1, keepdim=True)).squeeze(1)


@dataclass(frozen=True)
class Teachers:
    """The teachers whose records stand side by side in a batch.

    Attributes:
        topks: K of each.
        weights: of each; only their ratios matter.
    """

    topks: Sequence[int] = ()
    weights: Sequence[float] = ()

    @property
    def shares(self) -> list[float]:
        """The weights, as parts of one."""
        return [weight / sum(self.weights) for weight in self.weights]

    def mean(self, stored: SparseTargets, classes: int) -> Targets:
        """The weighted mean of the recovered distributions: of all classes, without building [B, C].

        A class that only some teachers stored has the others' share of one class that they did not store. Of a
        single teacher the records themselves.
        """
        if len(self.topks) <= 1:
            return Targets(*stored)
        each = torch.split(stored.probs, list(self.topks), dim=1), stored.residual.unbind(1)
        tails, above = [], []  # what a class has from one teacher if it is not stored, and beyond that if it is
        for topk, share, probs, residual in zip(self.topks, self.shares, *each, strict=True):
            tails.append(share * residual.clamp(min=0) / max(classes - topk, 1) * (topk < classes))
            above.append(share * probs - tails[-1].unsqueeze(1))
        indices, order = stored.indices.sort(dim=1, stable=True)
        probs, distinct = _joined(indices, torch.cat(above, dim=1).gather(1, order), len(self.topks))
        tail = torch.stack(tails).sum(dim=0)
        probs = torch.where(distinct, (probs + tail.unsqueeze(1)).clamp(min=0), 0)
        return Targets(indices, probs, tail * (classes - distinct.sum(dim=1)), distinct)


def _joined(indices: torch.Tensor, values: torch.Tensor, most: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Sums over equal neighbours of ascending ``indices`` [B, K], ``most`` at a time, where each first one stands."""
    sums, distinct = values.clone(), torch.ones_like(indices, dtype=torch.bool)
    distinct[:, 1:] = indices[:, 1:] != indices[:, :-1]
    for step in range(1, most):
        sums[:, :-step] += values[:, step:] * (indices[:, step:] == indices[:, :-step])
    return sums, distinct
