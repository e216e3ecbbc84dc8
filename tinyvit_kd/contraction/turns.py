"""Timings in turns: whatever slows a machine down for a while slows both networks down."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence

Pass = Callable[[], float]  # runs a forward pass, and gives its seconds
MOST = 4  # times the turns that are asked for, on a machine whose turns differ
_SURE = 0.01  # standard error of a median, as a fraction of it, with which no more turns are made


def ratios_in_turns(base: Pass, other: Pass, turns: int) -> list[float]:
    """How many times the base's throughput another network has, in each of the turns.

    Each of its passes is compared with the mean of the base's before and after it, so that a steady drift cancels.

    Args:
        turns: at least; up to ``MOST`` times as many where the median is not sure to a hundredth.
    """

    def each() -> Iterator[float]:
        before = base()
        while True:
            seconds, after = other(), base()
            yield (before + after) / 2 / seconds
            before = after

    return _until_sure(each(), turns)


def rates_in_turns(one: Pass, images: int, turns: int) -> list[float]:
    """Images per second of a pass of so many images, in each of as many turns as above."""

    def each() -> Iterator[float]:
        while True:
            yield images / one()

    return _until_sure(each(), turns)


def spread_of(values: Sequence[float]) -> float:
    """The largest over the smallest, less 1."""
    return max(values) / min(values) - 1


def _until_sure(values: Iterator[float], turns: int) -> list[float]:
    made = [next(values) for _ in range(turns)]
    while len(made) < MOST * turns and _error_of_median(made) > _SURE:
        made.append(next(values))
    return made


def _error_of_median(values: Sequence[float]) -> float:
    """The standard error of the median, as a fraction of it; single values far off do not count in it.

    As of a normal distribution, whose deviation is 1.4826 times the median distance from the median.
    """
    median = statistics.median(values)
    deviation = 1.4826 * statistics.median(abs(each - median) for each in values)
    return float(1.2533 * deviation / len(values) ** 0.5 / median)
