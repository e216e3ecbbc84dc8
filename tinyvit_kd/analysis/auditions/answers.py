"""What a teacher answers to some views, view by view, and the figures of that."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from tinyvit_kd.analysis.auditions.first_views import Bool, FirstViews, Int64
from tinyvit_kd.errors import CheckpointError
from tinyvit_kd.models.teacher import Teacher
from tinyvit_kd.runtime.signals import raise_if_stopped
from tinyvit_kd.store.records import RecordStatus

KEPT = (1, 5, 10, 20, 50, 100)  # K for which it is told what a store would keep
Float32 = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Answers:
    """A teacher's answers, in the order of the views; those to holes mean nothing.

    Attributes:
        valid: whether a view is no hole: bool [n].
        best: the likeliest class: int64 [n].
        first, second: probabilities of the two likeliest classes: float32 [n].
        entropy: of all classes' probabilities, nats: float32 [n].
        kept: by K, the probability of the K likeliest classes together: float32 [n].
    """

    valid: Bool
    best: Int64
    first: Float32
    second: Float32
    entropy: Float32
    kept: dict[int, Float32]


@dataclass(frozen=True)
class Mean:
    """A mean over views that are drawn independently.

    Attributes:
        error: its standard error; NaN of fewer than two views.
        count: of the views.
    """

    value: float
    error: float
    count: int

    @classmethod
    def of(cls, values: npt.NDArray[np.generic]) -> Mean | None:
        """The mean of values; None if there are none."""
        if not len(values):
            return None
        numbers = values.astype(np.float64)
        error = float(numbers.std(ddof=1)) / math.sqrt(len(numbers)) if len(numbers) > 1 else math.nan
        return cls(float(numbers.mean()), error, len(numbers))


@dataclass(frozen=True)
class Figures:
    """The figures of a teacher's answers.

    Attributes:
        right: percent of the labelled views whose label is the best class; None without labels.
        best: mean probability of the best class.
        entropy: mean over views, nats.
        ratio: median of the best class's probability over that of the second.
        kept: by K, mean probability of the K likeliest classes together.
    """

    right: Mean | None
    best: float
    entropy: float
    ratio: float
    kept: dict[int, float]

    @classmethod
    def of(cls, answers: Answers, labels: Int64) -> Figures:
        """The figures of all views that are no holes.

        Args:
            labels: int64 [n], -1 where they are not known.
        """
        rows = answers.valid
        known = rows & (labels >= 0)
        with np.errstate(divide="ignore"):
            ratios = answers.first[rows].astype(np.float64) / answers.second[rows]
        return cls(
            right=Mean.of(100.0 * (answers.best == labels)[known]),
            best=_mean(answers.first[rows]),
            entropy=_mean(answers.entropy[rows]),
            ratio=float(np.median(ratios)),
            kept={k: _mean(values[rows]) for k, values in answers.kept.items()},
        )


def _mean(values: Float32) -> float:
    return float(values.mean(dtype=np.float64))


def ask(teacher: Teacher, views: FirstViews, topk: int) -> Answers:
    """A teacher's answers to some views.

    Args:
        topk: the recipe's K, which is told besides ``KEPT``.

    Raises:
        CheckpointError: its probabilities are NaN, or there is no image that can be decoded.
        ShardError, TransformError, WorkerError, StalledError: see ``FirstViews.batches``.
    """
    sizes = sorted({k for k in (*KEPT, topk) if k <= teacher.facts.num_classes})
    parts: list[list[npt.NDArray[np.generic]]] = []
    with views.batches() as batches:
        for batch in batches:
            raise_if_stopped()
            valid = batch.status == RecordStatus.VALID
            teacher.compiler.begin_step()
            with teacher.compiler.without_gradients():
                figures = _figures(teacher(batch.views)[: len(valid)], sizes)
            parts.append([valid, *(each.cpu().numpy() for each in figures)])
    valid, best, top, entropy, *kept = (np.concatenate(each) for each in zip(*parts, strict=True))
    if not valid.any():
        raise CheckpointError("none of the images can be decoded", found=f"{len(valid):,} holes")
    if broken := int((~np.isfinite(entropy[valid])).sum()):
        raise CheckpointError(
            "the teacher's probabilities are NaN",
            found=f"in {broken:,} of {int(valid.sum()):,} views, in {teacher.precision}",
            fix="set runtime.precision to bfloat16 or float32; if that does not help, its weights are damaged",
        )
    return Answers(valid, best, top[:, 0], top[:, 1], entropy, dict(zip(sizes, kept, strict=True)))


def _figures(logits: torch.Tensor, sizes: Sequence[int]) -> list[torch.Tensor]:
    """The best class, the two largest probabilities, the entropy, and what is kept by each K."""
    probs = logits.float().softmax(dim=1)
    values, indices = probs.topk(max(2, *sizes), dim=1)
    kept = values.double().cumsum(dim=1)
    entropy = torch.special.entr(probs).sum(dim=1)
    return [indices[:, 0], values[:, :2], entropy, *(kept[:, k - 1].float() for k in sizes)]
