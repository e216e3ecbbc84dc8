"""Successive halving (arXiv 1502.07943): the better candidates of each part of the training go on to the next one."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Halving:
    """How a round's budget is spent.

    Attributes:
        ends: optimiser steps of a candidate by the end of each part, ascending.
        reduction: of so many candidates one goes on.
        at_least: so many go on, if there are as many.
    """

    ends: tuple[int, ...]
    reduction: float
    at_least: int

    def stay(self, count: int) -> int:
        """How many of ``count`` candidates go on to the next part."""
        return min(count, max(self.at_least, math.ceil(count / self.reduction)))

    def parts(self, count: int) -> list[tuple[int, int]]:
        """For each part, how many of ``count`` candidates are trained in it, and for how many steps each."""
        found = []
        begin = 0
        for end in self.ends:
            found.append((count, end - begin))
            count, begin = self.stay(count), end
        return found

    def steps(self, count: int) -> int:
        """Optimiser steps that a round of ``count`` candidates takes, without further seeds."""
        return sum(candidates * steps for candidates, steps in self.parts(count))


def part_ends(steps: int, parts: int, reduction: float) -> tuple[int, ...]:
    """Optimiser steps by the end of each part: the last ends at ``steps``, each earlier one ``reduction`` times sooner.

    Parts that would have no step of their own are left out.
    """
    ends: set[int] = set()
    for left in range(parts):
        ends.add(max(1, round(steps / reduction**left)))
        if 1 in ends:  # an earlier part has no step; powers of the reduction would only overflow
            break
    return tuple(sorted(ends))
