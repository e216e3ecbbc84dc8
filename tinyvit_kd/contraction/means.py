"""A candidate's scores as it ended, over its seeds."""

from __future__ import annotations

import statistics
from dataclasses import dataclass

from tinyvit_kd.contraction.front import last_scores
from tinyvit_kd.contraction.records import Result


@dataclass(frozen=True)
class Mean:
    """A score: its mean over seeds, and a standard error."""

    value: float
    error: float


def mean_of(result: Result, name: str) -> Mean | None:
    """A score by name, with its error over the held-out samples; None where a candidate has none.

    The error by which candidates are ranked has a part of the seeds, too (see ``front.standings``).
    """
    scores = [score for score in last_scores(result) if getattr(score, name) is not None]
    if not scores:
        return None
    error = statistics.fmean(score.errors.get(name, 0.0) for score in scores)
    return Mean(statistics.fmean(getattr(score, name) for score in scores), error)
