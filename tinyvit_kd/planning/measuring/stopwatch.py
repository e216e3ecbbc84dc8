"""Times work that repeats: the median of a few rounds, as many as fit into a few seconds."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

_SECONDS = 3.0  # for the rounds of one part
_FEWEST, _MOST = 3, 30
_ROUND = 1.0  # seconds that a round of a network should take at most


@dataclass(frozen=True)
class Rate:
    """How fast a part is.

    Attributes:
        per_second: median over the rounds.
        batch: how many were done in each round.
        rounds: how many there were.
    """

    per_second: float
    batch: int
    rounds: int


def rate_of(work: Callable[[], object], count: int, device: torch.device | None = None) -> Rate:
    """The rate of work that does ``count`` at a time; it has run once before.

    Args:
        device: where it runs behind the host that launches it; None: it does not.
    """
    times: list[float] = []
    begin = time.perf_counter()
    while len(times) < _FEWEST or (time.perf_counter() - begin < _SECONDS and len(times) < _MOST):
        times.append(seconds(work, device))
    return Rate(count / statistics.median(times), count, len(times))


def seconds(work: Callable[[], object], device: torch.device | None = None) -> float:
    """Seconds from an idle device to an idle device."""
    _synchronize(device)
    begin = time.perf_counter()
    work()
    _synchronize(device)
    return time.perf_counter() - begin


def fitting_batch(work_on: Callable[[int], Callable[[], object]], largest: int, device: torch.device) -> int:
    """The batch of a network: the recipe's or, where it would take too long, the largest power of two that does not.

    Args:
        work_on: makes the work on a batch of so many views.
        largest: the recipe's batch.
    """
    if device.type == "cuda":
        return largest
    batch = 2
    while batch < largest and seconds(work_on(batch), device) < _ROUND / 2:
        batch *= 2
    return min(batch, largest)


def _synchronize(device: torch.device | None) -> None:
    if device is not None and device.type == "cuda":
        torch.cuda.synchronize(device)
