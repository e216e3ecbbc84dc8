"""How many requests went to object stores, from this process and from those that load data for it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes import c_longlong
from multiprocessing import RawArray
from typing import Any, NamedTuple


class Counts(NamedTuple):
    """Of requests to object stores and web servers."""

    requests: int = 0
    refused: int = 0  # of them, those that were refused or cut off, and made again
    read: int = 0  # bytes
    written: int = 0  # bytes

    def __sub__(self, other: Counts) -> Counts:
        return Counts(*(mine - theirs for mine, theirs in zip(self, other, strict=True)))


class Tally:
    """Counts of each of some processes, in memory that they share.

    Args:
        processes: how many are going to be started.
    """

    def __init__(self, processes: int) -> None:
        self._rows: Any = [RawArray(c_longlong, len(Counts._fields)) for _ in range(processes)]

    def count_here(self, process: int) -> None:
        """Let this process, one of those that were started, count in its row."""
        global _own
        _own = self._rows[process]

    def sums(self) -> list[int]:
        """Of all processes."""
        return [sum(row[column] for row in self._rows) for column in range(len(Counts._fields))]


_own: Any = [0] * len(Counts._fields)
_lock = threading.Lock()
_started: list[Tally] = []


def add(**amounts: int) -> None:
    """Add to this process's counts, by their names."""
    with _lock:
        for name, amount in amounts.items():
            _own[Counts._fields.index(name)] += amount


def total() -> Counts:
    """Since this process began: its own requests, and those of its loading processes."""
    with _lock:
        rows = [list(_own), *(tally.sums() for tally in _started)]
    return Counts(*(sum(column) for column in zip(*rows, strict=True)))


@contextmanager
def counting(processes: int) -> Iterator[Tally]:
    """Count what processes do that are started meanwhile; ``total`` keeps it once they have ended."""
    tally = Tally(processes)
    _started.append(tally)
    try:
        yield tally
    finally:
        _started.remove(tally)
        with _lock:
            for column, amount in enumerate(tally.sums()):
                _own[column] += amount
