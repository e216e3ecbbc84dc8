"""Fewer points of a long curve, without hiding what lies between them.

Leaving out points would show a noisy curve as a smooth one, or the other way round. Here the points that are drawn are
means of equally many neighbours, and the smallest and the largest of them are kept to be drawn as a band.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

MOST_POINTS = 600  # of a curve; a chart is about as many pixels wide

Values = Sequence[float | None]


@dataclass(frozen=True)
class Thinned:
    """A curve of not too many points.

    Attributes:
        middle: means of the finite values of each bin; None for a bin without any, which is a gap in the curve.
        low: the smallest value of each bin; None where every bin holds one value.
        high: the largest, likewise.
        not_finite: values that are NaN or infinite, and so are in no mean.
    """

    middle: list[float | None]
    low: list[float | None] | None
    high: list[float | None] | None
    not_finite: int


def points_per_bin(count: int, most: int = MOST_POINTS) -> int:
    """How many neighbours make one point, so that there are at most ``most`` points."""
    return max(1, math.ceil(count / most))


def thinned(values: Values, per_bin: int) -> Thinned:
    """A curve's values, ``per_bin`` neighbours as one. A None is a value that is not there."""
    bins = [values[begin : begin + per_bin] for begin in range(0, len(values), per_bin)]
    finite = [[each for each in values_ if each is not None and math.isfinite(each)] for values_ in bins]
    not_finite = sum(each is not None and not math.isfinite(each) for each in values)
    middle = [_mean(each) if each else None for each in finite]
    if per_bin == 1:
        return Thinned(middle, None, None, not_finite)
    low = [min(each) if each else None for each in finite]
    high = [max(each) if each else None for each in finite]
    return Thinned(middle, low, high, not_finite)


def positions(values: Sequence[float], per_bin: int) -> list[float]:
    """Where the points of ``thinned`` stand: the means of their bins. ``values`` are finite."""
    return [_mean(values[begin : begin + per_bin]) for begin in range(0, len(values), per_bin)]


def _mean(values: Sequence[float]) -> float:
    """The mean, which lies between the smallest and the largest value in spite of rounding, and never overflows."""
    mean = math.fsum(each / len(values) for each in values)
    return min(max(mean, min(values)), max(values))
