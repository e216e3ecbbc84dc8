"""What a rank's processes count of their cache, in memory that they share."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import torch

_NAMES = ("cache_hits", "cache_waits", "cache_waited", "cache_direct", "cache_fetched_mib", "cache_evicted_mib")
_UNITS = {"cache_waited": 1e-6, "cache_fetched_mib": 2**-20, "cache_evicted_mib": 2**-20}


class Counted(NamedTuple):
    """What happened to a cache; all are whole numbers.

    Attributes:
        hits: shards that were there when a process opened them.
        waits: shards that a process had to wait for.
        waited: microseconds, over all processes.
        direct: samples that were read where their shard comes from, as the first shards were on their way.
        fetched: bytes.
        evicted: bytes.
    """

    hits: int = 0
    waits: int = 0
    waited: int = 0
    direct: int = 0
    fetched: int = 0
    evicted: int = 0


class CacheCounts:
    """Sums over this process and those that it has started. Two that add at the same moment may lose one addition.

    Args:
        sums: int64 [7], shared memory; new by default. The last is 1 while a run's first shards are on their way.
    """

    def __init__(self, sums: torch.Tensor | None = None) -> None:
        self._sums = _zeros() if sums is None else sums
        self._read = Counted()

    def add(self, **amounts: int) -> None:
        """Add to the sums, by the names of ``Counted``."""
        for name, amount in amounts.items():
            self._sums[Counted._fields.index(name)] += amount

    def total(self) -> Counted:
        """The sums since the beginning."""
        return Counted(*self._sums[:-1].tolist())

    @property
    def begins(self) -> bool:
        """Whether a run's first shards are on their way."""
        return bool(self._sums[-1])

    @begins.setter
    def begins(self, value: bool) -> None:
        self._sums[-1] = int(value)

    def since_last(self) -> dict[str, float]:
        """What was counted since the last call, by the names under which it is logged, in seconds and MiB."""
        now = self.total()
        changes = (after - before for after, before in zip(now, self._read, strict=True))
        self._read = now
        return {name: change * _UNITS.get(name, 1) for name, change in zip(_NAMES, changes, strict=True)}

    def __reduce__(self) -> tuple[Callable[[torch.Tensor], CacheCounts], tuple[torch.Tensor]]:
        return CacheCounts, (self._sums,)


def _zeros() -> torch.Tensor:
    import torch  # which those who only look at shards do without

    sums = torch.zeros(len(Counted._fields) + 1, dtype=torch.int64)
    return sums.share_memory_()  # type: ignore[no-untyped-call,no-any-return]
