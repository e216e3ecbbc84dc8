"""How sorted labels are along the shards: batches are mixed from neighbours, so sorted shards make poor batches."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from math import sqrt

import numpy as np
import numpy.typing as npt

_EXCESS, _DEVIATIONS = 0.1, 5.0  # above both, neighbours are alike by more than chance, and by enough to matter


@dataclass
class LabelOrder:
    """How often neighbours in a shard share their label, beside how often they would in random order.

    In random order, two samples share their label with probability Σ n_c (n_c - 1) / (N (N - 1)), for n_c samples of
    class c among the N of the whole set. Both classes in blocks along a shard, and shards of few classes each, lie
    above that (the join count of spatial statistics, with neighbours along a line).
    """

    neighbours: int = 0  # pairs of neighbouring samples in a shard, both labelled
    alike: int = 0  # those with the same label
    counts: Counter[int] = field(default_factory=Counter)  # samples of each label

    @classmethod
    def of(cls, labels: npt.NDArray[np.int64]) -> LabelOrder:
        """The order of one shard's labels: int64 [n], -1 where there is none."""
        first, second = labels[:-1], labels[1:]
        both = (first >= 0) & (second >= 0)
        values, counts = np.unique(labels[labels >= 0], return_counts=True)
        pairs = zip(values.tolist(), counts.tolist(), strict=True)
        return cls(int(both.sum()), int((both & (first == second)).sum()), Counter(dict(pairs)))

    def add(self, other: LabelOrder) -> None:
        """Add another shard's."""
        self.neighbours += other.neighbours
        self.alike += other.alike
        self.counts.update(other.counts)

    @property
    def share(self) -> float:
        """Fraction of neighbours that share their label."""
        return self.alike / max(1, self.neighbours)

    @property
    def share_in_random_order(self) -> float:
        """What that fraction would be, on average, in random order."""
        total = self.counts.total()
        return sum(count * (count - 1) for count in self.counts.values()) / max(1, total * (total - 1))

    @property
    def is_sorted(self) -> bool:
        """Whether neighbours share their labels so often that batches will lack classes."""
        expected = self.share_in_random_order
        if self.neighbours == 0 or expected >= 1:
            return False
        deviation = sqrt(expected * (1 - expected) / self.neighbours)
        excess = self.share - expected
        return excess > _EXCESS * (1 - expected) and excess > _DEVIATIONS * deviation
