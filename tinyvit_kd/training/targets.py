"""The probabilities of one or several teachers as one target distribution."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from tinyvit_kd.training.batch import SparseTargets


@dataclass(frozen=True)
class Targets:
    """A sparse distribution for each sample, as ``soft_loss`` takes it.

    Attributes:
        indices: int64 [B, K].
        probs: float32 [B, K].
        residual: float32 [B], mass of the classes that are not stored, spread evenly.
        distinct: bool [B, K], False where a class is repeated, with probability 0; None: all True.
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
        """The weights, scaled to sum to one."""
        return [weight / sum(self.weights) for weight in self.weights]

    def mean(self, stored: SparseTargets, classes: int) -> Targets:
        """The weighted mean of the recovered distributions, over all classes but without building [B, C].

        A class that only some teachers stored gets, from each of the others, the probability that this teacher gives
        to a class it did not store. With a single teacher the records are returned as they are.
        """
        if len(self.topks) <= 1:
            return Targets(*stored)
        by_teacher = torch.split(stored.probs, list(self.topks), dim=1)
        tails: list[torch.Tensor] = []  # by teacher, [B]: what it gives to a class that it did not store
        excess: list[torch.Tensor] = []  # by teacher, [B, K]: what its stored classes have beyond that
        for topk, share, probs, residual in zip(
            self.topks, self.shares, by_teacher, stored.residual.unbind(1), strict=True
        ):
            tails.append(share * residual.clamp(min=0) / max(classes - topk, 1) * (topk < classes))
            excess.append(share * probs - tails[-1].unsqueeze(1))
        indices, order = stored.indices.sort(dim=1, stable=True)
        probs, distinct = _sum_repeated(indices, torch.cat(excess, dim=1).gather(1, order), len(self.topks))
        tail = torch.stack(tails).sum(dim=0)
        probs = torch.where(distinct, (probs + tail.unsqueeze(1)).clamp(min=0), 0)
        return Targets(indices, probs, tail * (classes - distinct.sum(dim=1)), distinct)


def _sum_repeated(indices: torch.Tensor, values: torch.Tensor, most: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Sum the values of repeated classes at the first occurrence of each.

    Args:
        indices: int64 [B, K], ascending; a class occurs ``most`` times at most.
        values: [B, K].

    Returns:
        sums [B, K], and bool [B, K], True at the first occurrence of a class.
    """
    sums = values.clone()
    distinct = torch.ones_like(indices, dtype=torch.bool)
    distinct[:, 1:] = indices[:, 1:] != indices[:, :-1]
    for step in range(1, most):
        sums[:, :-step] += values[:, step:] * (indices[:, step:] == indices[:, :-step])
    return sums, distinct
