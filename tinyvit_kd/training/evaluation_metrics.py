"""Evaluation metrics: counted batch by batch on the device, summed over all ranks, then read.

To add one, write a ``Metric`` and list it in ``METRICS``; ``runs.scoring`` walks through that table.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch


@dataclass(frozen=True)
class ScoredBatch:
    """A network's scores of one batch, as metrics see them.

    Attributes:
        scores: [B, C], higher for a better class.
        by_head: each head's own logits [B, C] by short name, for networks with a distillation head; else empty.
        labels: int64 [B], -1 where there is none.
        weights: float32 [B], 1 or 0; zero leaves a sample out, as it does where there is no label.
    """

    scores: torch.Tensor
    by_head: Mapping[str, torch.Tensor]
    labels: torch.Tensor
    weights: torch.Tensor

    @cached_property
    def correct(self) -> list[torch.Tensor]:
        """``topk_correct`` for k = 1 and 5, which several metrics need."""
        return topk_correct(self.scores, self.labels, self.weights, (1, 5))


class Metric(ABC):
    """Counts over scored samples, and the results that follow from them.

    Args:
        num_classes: C.
        heads: short names of a distilled network's two heads; else empty.
        device: where the counts are kept.

    Attributes:
        sums: float64, on the device. Counts are whole numbers, so their sums are the same in any order and for any
            number of ranks.
    """

    def __init__(self, num_classes: int, heads: Sequence[str], device: torch.device) -> None:
        self.num_classes = num_classes
        self.heads = heads
        self.sums = torch.zeros(self.shape, dtype=torch.float64, device=device)

    def update(self, batch: ScoredBatch) -> None:
        """Add a batch, without waiting for the device."""
        self.sums += self.count(batch)

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Shape of the counts."""

    @abstractmethod
    def count(self, batch: ScoredBatch) -> torch.Tensor:
        """Counts of one batch, of the metric's shape, on the device."""

    @abstractmethod
    def results(self, total: torch.Tensor) -> dict[str, float]:
        """Named results; ``total`` is the sum of all ranks' ``sums``, on the CPU."""


class TopK(Metric):
    """``top1`` and ``top5``, in percent of the scored samples."""

    shape = (3,)

    def count(self, batch: ScoredBatch) -> torch.Tensor:
        """Samples whose label is among the best 1 and the best 5 classes, and scored ones."""
        top1, top5 = batch.correct
        return torch.stack([top1.sum(), top5.sum(), batch.weights.sum()])

    def results(self, total: torch.Tensor) -> dict[str, float]:
        """Percentages."""
        top1, top5, scored = total.tolist()
        return {"top1": _percent(top1, scored), "top5": _percent(top5, scored)}


class MeanPerClass(Metric):
    """``mean_per_class``, in percent: top-1 within each class, averaged over the classes that occur."""

    @property
    def shape(self) -> tuple[int, ...]:
        """[2, C]."""
        return 2, self.num_classes

    def count(self, batch: ScoredBatch) -> torch.Tensor:
        """Correct and scored samples of each class."""
        return class_counts(batch.correct[0], batch.labels, batch.weights, self.num_classes)

    def results(self, total: torch.Tensor) -> dict[str, float]:
        """A percentage."""
        return {"mean_per_class": 100 * mean_per_class(total)}


class TopOneByHead(Metric):
    """``top1_head`` and ``top1_head_dist``: each head's own top-1, in percent. Networks with one head have neither."""

    @property
    def shape(self) -> tuple[int, ...]:
        """[heads + 1]."""
        return (len(self.heads) + 1,)

    def count(self, batch: ScoredBatch) -> torch.Tensor:
        """Samples that each head has right, and scored ones."""
        logits = [batch.by_head[head] for head in self.heads]
        correct = [topk_correct(each, batch.labels, batch.weights, (1,))[0].sum() for each in logits]
        return torch.stack([*correct, batch.weights.sum()])

    def results(self, total: torch.Tensor) -> dict[str, float]:
        """A percentage for each head."""
        *correct, scored = total.tolist()
        return {f"top1_{head}": _percent(count, scored) for head, count in zip(self.heads, correct, strict=True)}


class Samples(Metric):
    """``samples`` that were scored and ``left_out``: ``unlabelled``, or labelled and ``undecodable``."""

    shape = (3,)

    def count(self, batch: ScoredBatch) -> torch.Tensor:
        """Scored samples, and those without a label and without an image."""
        scored = batch.weights.sum()
        unlabelled = (batch.labels < 0).sum()
        return torch.stack([scored, unlabelled, len(batch.weights) - scored - unlabelled])

    def results(self, total: torch.Tensor) -> dict[str, float]:
        """Whole numbers."""
        scored, unlabelled, undecodable = total.tolist()
        return {
            "samples": scored,
            "left_out": unlabelled + undecodable,
            "unlabelled": unlabelled,
            "undecodable": undecodable,
        }


METRICS: tuple[type[Metric], ...] = (TopK, MeanPerClass, TopOneByHead, Samples)
"""All metrics of an evaluation, in the order of its results."""


def topk_correct(
    logits: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor, topk: tuple[int, ...] = (1, 5)
) -> list[torch.Tensor]:
    """Which samples have their label among the k best classes, for each k.

    Args:
        logits: [B, C], or any scores that are higher for a better class.
        labels: int64 [B].
        weights: [B]; zero leaves a sample out.
        topk: each k; one that is larger than C means C.

    Returns:
        [B] for each k, on the device: a sample's weight if it is correct, else zero.
    """
    best = logits.topk(min(max(topk), logits.shape[1]), dim=1).indices
    hits = (best == labels.unsqueeze(1)) * weights.unsqueeze(1)
    return [hits[:, :k].sum(dim=1) for k in topk]


def class_counts(correct: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor, num_classes: int) -> torch.Tensor:
    """For each class, how many samples were correct and how many were scored.

    Args:
        correct: [B], 1 where the best class is the label, as from ``topk_correct``.
        labels: int64 [B]; any value where the weight is zero.
        weights: [B], 1 or 0; zero leaves a sample out.
        num_classes: C.

    Returns:
        float64 [2, C] on the device.
    """
    counts = torch.zeros(2, num_classes, dtype=torch.float64, device=correct.device)
    return counts.index_add_(1, labels.clamp(min=0), torch.stack([correct, weights]).double())


def mean_per_class(counts: torch.Tensor) -> float:
    """Fraction of correct samples in each class that occurs, averaged over these classes; from ``class_counts``."""
    correct, scored = counts
    occurs = scored > 0
    return (correct[occurs] / scored[occurs]).mean().item() if occurs.any() else 0.0


def _percent(count: float, scored: float) -> float:
    return count * (100 / max(scored, 1))
