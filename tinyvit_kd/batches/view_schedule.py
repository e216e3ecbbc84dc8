"""Which of a store's views an epoch uses, for any number of views and epochs, even if the store grows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from tinyvit_kd.runtime.seeding import hash64, permutation

ViewCounts = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class ViewSchedule:
    """The view numbers of each epoch; they depend on its fields alone.

    Attributes:
        views_per_sample: M, view numbers per epoch, all different.
        counts: (first epoch, V) in ascending order: how many views the store had from that epoch on.
        seed: of a new permutation of the V views in each cycle of V // M epochs; None: the next M, modulo V.
    """

    views_per_sample: int
    counts: ViewCounts
    seed: int | None = None

    def numbers(self, epoch: int) -> tuple[int, ...]:
        """The M view numbers of an epoch."""
        per_epoch = self.views_per_sample
        first, count = [entry for entry in self.counts if entry[0] <= epoch][-1]
        if self.seed is None:
            return tuple(number % count for number in range(epoch * per_epoch, (epoch + 1) * per_epoch))
        cycle, position = divmod(epoch - first, count // per_epoch)
        order = permutation(hash64(self.seed, 0x6379636C65, first, cycle), count)
        return tuple(order[position * per_epoch : (position + 1) * per_epoch].tolist())

    def used(self, epochs: Iterable[int]) -> list[int]:
        """All view numbers that some epochs use, ascending."""
        return sorted({number for epoch in epochs for number in self.numbers(epoch)})

    def grown(self, count: int, epoch: int) -> ViewSchedule:
        """The same schedule up to ``epoch``, and from there on with ``count`` views if that is more."""
        before = tuple(entry for entry in self.counts if entry[0] < epoch)
        if before and count <= before[-1][1]:
            return replace(self, counts=before)
        return replace(self, counts=(*before, (epoch, count)))
