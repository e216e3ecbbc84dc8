"""Timings in turns: whatever slows a machine down for a while slows both networks down."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence

Pass = Callable[[], float]  # runs a forward pass, and gives its seconds


def ratios_in_turns(base: Pass, other: Pass, turns: int) -> list[float]:
    """How many times the base's throughput another network has, in each of the turns.

    Each of its passes is compared with the mean of the base's before and after it, so that a steady drift cancels.
    """
    ratios, before = [], base()
    for _ in range(turns):
        seconds, after = other(), base()
        ratios.append((before + after) / 2 / seconds)
        before = after
    return ratios


def spread_of(values: Sequence[float]) -> float:
    """The largest over the smallest, less 1."""
    return max(values) / min(values) - 1


def median_rate(one: Pass, images: int, turns: int) -> tuple[float, float]:
    """Images per second of a pass of so many images, the median of all turns, and the spread of the turns."""
    rates = [images / one() for _ in range(turns)]
    return statistics.median(rates), spread_of(rates)
