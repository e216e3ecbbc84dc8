"""Figures of stored records, as functions of their arrays: how sure, how spread, how right, how alike.

A record's distribution is the one that a student learns: the residual is spread evenly over the C - K classes that are
not stored, each of which so gets residual / (C - K). All logarithms are natural: entropies and divergences are in nats.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]

_ROWS = 64  # records that are spread over all classes at a time, so that 22k classes take 6 MB


class Answers(NamedTuple):
    """What a teacher said of n views."""

    indices: Int32  # [n, K]
    probs: Float32  # [n, K]
    residual: Float32  # [n]

    def take(self, rows: slice) -> Answers:
        """Those of some views."""
        return Answers(self.indices[rows], self.probs[rows], self.residual[rows])


def tail(residual: Float32, topk: int, num_classes: int) -> Float32:
    """Probability of each class that is not stored: [n]; 0 where all classes are."""
    absent = num_classes - topk
    if not absent:
        return np.zeros_like(residual)
    found: Float32 = np.divide(np.maximum(residual, 0), absent, dtype=np.float32)
    return found


def entropy(probs: Float32, residual: Float32, num_classes: int) -> Float64:
    """Entropy of each record's distribution over all C classes, nats: float64 [n].

    Args:
        probs: [n, K].
        residual: probability of all other classes, [n].
    """
    spread = tail(residual, probs.shape[1], num_classes)
    absent = num_classes - probs.shape[1]
    found: Float64 = -_xlogx(probs).sum(axis=1, dtype=np.float64) - absent * _xlogx(spread.astype(np.float64))
    return found


def kept_mass(probs: Float32) -> Float64:
    """What the 1, 2, … K most probable classes of a record have together, summed over records: float64 [K]."""
    descending = np.sort(probs, axis=1)[:, ::-1]
    found: Float64 = np.cumsum(descending.sum(axis=0, dtype=np.float64))
    return found


def label_ranks(indices: Int32, probs: Float32, labels: Int64) -> Int64:
    """Place of each record's label among its classes by probability, 0 for the best class: int64 [n], K if not stored.

    Of equally probable classes the one with the lower number comes first, as in a stable sort.

    Args:
        indices: classes, ascending, [n, K].
        probs: their probabilities, [n, K].
        labels: [n]; -1, which no class is, gives K.
    """
    topk = indices.shape[1]
    there = indices == labels[:, None]
    column = there.argmax(axis=1)[:, None]
    of_label = np.take_along_axis(probs, column, axis=1)
    before = (probs == of_label) & (np.arange(topk) < column)
    ranks = ((probs > of_label) | before).sum(axis=1)
    found: Int64 = np.where(there.any(axis=1), ranks, topk)
    return found


def label_probability(indices: Int32, probs: Float32, residual: Float32, labels: Int64, num_classes: int) -> Float32:
    """Probability of each record's label: float32 [n]. Outside the K classes it is that of any class there (``tail``).

    Args:
        labels: [n]; for -1 the result means nothing.
    """
    there = indices == labels[:, None]
    found: Float32 = np.where(
        there.any(axis=1), (probs * there).sum(axis=1), tail(residual, probs.shape[1], num_classes)
    )
    return found


def divergence(first: Answers, second: Answers, num_classes: int) -> Float64:
    """Jensen-Shannon divergence of the distributions of n pairs of views, nats: float64 [n], 0 to ln 2 = 0.693.

    It is the mean of both distributions' Kullback-Leibler divergences from their mean. It is finite also where theirs
    from each other is not, because one gives nothing to a class that the other has.
    """
    count = len(first.residual)
    found = np.empty(count, np.float64)
    absent = num_classes - first.indices.shape[1]
    spread = np.full((min(_ROWS, count), num_classes), -1, np.float32)
    for start in range(0, count, _ROWS):
        rows = slice(start, min(start + _ROWS, count))
        found[rows] = _divergence(first.take(rows), second.take(rows), spread[: rows.stop - start], absent)
    return found


def _divergence(p: Answers, q: Answers, spread: Float32, absent: int) -> Float64:
    """As ``divergence``, of a few views.

    Args:
        spread: [n, C] of -1, and so again afterwards.
        absent: C - K.
    """
    topk = p.indices.shape[1]
    p_tail, q_tail = (tail(each.residual, topk, topk + absent)[:, None] for each in (p, q))
    np.put_along_axis(spread, p.indices, p.probs, axis=1)
    of_p = np.take_along_axis(spread, q.indices, axis=1)  # p of the classes that q stores, -1 where p does not
    np.put_along_axis(spread, p.indices, np.float32(-1), axis=1)
    both = of_p >= 0
    in_q = _terms(np.where(both, of_p, p_tail), q.probs).sum(axis=1)
    in_p = _terms(p.probs, q_tail).sum(axis=1) - (_terms(np.maximum(of_p, 0), q_tail) * both).sum(axis=1)
    in_neither = (absent - topk + both.sum(axis=1)) * _terms(p_tail, q_tail)[:, 0]
    found: Float64 = np.clip(in_q + in_p + in_neither, 0, np.log(2))
    return found


def _terms(p: Float32, q: Float32) -> Float64:
    """What a class with the probabilities p and q adds to the divergence."""
    first, second = p.astype(np.float64), q.astype(np.float64)
    found: Float64 = (_xlogx(first) + _xlogx(second)) / 2 - _xlogx((first + second) / 2)
    return found


def _xlogx(x: npt.NDArray[np.floating]) -> Float64:
    found: Float64 = x * np.log(x, out=np.zeros_like(x), where=x > 0)
    return found
