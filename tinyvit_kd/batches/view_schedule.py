"""Which of a store's views an epoch uses, for any number of views and of epochs, also where the store grows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from tinyvit_kd.runtime.seeding import hash64, permutation

ViewCounts = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class ViewSchedule:
    """Epochs to view numbers; a pure function of its fields.

    Attributes:
        views_per_sample: M, view numbers an epoch; none of them twice.
        counts: (first epoch, V) in rising order: how many views the store had from which epoch on.
        seed: of a fresh permutation of the V views a cycle of V // M epochs; None: the next M, modulo V.
    """

    views_per_sample: int
    counts: ViewCounts
    seed: int | None = None

    def numbers(self, epoch: int) -> tuple[int, ...]:
        """The M view numbers of an epoch."""
        chosen = self.views_per_sample
        first, count = [entry for entry in self.counts if entry[0] <= epoch][-1]
        if self.seed is None:
            return tuple(number % count for number in range(epoch * chosen, (epoch + 1) * chosen))
        cycle, position = divmod(epoch - first, count // chosen)
        order = permutation(hash64(self.seed, 0x6379636C65, first, cycle), count)
        return tuple(order[position * chosen : (position + 1) * chosen].tolist())

    def used(self, epochs: Iterable[int]) -> list[int]:
        """All view numbers of some epochs, ascending."""
        return sorted({number for epoch in epochs for number in self.numbers(epoch)})

    def grown(self, count: int, epoch: int) -> ViewSchedule:
        """The same up to ``epoch``, and from there on with ``count`` views where these are more."""
        before = tuple(entry for entry in self.counts if entry[0] < epoch)
        if before and count <= before[-1][1]:
            return replace(self, counts=before)
        return replace(self, counts=(*before, (epoch, count)))
