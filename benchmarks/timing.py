"""Seconds of work on a device, which runs behind the host that launches it."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch


def seconds(work: Callable[[], object], device: torch.device) -> float:
    """Seconds from an idle device to an idle device."""
    _synchronize(device)
    begin = time.perf_counter()
    work()
    _synchronize(device)
    return time.perf_counter() - begin


def interleaved(columns: Mapping[str, Callable[[], object]], rounds: int, device: torch.device) -> dict[str, float]:
    """Seconds of each column: the median of the rounds after one to warm up."""
    timed = {name: partial(seconds, work, device) for name, work in columns.items()}
    return {name: statistics.median(each) for name, each in in_turns(timed, rounds).items()}


def in_turns(columns: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """What each column measures of itself in each round after one to warm up.

    Every round runs each column once, so that what disturbs the machine for a while disturbs all of them.
    """
    found: dict[str, list[float]] = {name: [] for name in columns}
    for _ in range(rounds + 1):
        for name, measure in columns.items():
            found[name].append(measure())
    return {name: each[1:] for name, each in found.items()}


def several(step: Callable[[], object], steps: int) -> Callable[[], None]:
    """So many steps as one."""

    def work() -> None:
        for _ in range(steps):
            step()

    return work


def median_ratio(above: Sequence[float], below: Sequence[float]) -> float:
    """The median of the rounds' ratios."""
    return statistics.median(one / other for one, other in zip(above, below, strict=True))


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
